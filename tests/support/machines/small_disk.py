"""Work on disks that are full, in processes that mount them for themselves.

Each program is called ``python -m tests.support.machines.small_disk PROGRAM FOLDER``, started by
`separate`; it prints a `Record` as JSON.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from hwnas.cli.main import cli
from hwnas.console import PlainConsole
from hwnas.data.photos import copying, packing
from hwnas.training import pool
from tests.support.data.photos import noise_folder
from tests.support.reporting.sample_run import ROOT, make_small, put_phone_table, write_images

FIRST_KB, LEAST_KB = 4, 16
"""Space on the disk in the beginning, and beside what is used later on."""
NAMESPACES = (["unshare", "-m"], ["unshare", "-Urm"])
"""Commands that start another one where it may mount: for root, and for other users."""
MAX_STOPS = 100
NO_SPACE = ": cannot be written (No space left on device)"


class Stop(msgspec.Struct):
    """A full disk."""

    line: str
    exit_code: int
    temporary: list[str]
    """Half-written files that are left."""


class Record(msgspec.Struct):
    stops: list[Stop]
    whole: list[str]
    """The result on a large disk, as hashes."""
    small: list[str]
    """The result on the small disk, in the end."""


def recorded(program: str, folder: Path) -> Record:
    """Run a program of this module; skip the test where nothing can be mounted."""
    if (words := separate()) is None:
        pytest.skip("mounting a small disk needs a namespace of its own, which is refused here")
    command = [*words, sys.executable, "-m", __name__, program, str(folder)]
    done = subprocess.run(command, capture_output=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr.decode()
    return msgspec.json.decode(done.stdout, type=Record)


@cache
def separate() -> list[str] | None:
    """Return the command that starts another one where it may mount; None if there is none."""
    for words in NAMESPACES:
        mount = [*words, "mount", "-t", "tmpfs", "none", "/mnt"]
        try:
            if subprocess.run(mount, capture_output=True, check=False).returncode == 0:
                return words
        except OSError:
            pass
    return None


def mount(folder: Path, size_kb: int) -> None:
    """Mount a disk of that size, or give it that size."""
    options = f"size={size_kb}k"
    if folder.is_mount():
        options = f"remount,{options}"
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "none", folder]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)


def used_kb(folder: Path) -> int:
    space = os.statvfs(folder)
    return (space.f_blocks - space.f_bfree) * space.f_frsize // 1024


def specialize(folder: Path) -> Record:
    """Run on a large disk, and on one of a few kilobytes by the command that each stop names."""
    data = write_images(folder / "images.npz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HWNAS_HOME", str(folder / "home"))
        start_training = pool._start
        make_small(patch)
        patch.setattr(pool, "_start", start_training)  # in processes as users have them
        put_phone_table()
        run = ["--data", str(data), "--target", "simulated-phone", "--threads", "1", "--quiet"]
        words = ["specialize", *run, "--budget", "30%", "--out"]
        call([*words, str(folder / "whole")])
        disk = folder / "disk"
        stops = fill(disk, [*words, str(disk / "run")])
        return Record(stops, outcome(folder / "whole"), outcome(disk / "run"))


def fill(disk: Path, words: list[str]) -> list[Stop]:
    """Run on a disk that gets a little more space than is used whenever it is full."""
    stops: list[Stop] = []
    spare_kb, named = FIRST_KB, set[str]()
    while len(stops) < MAX_STOPS:
        mount(disk, (used_kb(disk) if disk.is_mount() else 0) + spare_kb)
        done = call(words)
        if done.exception is None:
            break
        line = str(done.exception)
        assert NO_SPACE in line, line
        temporary = [file.name for file in disk.rglob(".*.tmp*")]
        stops.append(Stop(line, getattr(done.exception, "exit_code", -1), temporary))
        file = line.partition(NO_SPACE)[0]
        spare_kb = 2 * spare_kb if file in named else LEAST_KB
        named.add(file)
        if match := re.search("continue with: hwnas (.*)", line):
            words = shlex.split(match[1])
    return stops


def call(words: list[str]) -> Result:
    return CliRunner().invoke(cli, words)


def outcome(run: Path) -> list[str]:
    """Return the digest of the delivered network, and the hashes of its files."""
    report = msgspec.json.decode((run / "report.json").read_bytes())
    result = report["results"][0]
    return [result["architecture"]["digest"], *(file["sha256"] for file in result["artifacts"])]


def pack(folder: Path) -> Record:
    """Pack photos on a large disk, and on one that another program fills meanwhile."""
    photos, disk = noise_folder(folder / "photos", count=60), folder / "disk"
    filler = disk / "filler"

    def fill_disk(message: str) -> None:
        if "are packed into" in message:
            with suppress(OSError), filler.open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))
            os.truncate(filler, filler.stat().st_size - 16_384)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HWNAS_HOME", str(folder / "home"))
        patch.setattr(packing, "SPARE_BYTES", 0)
        for module in (copying, packing):
            patch.setattr(module, "CHUNK_PHOTOS", 8)
        words = ["data", "pack", str(photos), "--size", "16", "--out"]
        call([*words, str(folder / "whole.packed")])
        mount(disk, 200)
        with pytest.MonkeyPatch.context() as console:
            console.setattr(PlainConsole, "say", lambda self, text: fill_disk(text))
            done = call([*words, str(disk / "small.packed")])
        assert done.exception is not None
        stop = Stop(str(done.exception), getattr(done.exception, "exit_code", -1), [])
        filler.unlink()
        call([*words, str(disk / "small.packed")])
    files = (folder / "whole.packed", disk / "small.packed")
    whole, small = ([sha256(file.read_bytes()).hexdigest()] for file in files)
    return Record([stop], whole, small)


PROGRAMS: dict[str, Callable[[Path], Record]] = {"specialize": specialize, "pack": pack}

if __name__ == "__main__":
    record = PROGRAMS[sys.argv[1]](Path(sys.argv[2]))
    sys.stdout.buffer.write(msgspec.json.encode(record))
