"""Conformance test of transports (`hwnas.devices.transports.transport.Transport`)."""

from __future__ import annotations

import time
from pathlib import Path

from hwnas.devices.transports.transport import Transport
from hwnas.errors import DeviceError, UsageError
from hwnas.testing.contract import require, require_error

HOSTILE_WORDS = (
    *("two words", "it's", 'a "quoted" word', "$(touch /tmp/no)", "`id`", "a;b", "a&b|c"),
    *("*", "-n", "line\nbreak", "back\\slash", "$HOME", "../..", "ä"),
)
"""Words that a shell would interpret."""


def check_transport(transport: Transport, folder: Path) -> None:
    """Check the commands, limits and copies of a transport to a POSIX shell, then close it.

    ``folder`` is an empty folder on this machine for files to copy. Raises `ContractBroken`.
    """
    try:
        _check_commands(transport)
        _check_limits(transport)
        _check_files(transport, folder)
        facts = transport.probe()
        require(facts.machine and facts.abi and facts.cores > 0, "probe() describes the device")
        require(transport.alive(), "a device that answers is alive")
    finally:
        transport.close()


def _check_commands(transport: Transport) -> None:
    result = transport.shell("echo out; echo err >&2; exit 7")
    require(result.status == 7, "the exit status of a command is returned")
    require(result.out == b"out\n", "stdout is returned unchanged")
    require(b"err" in result.err and b"out" not in result.err, "stderr is separate from stdout")
    require(transport.run(["cat"], stdin=b"a\0b\n").out == b"a\0b\n", "stdin reaches the command")
    require(transport.run(["printf", "end"]).out == b"end", "the last line needs no newline")
    for word in HOSTILE_WORDS:
        output = transport.run(["printf", "%s", word]).out
        require(
            output == word.encode(),
            f"the word {word!r} reaches the program as it is, not {output!r}",
        )
    missing = transport.run(["/no/such/program"])
    require(missing.status == 127, "a missing program has exit status 127")


def _check_limits(transport: Transport) -> None:
    start = time.monotonic()
    require_error(
        DeviceError,
        lambda: transport.run(["sleep", "60"], limit_s=1),
        "a command that exceeds its time limit raises a DeviceError",
    )
    require(time.monotonic() - start < 30, "a command ends at its limit")
    require_error(
        DeviceError,
        lambda: transport.run(["yes"], limit_s=20, max_bytes=2**16),
        "a command with endless output raises a DeviceError",
    )


def _check_files(transport: Transport, folder: Path) -> None:
    file, back = folder / "it's a file", folder / "back"
    file.write_bytes(bytes(range(256)) * 300)
    path = transport.push(file)
    transport.pull(path, back)
    require(back.read_bytes() == file.read_bytes(), "a pushed file is pulled unchanged")
    require(transport.push(file) == path, "the same content has the same path")
    file.write_bytes(bytes(256 * 300))
    require(transport.push(file) != path, "other content of the same size has another path")
    require_error(
        UsageError,
        lambda: transport.push(folder / "none"),
        "pushing a missing file raises a UsageError",
    )
    require_error(
        DeviceError,
        lambda: transport.pull(f"{transport.folder}/none", back),
        "pulling a missing file raises a DeviceError",
    )
    require(back.stat().st_size == 256 * 300, "a failed pull leaves the local file unchanged")
