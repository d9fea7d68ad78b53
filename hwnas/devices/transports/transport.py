"""Transports: run commands on a device and move files, whatever the way to it.

A client may exit 0 when the device is lost in mid-command (`adb shell` does), and its own time
limit ends nothing on the device. So every command runs under ``timeout`` on the device and ends
with a sentinel line that carries its status; a missing sentinel means that the device is lost.
"""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Protocol, Self

import msgspec

from hwnas.devices.profile import DeviceProfile
from hwnas.devices.transports.client import Client
from hwnas.errors import DeviceError, DeviceLost, UsageError
from hwnas.files import write_atomic

COMMAND_S = 60.0
"""Time limit of a command on the device, where the caller gives none."""
COPY_S = 600.0
GRACE_S = 20.0
"""The client waits for so long after the device's own limit before it gives up."""
MOST_BYTES = 64 * 2**20
"""Longest output of a command; a pulled file may be larger."""

TIMED_OUT = (124, 137)
"""Statuses of ``timeout``: ended, or killed since it did not end."""


class Answer(msgspec.Struct, frozen=True):
    """What a command on the device did."""

    status: int
    out: bytes
    err: bytes

    @property
    def last_words(self) -> str:
        """The last line of stderr, else of stdout, printable and short."""
        for text in (self.err, self.out):
            if lines := text.decode(errors="replace").strip().splitlines():
                return "".join(c if c.isprintable() else "?" for c in lines[-1])[:200]
        return "nothing"


class Facts(msgspec.Struct, frozen=True):
    """What a device says of itself."""

    model: str
    abi: str
    """As Android names it, e.g. ``arm64-v8a``, ``x86_64``."""
    machine: str
    system: str
    cores: int
    ram_bytes: int
    cpuinfo: str

    @property
    def name(self) -> str:
        """The phone's model, else the processor's."""
        for key in ("model name", "Model", "Hardware", "CPU part"):
            if found := self.cpu(key):
                return f"{self.model}, {found}" if self.model else found
        return self.model or self.machine

    def cpu(self, key: str) -> str:
        """Return the first value of a field of ``/proc/cpuinfo``; empty where there is none."""
        fields = (line.partition(":") for line in self.cpuinfo.splitlines())
        return next((value.strip() for name, _, value in fields if name.strip() == key), "")


class Link(Protocol):
    """How one kind of client reaches a device."""

    def connect(self) -> None:
        """Raise `DeviceError`, with what to do, for a device that is not there."""
        ...

    def argv(self, script: str) -> list[str]:
        """Return the client's command that runs a POSIX shell script on the device."""
        ...

    def typed(self, script: str) -> list[str]:
        """Return the same as a person would type it, without hwnas's own connection."""
        ...

    def why(self, said: str) -> str:
        """Return what the client's last words mean, in the user's terms; empty: nothing known."""
        ...

    def close(self) -> None: ...


