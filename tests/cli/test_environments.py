"""Unusual environments: a command works, or names in one line what is missing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.reporting.sample_run import ROOT

TABLE = "key,ms\nconv k3 s2 3>16 @32,0.11\nlogits 24>10 @8,0.03\n"
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""A locale whose encoding has no umlauts, without Python's remedies."""


def hwnas(
    folder: Path, *arguments: str, shell: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run ``hwnas`` in ``folder`` with no environment variables but these; ``shell`` follows it."""
    return subprocess.run(
        ["sh", "-c", f'"$0" -m hwnas "$@" {shell}', sys.executable, *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


@pytest.fixture
def table(tmp_path: Path) -> str:
    (tmp_path / "Größe.csv").write_text(TABLE, "utf-8")
    return "Größe.csv"


@pytest.mark.parametrize("variables", [{}, {"HOME": "/dev/null/none"}, {"LANG": "xx_XX.latin9"}])
def test_the_version_needs_no_environment(tmp_path: Path, variables: dict[str, str]) -> None:
    done = hwnas(tmp_path, "--version", **variables)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("variable", ["HOME", "HWNAS_HOME"])
def test_a_home_that_cannot_be_made_is_one_line(tmp_path: Path, table: str, variable: str) -> None:
    where = {variable: "/dev/null/none"}
    done = hwnas(tmp_path, "latency", "import", table, "--device", "board", **where)
    assert done.returncode == 1
    note, line = done.stderr.splitlines()
    assert note.startswith("note: no column 'scope'")
    assert (
        line.startswith("hwnas: /dev/null/none/") and "cannot be written (Not a directory)" in line
    )


@pytest.mark.parametrize(
    "variables", [{"LC_ALL": "C"}, {"TMPDIR": "/none"}, {"HOME": "/dev/null/none"}]
)
def test_files_are_written_where_they_are_named(
    tmp_path: Path, table: str, variables: dict[str, str]
) -> None:
    command = ["latency", "import", table, "--device", "board", "--out", "Bücher/größe.json"]
    done = hwnas(tmp_path, *command, **variables)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "Bücher" / "größe.json").exists()


def test_a_name_that_the_locale_lacks_is_one_line(tmp_path: Path, table: str) -> None:
    done = hwnas(tmp_path, "latency", "import", table, "--device", "b", "--out", "o.json", **ASCII)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        1,
        "hwnas: a file's name is not in the encoding of this locale; PYTHONUTF8=1 helps",
    )


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_output_to_a_full_disk_is_one_line(tmp_path: Path, as_json: list[str]) -> None:
    done = hwnas(tmp_path, "devices", "list", *as_json, shell="> /dev/full")
    assert done.returncode == 1
    assert done.stderr == "hwnas: the output: No space left on device\n"


def test_a_reader_that_has_seen_enough_ends_a_command_silently(tmp_path: Path) -> None:
    done = hwnas(tmp_path, "devices", "list", shell="| head -n 1")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_a_closed_stream_is_no_traceback(tmp_path: Path, closed: str) -> None:
    done = hwnas(tmp_path, "devices", "show", "pixel1", shell=closed)
    assert (done.returncode, done.stderr) == (0, "")
