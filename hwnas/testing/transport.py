"""What every way to a device promises (`hwnas.devices.transports.transport.Transport`)."""

from __future__ import annotations

import time
from pathlib import Path

from hwnas.devices.transports.transport import Transport
from hwnas.errors import DeviceError, UsageError
from hwnas.testing.contract import holds, raises

HOSTILE = (
    "two words", "it's", 'a "quoted" one', "$(touch /tmp/no)", "`id`", "a;b", "a&b|c", "*", "-n",
    "line\nbreak", "back\\slash", "$HOME", "../..", "ä",
)  # fmt: skip
"""Words that a shell would take for something else."""


def check_transport(transport: Transport, folder: Path) -> None:
    """Check a transport to a device with a POSIX shell; it is closed at the end.

    ``folder`` is for files on this machine.
    """
    try:
        _check_commands(transport)
        _check_limits(transport)
        _check_files(transport, folder)
        facts = transport.probe()
        holds(facts.machine and facts.abi and facts.cores > 0, "probe() says what the device is")
        holds(transport.alive(), "a device that answers is alive")
    finally:
        transport.close()


def _check_commands(transport: Transport) -> None:
    said = transport.shell("echo out; echo err >&2; exit 7")
    holds(said.status == 7, "the status of a command comes back")
    holds(said.out == b"out\n", "stdout comes back byte by byte")
    holds(b"err" in said.err and b"out" not in said.err, "stderr comes apart from stdout")
    holds(transport.run(["cat"], stdin=b"a\0b\n").out == b"a\0b\n", "stdin reaches the command")
    holds(transport.run(["printf", "end"]).out == b"end", "a last line needs no newline")
    for word in HOSTILE:
        got = transport.run(["printf", "%s", word]).out
        holds(got == word.encode(), f"the word {word!r} reaches the program as it is, not {got!r}")
    missing = transport.run(["/no/such/program"])
    holds(missing.status == 127, "a missing program is status 127")


def _check_limits(transport: Transport) -> None:
    start = time.monotonic()
    raises(
        DeviceError,
        lambda: transport.run(["sleep", "60"], limit_s=1),
        "a command that outlives its limit is a DeviceError",
    )
    holds(time.monotonic() - start < 30, "a command ends at its limit")
    raises(
        DeviceError,
        lambda: transport.run(["yes"], limit_s=20, max_bytes=2**16),
        "a command that talks without end is a DeviceError",
    )


def _check_files(transport: Transport, folder: Path) -> None:
    file, back = folder / "it's a file", folder / "back"
    file.write_bytes(bytes(range(256)) * 300)
    there = transport.push(file)
    transport.pull(there, back)
    holds(back.read_bytes() == file.read_bytes(), "a file comes back as it went")
    holds(transport.push(file) == there, "the same content has the same place")
    file.write_bytes(bytes(256 * 300))
    holds(transport.push(file) != there, "other content of the same size has another place")
    raises(UsageError, lambda: transport.push(folder / "none"), "a file that is not here is told")
    raises(
        DeviceError,
        lambda: transport.pull(f"{transport.folder}/none", back),
        "a file that is not there is a DeviceError",
    )
    holds(back.stat().st_size == 256 * 300, "a failed pull leaves the local file as it was")
