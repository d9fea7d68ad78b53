"""Transports run commands on a device and copy files, over any kind of connection.

A client may exit with status 0 when the device is lost in mid-command (`adb shell` does), and its
own time limit ends nothing on the device. So every command runs under ``timeout`` on the device and
ends with a sentinel line that carries its status; a missing sentinel means that the device is lost.
"""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Generator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Protocol, Self

import msgspec

from hwnas.devices.profile import DeviceProfile
from hwnas.devices.transports.client import Client
from hwnas.errors import DeviceError, DeviceLost, UsageError, last_line
from hwnas.files import home, write_atomic

COMMAND_TIMEOUT_S = 60.0
"""Default time limit of a command on the device."""
COPY_TIMEOUT_S = 600.0
"""Time limit for copying one file."""
GRACE_S = 20.0
"""Time the client waits beyond the limit on the device before it gives up."""
MAX_OUTPUT_BYTES = 64 * 2**20
"""Default limit for the output of a command; a pulled file may be larger."""

TIMED_OUT = (124, 137)
"""Exit statuses of ``timeout``: the command was terminated, or killed."""


class CommandResult(msgspec.Struct, frozen=True):
    """Exit status and output of a command on the device."""

    status: int
    out: bytes
    err: bytes

    @property
    def last_line(self) -> str:
        """The last line of stderr, or else of stdout, printable and shortened."""
        line = last_line(self.err, "") or last_line(self.out)
        return "".join(c if c.isprintable() else "?" for c in line)[:200]


class DeviceFacts(msgspec.Struct, frozen=True):
    """Hardware and system of a device, as it reports them."""

    model: str
    abi: str
    """Android's name of the instruction set, e.g. ``arm64-v8a``, ``x86_64``."""
    machine: str
    system: str
    cores: int
    ram_bytes: int
    cpuinfo: str

    @property
    def name(self) -> str:
        """The model of the phone, or else of the processor."""
        for key in ("model name", "Model", "Hardware", "CPU part"):
            if processor := self.cpu(key):
                return f"{self.model}, {processor}" if self.model else processor
        return self.model or self.machine

    def cpu(self, key: str) -> str:
        """Return the first value of a field of ``/proc/cpuinfo``, or an empty string."""
        fields = (line.partition(":") for line in self.cpuinfo.splitlines())
        return next((value.strip() for name, _, value in fields if name.strip() == key), "")


Stream = Generator[bytes, None, tuple[int, bytes]]
"""Yields lines of stdout; returns the exit status and the end of stderr."""


class Connection(Protocol):
    """A client program that reaches a device, such as ``adb``."""

    def connect(self) -> None:
        """Raise `DeviceError`, with advice, for a device that does not answer."""
        ...

    def argv(self, script: str) -> list[str]:
        """Return the client's command that runs a POSIX shell script on the device."""
        ...

    def user_command(self, script: str) -> list[str]:
        """Return the same command for a user to type, without hwnas's own connection."""
        ...

    def explain(self, output: str) -> str:
        """Return what the client's last line means in the user's terms; empty if unknown."""
        ...

    def close(self) -> None: ...


