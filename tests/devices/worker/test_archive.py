"""The archive of the worker that is sent to other computers."""

from __future__ import annotations

import ast
import io
import json
import sys
import zipfile

import pytest

from hwnas.devices.worker.archive import MAIN, worker_archive


def test_an_older_python_than_the_worker_needs_is_an_error_that_names_the_option(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 8, 10))
    with pytest.raises(SystemExit) as ended:
        exec(compile(MAIN, "__main__.py", "exec"), {})
    assert ended.value.code == 1
    [line] = capsys.readouterr().out.splitlines()
    error = json.loads(line)["error"]
    assert error.startswith("the worker needs Python 3.10 or later, but ")
    assert error.endswith(" is 3.8; [remote] python names another")


def test_the_worker_is_written_in_the_syntax_of_the_python_that_it_needs() -> None:
    with zipfile.ZipFile(io.BytesIO(worker_archive())) as archive:
        for name in archive.namelist():
            version = (3, 4) if name == "__main__.py" else (3, 10)
            ast.parse(archive.read(name), name, feature_version=version)
