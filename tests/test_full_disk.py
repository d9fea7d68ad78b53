"""Full disks: each run stops with one line that names the command to continue with, and nothing is
lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.machines.small_disk import NO_SPACE, recorded

GOES_ON = "; continue with: hwnas specialize --resume --out "


@pytest.mark.slow
def test_a_run_whose_disk_is_full_again_and_again_ends_as_on_a_large_disk(tmp_path: Path) -> None:
    record = recorded("specialize", tmp_path)
    assert record.small == record.whole and len(record.whole) == 3
    not_begun, *stops = record.stops
    assert not_begun.line.endswith(NO_SPACE), "nothing is there to be resumed"
    assert all(NO_SPACE + GOES_ON in stop.line for stop in stops)
    for stop in record.stops:
        assert stop.line.count("\n") == 0 and stop.exit_code == 1
        assert stop.temporary == []
    lines = "\n".join(stop.line for stop in record.stops)
    assert "latency_model.json" in lines and "checkpoints/" in lines


def test_a_packing_goes_on_once_a_disk_that_others_filled_has_space(tmp_path: Path) -> None:
    record = recorded("pack", tmp_path)
    [stop] = record.stops
    assert stop.line.endswith(
        "small.packed: the disk is full; free some space and start again, and packing goes on "
        "where it stopped"
    )
    assert stop.exit_code == 1
    assert record.small == record.whole
