"""Runs side by side: what is comparable, what differs for real, and what is no run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner, Result

from hwnas.cli.main import cli
from hwnas.devices.runner import file_sha256
from hwnas.errors import InvalidFile, UsageError, WriteError
from hwnas.files import lock_folder
from hwnas.measurement.classification import packed_hits
from hwnas.report.report import Report
from hwnas.shipped import shipped
from hwnas.specialize.comparison.compare import Comparison, compare_runs
from hwnas.specialize.comparison.page import page
from hwnas.specialize.comparison.text import sentences
from hwnas.specialize.run_folder import RunFolder
from hwnas.specialize.spec import RunSpec
from tests.support.reporting.sample_report import fleet_report, measured_report

IMAGES = 360
LABELS = np.arange(IMAGES) % 10


def hits(wrong: Sequence[int]) -> str:
    """Return the hits of a network that takes these images for another class."""
    predicted = LABELS.copy()
    predicted[list(wrong)] += 1
    return packed_hits(predicted, LABELS)


def write_run(
    folder: Path,
    *,
    wrong: Sequence[int] | None = None,
    target: str = "host-cpu",
    spec: RunSpec | None = None,
    latency: dict[str, Any] | None = None,
    **fields: Any,
) -> Path:
    """Write a finished run whose file is wrong on these images, its report with these fields."""
    RunFolder.open(folder, spec or RunSpec(), resume=False).close()
    report = measured_report()
    [result] = report.results
    assert result.latency is not None and result.accuracy is not None
    replace = msgspec.structs.replace
    accuracy = replace(result.accuracy, hits="" if wrong is None else hits(wrong))
    changed = replace(result.latency, **(latency or {}))
    result = replace(result, target=target, latency=changed, accuracy=accuracy)
    replace(report, results=(result,), **fields).write(folder)
    return folder


@pytest.fixture
def two(tmp_path: Path) -> list[Path]:
    """Runs of which the second is right on 30 images more, and wrong on 5 others."""
    return [
        write_run(tmp_path / "first", wrong=range(40)),
        write_run(tmp_path / "second", wrong=[*range(10), *range(100, 105)]),
    ]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["report", *map(str, arguments)])


def only_pair(runs: list[Path]) -> Any:
    [pair] = compare_runs(runs).pairs
    return pair


def test_accuracies_on_the_same_images_are_compared_image_by_image(two: list[Path]) -> None:
    score = only_pair(two).score
    assert (score.only_first, score.only_second, score.images) == (5, 30, IMAGES)
    assert score.difference == pytest.approx(25 / 360)
    # Agresti and Min: 36 of 362 changed, centre 25 / 362, standard error 0.01617
    assert score.ci95 == pytest.approx((0.0374, 0.1008), abs=5e-4)
    assert score.real and score.p_value == pytest.approx(2.3e-5, rel=0.1)
    [line] = [line for line in sentences(compare_runs(two)) if "test images" in line]
    assert f"{two[1]} alone is right on 30 and {two[0]} alone on 5: +6.9 points" in line
    assert line.endswith("McNemar's p < 0.001): a real difference.")
    back = only_pair(two[::-1]).score
    assert (back.difference, back.p_value) == (-score.difference, score.p_value)


def test_equal_networks_do_not_differ(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, wrong=range(10)) for name in "ab"]
    score = only_pair(runs).score
    assert (score.difference, score.p_value, score.real) == (0, 1, False)
    assert compare_runs(runs).settings == {}
    assert "no difference is shown" in "".join(sentences(compare_runs(runs)))


def test_latencies_of_separate_runs_have_no_interval_of_their_ratio(tmp_path: Path) -> None:
    first = write_run(tmp_path / "a", latency={"median_ms": 0.2})
    second = write_run(tmp_path / "b", latency={"median_ms": 0.3})
    latency = only_pair([first, second]).latency
    assert latency.ratio == pytest.approx(1.5) and latency.ci95 is None and latency.tie is None
    assert "1.500 times as long" in sentences(compare_runs([first, second]))[0]


@pytest.mark.parametrize(
    ("other", "note"),
    [
        ({"target": "pixel1"}, "latencies of different devices (host-cpu, pixel1)"),
        ({"latency": {"kind": "predicted"}}, "a measured and a predicted latency"),
        ({"environment": {"hardware": "abacus"}}, "latencies of different machines (unknown; abac"),
    ],
)
def test_latencies_that_are_not_comparable_are_not_compared(
    other: dict[str, Any], note: str, tmp_path: Path
) -> None:
    pair = only_pair([write_run(tmp_path / "a"), write_run(tmp_path / "b", **other)])
    assert pair.latency is None and note in pair.latency_note


@pytest.mark.parametrize(
    ("data", "note"),
    [
        ({"name": "photos"}, "on different data (digits, photos)"),
        ({"digest": "0" * 16}, "digits had other images, sizes or splits"),
    ],
)
def test_accuracies_on_other_images_are_not_compared(
    data: dict[str, str], note: str, tmp_path: Path
) -> None:
    dataset = measured_report().dataset
    assert dataset is not None
    changed = msgspec.structs.replace(dataset, **data)
    second = write_run(tmp_path / "b", wrong=[], dataset=changed)
    pair = only_pair([write_run(tmp_path / "a", wrong=[]), second])
    assert pair.score is None and note in pair.score_note
    old = only_pair([write_run(tmp_path / "c", wrong=[]), write_run(tmp_path / "d")])
    assert old.score is None and "an older version" in old.score_note


def test_only_settings_that_differ_are_listed_as_they_are_typed(tmp_path: Path) -> None:
    spec = RunSpec(effort="trial", pixels=True, resolutions=(24, 28), seed=3)
    first = write_run(tmp_path / "a", environment={"torch": "2.5", "load at the end": 1})
    second = write_run(
        tmp_path / "b", spec=spec, environment={"torch": "2.6", "load at the end": 2}
    )
    assert compare_runs([first, second]).settings == {
        "--effort": ("quick", "trial"),
        "--seed": ("0", "3"),
        "--resolution": ("default", "24,28"),
        "--pixels": ("off", "on"),
        "torch": ("2.5", "2.6"),
    }
    (second / "config.toml").unlink()  # the manifest has the settings too
    assert "--effort" in compare_runs([first, second]).settings
    (second / "manifest.json").unlink()
    assert compare_runs([first, second]).settings.keys() == {"torch"}


def test_a_run_of_several_targets_is_compared_with_itself(tmp_path: Path) -> None:
    fleet_report().write(tmp_path)
    comparison = compare_runs([tmp_path / "report.json"])
    assert len(comparison.rows) == len(comparison.pairs) == 3
    assert [row.run.removeprefix(f"{tmp_path}/report.json ") for row in comparison.rows] == [
        "host-cpu fp32 0.25ms",
        "raspberrypi4 fp32 0.2ms",
        "pixel1 fp32 80ms",
    ]


def test_what_is_no_result_is_one_line(tmp_path: Path, two: list[Path]) -> None:
    (tmp_path / "empty").mkdir()
    begun = tmp_path / "begun"
    RunFolder.open(begun, RunSpec(), resume=False).close()
    cases = {
        "takes two results or more": [two[0]],
        "no such folder": [two[0], tmp_path / "nowhere"],
        "not the folder of a run": [two[0], tmp_path / "empty"],
        f"hwnas specialize --resume --out {begun}": [two[0], begun],
        "is named twice": [two[0], two[1], two[0] / "report.json" / ".."],
    }
    for message, runs in cases.items():
        error = call("--compare", *runs).exception
        assert isinstance(error, UsageError) and message in str(error), message
    with lock_folder(begun):
        assert "a process is working in it" in str(call("--compare", *two, begun).exception)
    report = measured_report()
    msgspec.structs.replace(report, results=()).write(tmp_path / "empty")
    assert "has no result" in str(call("--compare", *two, tmp_path / "empty").exception)
    for arguments, message in (
        (two, "2 runs are given; compare them with --compare"),
        ([two[0], "--measure"], "belong to --compare"),
    ):
        error = call(*arguments).exception
        assert isinstance(error, UsageError) and message in str(error)


def test_the_command_prints_a_table_and_writes_a_page(two: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "comparison.html"
    result = call("--compare", *two, "--out", out)
    assert result.exit_code == 0, result.output
    assert "0.208 ms measured" in result.stdout and f"page: {out}" in result.stdout
    text = out.read_text()
    assert "Accuracy vs. latency" in text and text.count("+6.9 points") == 1
    assert "<script" not in text and len(text) < 50_000
    document = json.loads(call("--compare", *two, "--json").stdout)
    assert document == json.loads(msgspec.json.encode(compare_runs(two)))
    assert msgspec.convert(document, Comparison) == compare_runs(two)


def test_a_page_that_cannot_be_written_does_not_cost_the_comparison(
    two: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    result = call("--compare", *two, "--out", tmp_path / "file" / "page.html")
    assert "0.208 ms measured" in result.stdout and "page:" not in result.stdout
    assert isinstance(result.exception, WriteError)


def test_names_are_escaped_on_the_page(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name) for name in ("<b>first", "second & third")]
    text = page(compare_runs(runs))
    assert "<b>first" not in text and "&lt;b&gt;first" in text


def write_phone_run(
    folder: Path, profile: Path, write_net: Callable[..., Path], **net: int
) -> Path:
    """Write a run of a simulated phone with the file that it delivered."""
    spec = RunSpec(targets=(str(profile),))
    (folder / "export").mkdir(parents=True)
    file = write_net(folder / "export" / "model.tflite", **net)
    run = write_run(folder, target="quick-phone", spec=spec, latency={"kind": "simulated"})
    report = Report.read(run / "report.json")
    [result] = report.results
    artifact = msgspec.structs.replace(
        result.artifacts[0], path="export/model.tflite", sha256=file_sha256(file)
    )
    result = msgspec.structs.replace(result, artifacts=(artifact,))
    msgspec.structs.replace(report, results=(result,)).write(run)
    return run


def test_delivered_files_are_measured_side_by_side(
    tmp_path: Path, write_net: Callable[..., Path]
) -> None:
    profile = tmp_path / "quick-phone.toml"
    text = (shipped("devices") / "simulated-phone.toml").read_text()
    profile.write_text(text.replace('"simulated-phone"', '"quick-phone"'))
    small = write_phone_run(tmp_path / "small", profile, write_net, channels=8)
    large = write_phone_run(tmp_path / "large", profile, write_net, channels=64)
    result = call("--compare", small, large, "--measure", "--json")
    assert result.exit_code == 0, result.output
    comparison = msgspec.json.decode(result.stdout, type=Comparison)
    [pair] = comparison.pairs
    assert pair.latency is not None and pair.latency.ci95 is not None
    assert 1 < pair.latency.ci95[0] <= pair.latency.ratio and not pair.latency.tie
    assert [row.together_kind for row in comparison.rows] == ["simulated"] * 2
    assert "measured side by side: a real difference" in sentences(comparison)[0]

    (large / "export" / "model.tflite").write_bytes(b"another")
    error = call("--compare", small, large, "--measure").exception
    assert isinstance(error, InvalidFile) and "its hash differs" in str(error)
    (large / "export" / "model.tflite").unlink()
    error = call("--compare", small, large, "--measure").exception
    assert isinstance(error, InvalidFile) and "the file that the run delivered" in str(error)
    other = write_run(tmp_path / "host")
    error = call("--compare", small, other, "--measure").exception
    assert isinstance(error, UsageError) and "no two results have the same target" in str(error)
