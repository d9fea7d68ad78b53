"""A signal ends a command with one line and its exit code, however often it comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from hwnas.cli.framework.signals import SIGNALS
from tests.support.reporting.sample_run import ROOT

COMMANDS = """
import subprocess, sys, time
from pathlib import Path
from hwnas.cli.framework.command import command, option
from hwnas.files import write_atomic

def nap(out, resume, again):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        print("child", child.pid, flush=True)
        time.sleep(60)
    finally:
        time.sleep(0.4)  # work that must not be cut off by a second signal
        write_atomic(Path(out), "ended")

for name, added in (("resumed", "--resume"), ("repeated", ""), ("lost", None)):
    decorated = option("--out")(option("--resume", is_flag=True)(option("--again", is_flag=True)(
        lambda out, resume, again: nap(out, resume, again))))
    globals()[name] = command(name, continued_by=added)(decorated)

if __name__ == "__main__":
    from hwnas.cli import main
    for name in ("resumed", "repeated", "lost"):
        main.COMMANDS[name] = (f"commands:{name}", "")
    main.main()
"""
"""Three commands that begin a child and wait."""


class Started:
    """A command that waits, and its child."""

    def __init__(self, folder: Path, *arguments: str, before: Callable[[], None] | None = None):
        (folder / "commands.py").write_text(COMMANDS)

        def begin() -> None:
            for number in SIGNALS:  # a shell starts background jobs with SIGINT ignored
                signal.signal(number, signal.SIG_DFL)
            if before is not None:
                before()

        self.process = subprocess.Popen(
            [sys.executable, str(folder / "commands.py"), *arguments, "--out", "out file"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=begin,
        )
        assert self.process.stdout is not None
        self.child = psutil.Process(int(self.process.stdout.readline().split()[1]))

    def end(self) -> tuple[int, list[str]]:
        """Return the exit code and the lines of stderr; the child must have ended too."""
        _, errors = self.process.communicate(timeout=60)
        self.child.wait(timeout=30)
        return self.process.returncode, errors.splitlines()


@pytest.mark.parametrize(
    ("command", "ending"),
    [
        (["resumed"], "; continue with: hwnas resumed --out 'out file' --resume"),
        (["resumed", "--resume"], "; continue with: hwnas resumed --resume --out 'out file'"),
        (["repeated", "--again"], "; continue with: hwnas repeated --out 'out file'"),
        (["lost"], ""),
    ],
)
def test_an_interrupted_command_prints_what_continues_it(
    tmp_path: Path, command: list[str], ending: str
) -> None:
    started = Started(tmp_path, *command)
    started.process.send_signal(signal.SIGINT)
    assert started.end() == (130, [f"hwnas: interrupted{ending}"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_comes_again_changes_nothing(tmp_path: Path, number: signal.Signals) -> None:
    started = Started(tmp_path, "lost")
    for _ in range(3):
        started.process.send_signal(number)
        time.sleep(0.1)
    assert started.end() == (128 + number, ["hwnas: interrupted"])
    assert (tmp_path / "out file").read_text() == "ended"


def test_a_signal_that_the_caller_ignores_stays_ignored(tmp_path: Path) -> None:
    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    started = Started(tmp_path, "lost", before=ignore)  # as nohup does
    started.process.send_signal(signal.SIGHUP)
    time.sleep(0.1)
    assert started.process.poll() is None
    started.process.send_signal(signal.SIGTERM)
    assert started.end()[0] == 143


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_does_not_become_one_of_the_files(tmp_path: Path, closed: str) -> None:
    """Otherwise, printed text would be written to the next file that is opened."""
    code = (
        "import sys; from hwnas.cli.framework.signals import open_standard_streams as begin\n"
        "begin(); file = open('file', 'w'); print('out'); print('err', file=sys.stderr)\n"
        "assert file.fileno() > 2; file.write('content')"
    )
    line = f'"$0" -c "$1" {closed}'
    done = subprocess.run(
        ["sh", "-c", line, sys.executable, code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0
    assert (tmp_path / "file").read_text() == "content"