class Transport:
    """Runs commands on one device and copies files; a context manager.

    Connects when it is first used.
    """

    def __init__(self, name: str, link: Link, folder: str) -> None:
        self.name, self.link, self.folder = name, link, folder
        self._connected = False
        self._there: set[str] = set()

    def run(
        self,
        command: Sequence[str],
        *,
        stdin: bytes = b"",
        limit_s: float = COMMAND_S,
        most_bytes: int = MOST_BYTES,
    ) -> Answer:
        """Run words (never a shell string); a status that is not 0 is the caller's to judge.

        Raises `DeviceLost` where the device goes away meanwhile, `DeviceError` where it is not
        there, or the command outlives ``limit_s`` or says more than ``most_bytes``.
        """
        return self.shell(shlex.join(command), stdin=stdin, limit_s=limit_s, most_bytes=most_bytes)

    def shell(
        self,
        script: str,
        *,
        stdin: bytes = b"",
        limit_s: float = COMMAND_S,
        most_bytes: int = MOST_BYTES,
    ) -> Answer:
        """Run a script whose words from outside are quoted with `shlex.quote` already."""
        lines: list[bytes] = []
        talk = self.talk(script, stdin=stdin, limit_s=limit_s, most_bytes=most_bytes)
        while True:
            try:
                lines.append(next(talk))
            except StopIteration as end:
                status, err = end.value
                return Answer(status, b"".join(lines), err)

    def talk(
        self,
        script: str,
        *,
        stdin: bytes = b"",
        limit_s: float = COMMAND_S,
        most_bytes: int = MOST_BYTES,
        silence_s: float | None = None,
    ) -> Iterator[bytes]:
        """Yield stdout line by line while a script runs; returns (status, end of stderr)."""
        self._connect()
        mark = f"HWNAS-{secrets.token_hex(6)}-STATUS="
        # adbd drops the rest of stdout where a program has ended before all its stdin was written
        rest = "cat >/dev/null; " if stdin else ""
        limited = (
            f"timeout -k 2 {limit_s:.0f} sh -c {shlex.quote(script)}; status=$?; {rest}"
            f"echo {mark} >&2; printf '\\n%s%d\\n' {mark} $status"
        )
        shown = f"`{script if len(script) <= 120 else script[:117] + '...'}`"
        held = b""  # the newline before the sentinel is not the command's
        with Client(
            self.link.argv(limited), stdin, limit_s + GRACE_S, silence_s, most_bytes
        ) as client:
            for line in client.lines(self.name, shown):
                if line.startswith(mark.encode()):
                    status = int(line[len(mark) :].strip() or b"-1")
                    if held[:-1]:
                        yield held[:-1]
                    if status in TIMED_OUT:
                        raise DeviceError(
                            f"{self.name}: {shown} was ended after its limit of {limit_s:.0f} s"
                        )
                    return status, client.err_until(mark.encode())
                if held:
                    yield held
                held = line
            raise self._lost(shown, client)

    def push(self, local: Path, name: str = "") -> str:
        """Copy a file to the device unless its content is there; returns its path there.

        The path is made of the content's SHA-256 and ``name`` (letters, digits, ``._-``), so that
        no name from outside reaches the device.
        """
        try:
            data = local.read_bytes()
        except OSError as error:
            raise UsageError(f"{local}: {error.strerror or error}") from None
        digest = sha256(data).hexdigest()
        name = name or f"file{local.suffix if local.suffix[1:].isalnum() else ''}"
        if not name.replace(".", "").replace("_", "").replace("-", "").isalnum():
            raise UsageError(f"{name!r}: expected letters, digits, dots, dashes")
        path = f"{self.folder}/{digest[:24]}/{name}"
        if path in self._there:
            return path
        quoted, part = shlex.quote(path), shlex.quote(f"{path}.part")
        if self.shell(f"sha256sum < {quoted}").out[:64] != digest.encode():
            said = self.shell(
                f"mkdir -p {shlex.quote(path.rpartition('/')[0])} && "
                f"{{ cat > {part} || {{ cat > /dev/null; false; }}; }} && "
                f"sha256sum < {part} && chmod 755 {part} && mv {part} {quoted}",
                stdin=data,
                limit_s=COPY_S,
            )
            if said.status or said.out[:64] != digest.encode():
                self.shell(f"rm -f {part}")
                raise DeviceError(
                    f"{self.name}: {local} ({len(data):,} bytes) could not be written to "
                    f"{self.folder}: {said.last_words}"
                )
        self._there.add(path)
        return path

    def pull(self, remote: str, local: Path, most_bytes: int = 2**30) -> None:
        """Copy a file from the device; ``local`` is replaced as a whole or not at all."""
        said = self.run(["cat", remote], limit_s=COPY_S, most_bytes=most_bytes)
        if said.status:
            raise DeviceError(f"{self.name}: {remote} could not be read: {said.last_words}")
        write_atomic(local, said.out)

    def probe(self) -> Facts:
        """Ask the device what it is."""
        said = self.shell(
            "m=$(getprop ro.product.model 2>/dev/null); a=$(getprop ro.product.cpu.abi 2>/dev/null)"
            '; printf "%s\\n" "$m" "$a" "$(uname -m)" "$(uname -sr)" "$(nproc --all)"; '
            "grep MemTotal /proc/meminfo || echo; cat /proc/cpuinfo"
        )
        lines = said.out[: 2**20].decode(errors="replace").split("\n")
        if len(lines) < 6:
            raise DeviceError(f"{self.name}: does not say what it is: {said.last_words}")
        model, abi, machine, system, cores, memory = (line.strip()[:200] for line in lines[:6])
        words = memory.split()
        return Facts(
            model=model,
            abi=abi or {"aarch64": "arm64-v8a", "armv7l": "armeabi-v7a"}.get(machine, machine),
            machine=machine,
            system=system,
            cores=int(cores) if cores.isdigit() else 1,
            ram_bytes=int(words[1]) * 1024 if len(words) > 1 and words[1].isdigit() else 0,
            cpuinfo="\n".join(lines[6:]),
        )

    def alive(self) -> bool:
        """Whether the device answers now."""
        try:
            return self.run(["true"], limit_s=5).status == 0
        except DeviceError:
            self._connected = False
            return False

    def close(self) -> None:
        self.link.close()
        self._connected = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _connect(self) -> None:
        if not self._connected:
            self.link.connect()
            self._connected = True

    def _lost(self, shown: str, client: Client) -> DeviceError:
        """Return the error of a command that ended without its sentinel."""
        self._connected = False
        self._there.clear()
        last = Answer(0, b"", client.err).last_words
        if why := self.link.why(last):
            return DeviceError(f"{self.name}: {why}")
        return DeviceLost(f"{self.name}: lost while it ran {shown}; the client said: {last}")


def open_transport(profile: DeviceProfile) -> Transport:
    """Return the way to a profile's device; nothing is connected before it is needed."""
    from hwnas.devices.transports.links import AdbLink, LocalLink, SshLink

    remote = profile.remote
    if profile.transport == "adb" and remote is not None:
        folder = remote.folder or "/data/local/tmp/hwnas"
        return Transport(profile.name, AdbLink(profile.name, remote.serial), folder)
    if profile.transport == "ssh" and remote is not None:
        return Transport(profile.name, SshLink(profile.name, remote), remote.folder or ".hwnas")
    if profile.transport == "local":
        from hwnas.files import home

        return Transport(profile.name, LocalLink(), str(home() / "device"))
    raise DeviceError(f"{profile.name}: there is no way to it to run commands by")