class Transport:
    """Runs commands on one device and copies files; a context manager.

    Connects when it is first used.
    """

    def __init__(self, name: str, connection: Connection, folder: str) -> None:
        self.name, self.connection, self.folder = name, connection, folder
        self._connected = False
        self._pushed: set[str] = set()

    def run(
        self,
        command: Sequence[str],
        *,
        stdin: bytes = b"",
        limit_s: float = COMMAND_TIMEOUT_S,
        max_bytes: int = MAX_OUTPUT_BYTES,
    ) -> CommandResult:
        """Run a command given as words, never as a shell string; any exit status is returned.

        Raises `DeviceLost` if the connection breaks meanwhile, `DeviceError` if the device does not
        answer or the command exceeds ``limit_s`` or ``max_bytes`` of output.
        """
        return self.shell(shlex.join(command), stdin=stdin, limit_s=limit_s, max_bytes=max_bytes)

    def shell(
        self,
        script: str,
        *,
        stdin: bytes = b"",
        limit_s: float = COMMAND_TIMEOUT_S,
        max_bytes: int = MAX_OUTPUT_BYTES,
    ) -> CommandResult:
        """Run a shell script; the caller has quoted all foreign words with `shlex.quote`."""
        lines: list[bytes] = []
        talk = self.stream(script, stdin=stdin, limit_s=limit_s, max_bytes=max_bytes)
        while True:
            try:
                lines.append(next(talk))
            except StopIteration as end:
                status, err = end.value
                return CommandResult(status, b"".join(lines), err)

    def stream(
        self,
        script: str,
        *,
        stdin: bytes = b"",
        limit_s: float = COMMAND_TIMEOUT_S,
        max_bytes: int = MAX_OUTPUT_BYTES,
        silence_s: float | None = None,
    ) -> Stream:
        """Yield stdout line by line while a script runs."""
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
            self.connection.argv(limited), stdin, limit_s + GRACE_S, silence_s, max_bytes
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
        """Copy a file to the device unless it has it already; returns its path there.

        The path consists of the content's SHA-256 and ``name`` (letters, digits, ``._-``), so no
        user's file name reaches the device's shell.
        """
        try:
            data = local.read_bytes()
        except OSError as error:
            raise UsageError(f"{local}: {error.strerror or error}") from None
        digest = sha256(data).hexdigest()
        name = name or f"file{local.suffix if local.suffix[1:].isalnum() else ''}"
        if not name.replace(".", "").replace("_", "").replace("-", "").isalnum():
            raise UsageError(f"{name!r}: expected letters, digits, dots, dashes, underscores")
        path = f"{self.folder}/{digest[:24]}/{name}"
        if path in self._pushed:
            return path
        quoted, part = shlex.quote(path), shlex.quote(f"{path}.part")
        if self.shell(f"sha256sum < {quoted}").out[:64] != digest.encode():
            copy = self.shell(
                f"mkdir -p {shlex.quote(path.rpartition('/')[0])} && "
                f"{{ cat > {part} || {{ cat > /dev/null; false; }}; }} && "
                f"sha256sum < {part} && chmod 755 {part} && mv {part} {quoted}",
                stdin=data,
                limit_s=COPY_TIMEOUT_S,
            )
            if copy.status or copy.out[:64] != digest.encode():
                self.shell(f"rm -f {part}")
                raise DeviceError(
                    f"{self.name}: {local} ({len(data):,} bytes) could not be written to "
                    f"{self.folder}: {copy.last_line}"
                )
        self._pushed.add(path)
        return path

    def gather(self, folder: str, pushed: Mapping[str, str]) -> str:
        """Copy pushed files, by their names there, into a folder of the device; returns it."""
        commands = [f"mkdir -p {shlex.quote(folder)}"]
        for name, path in pushed.items():
            commands.append(f"cp {shlex.quote(path)} {shlex.quote(f'{folder}/{name}')}")
        result = self.shell(" && ".join(commands), limit_s=COPY_TIMEOUT_S)
        if result.status:
            raise DeviceError(f"{self.name}: {folder} cannot be written: {result.last_line}")
        return folder

    def pull(self, remote: str, local: Path, max_bytes: int = 2**30) -> None:
        """Copy a file from the device; ``local`` is replaced completely or not at all."""
        copy = self.run(["cat", remote], limit_s=COPY_TIMEOUT_S, max_bytes=max_bytes)
        if copy.status:
            raise DeviceError(f"{self.name}: {remote} could not be read: {copy.last_line}")
        write_atomic(local, copy.out)

    def probe(self) -> DeviceFacts:
        """Read hardware and system of the device."""
        probe = self.shell(
            "m=$(getprop ro.product.model 2>/dev/null); a=$(getprop ro.product.cpu.abi 2>/dev/null)"
            '; printf "%s\\n" "$m" "$a" "$(uname -m)" "$(uname -sr)" "$(nproc --all)"; '
            "grep MemTotal /proc/meminfo || echo; cat /proc/cpuinfo"
        )
        lines = probe.out[: 2**20].decode(errors="replace").split("\n")
        if len(lines) < 6:
            raise DeviceError(
                f"{self.name}: the probe gave no facts about the device: {probe.last_line}"
            )
        model, abi, machine, system, cores, memory = (line.strip()[:200] for line in lines[:6])
        words = memory.split()
        return DeviceFacts(
            model=model,
            abi=abi or {"aarch64": "arm64-v8a", "armv7l": "armeabi-v7a"}.get(machine, machine),
            machine=machine,
            system=system,
            cores=int(cores) if cores.isdigit() else 1,
            ram_bytes=int(words[1]) * 1024 if len(words) > 1 and words[1].isdigit() else 0,
            cpuinfo="\n".join(lines[6:]),
        )

    def alive(self) -> bool:
        """Return whether the device answers now."""
        try:
            return self.run(["true"], limit_s=5).status == 0
        except DeviceError:
            self._connected = False
            return False

    def close(self) -> None:
        self.connection.close()
        self._connected = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _connect(self) -> None:
        if not self._connected:
            self.connection.connect()
            self._connected = True

    def _lost(self, shown: str, client: Client) -> DeviceError:
        """Return the error for a command that ended without its sentinel."""
        self._connected = False
        self._pushed.clear()
        last = CommandResult(0, b"", client.err).last_line
        if reason := self.connection.explain(last):
            return DeviceError(f"{self.name}: {reason}")
        return DeviceLost(
            f"{self.name}: lost while it ran {shown}; last line of the client: {last}"
        )


def open_transport(profile: DeviceProfile) -> Transport:
    """Return the transport of a profile; it connects when it is first used."""
    from hwnas.devices.transports.connections import AdbConnection, LocalConnection, SshConnection

    name, remote = profile.name, profile.remote
    if profile.transport == "adb" and remote is not None:
        folder = remote.folder or "/data/local/tmp/hwnas"
        return Transport(name, AdbConnection(name, remote.serial), folder)
    if profile.transport == "ssh" and remote is not None:
        return Transport(name, SshConnection(name, remote), remote.folder or ".hwnas")
    if profile.transport == "local":
        return Transport(name, LocalConnection(), str(home() / "device"))
    why = "is simulated" if profile.transport == "simulated" else "has no connection in its profile"
    raise DeviceError(
        f"{name}: {why}, so no command can be run on it; --target host-cpu runs it on this machine"
    )
