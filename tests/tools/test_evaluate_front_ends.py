"""The comparison of strategies on cells: rows of all methods, reuse of work, notes."""

from __future__ import annotations

from pathlib import Path

import msgspec
from click.testing import CliRunner

from tests.support.reporting.sample_run import write_images

PARTS = ("front_ends", "latency_data", "evaluate_front_ends")


def run(work: Path, *more: str) -> tuple[str, list[dict[str, object]]]:
    from tools.evaluate.cells.run import main

    data, rows = work / "images.npz", work / "rows.json"
    if not data.exists():
        write_images(data)
    size = "--images 64 --layers 3 --channels 2 --minutes 0.001 --child-epochs 1 --ranked 2"
    arguments = ["--work", str(work), "--data", str(data), *size.split(), "--no-latency"]
    arguments += ["--results", str(work / "table.md"), "--json", str(rows), *more]
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return (work / "table.md").read_text(), msgspec.json.decode(rows.read_bytes())


def test_each_method_and_seed_has_a_row_and_finished_work_is_reused(tmp_path: Path) -> None:
    options = ["--method", "ista", "--method", "random", "--seeds", "2"]
    text, rows = run(tmp_path, *options)
    assert [(row["method"], row["seed"]) for row in rows] == [
        ("ISTA-NAS, two-stage", 0),
        ("random search", 0),
        ("ISTA-NAS, two-stage", 1),
        ("random search", 1),
    ]
    assert all(0 <= float(str(row["accuracy"])) <= 1 for row in rows)
    assert "Against random search: ISTA-NAS, two-stage" in text
    assert "Nothing of that size was run here" in text
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*-*.json")}
    assert len([path for path in times if path.name.startswith("search-")]) == 4
    assert run(tmp_path, *options)[1] == rows
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*-*.json")}
    # results of another size are not reused
    other = ("--images", "48", "--ranked", "0")
    assert run(tmp_path, "--method", "random", "--seeds", "1", *other)[1] != rows


def test_a_single_seed_has_a_note_that_differences_mean_nothing(tmp_path: Path) -> None:
    text, _ = run(tmp_path, "--method", "random", "--seeds", "1", "--ranked", "0")
    assert "One seed tells no spread" in text
