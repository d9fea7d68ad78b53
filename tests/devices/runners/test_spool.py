"""Results of a measurement that a lost device interrupted."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from hwnas.devices.profile import MeasureSpec, find_profile
from hwnas.devices.runner import InputShape, Subject
from hwnas.devices.runners.protocol import WorkerConditions, WorkerResult
from hwnas.devices.runners.spool import Spool


@pytest.mark.parametrize(
    "change",
    [
        {"shapes": (InputShape("x", (3, 9, 9)),)},
        {"runtime": "litert"},
        {"batch": 2},
    ],
)
def test_results_of_a_file_that_was_measured_otherwise_are_not_used(
    change: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path))
    net = tmp_path / "net.onnx"
    net.write_bytes(b"net")
    spool, result = Spool(find_profile("host-cpu"), "", net), WorkerResult((), WorkerConditions(""))
    subject = Subject("a", net, shapes=(InputShape("x", (3, 8, 8)),))
    spool.write([subject], MeasureSpec(), 0, result)
    assert spool.read([subject], MeasureSpec(), 0) == result
    other = msgspec.structs.replace(subject, **change)
    assert spool.read([other], MeasureSpec(), 0) is None
