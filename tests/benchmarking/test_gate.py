"""The regression gate as a CI calls it: verdicts, exit codes, JUnit and Markdown."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from hwnas.benchmarking import run as benchmarking
from hwnas.cli.benchmark import benchmark
from hwnas.errors import Regression, TooNoisy, UnknownName
from hwnas.measurement.measurement import Environment, Measurement
from hwnas.measurement.round import Round

NetWriter = Callable[..., Path]


STEADY = (1.0, 1.004, 0.996, 1.002, 0.998)


@pytest.fixture(autouse=True)
def empty_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure without a calibration of this machine."""
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path / "home"))


def call(*arguments: object) -> Result:
    return CliRunner().invoke(benchmark, [str(argument) for argument in arguments])


class Steps:
    """Measurements by a script instead of a device: for each batch, each process's ratio."""

    def __init__(self, *batches: Sequence[float]) -> None:
        self.batches, self.measured = batches, 0

    def __call__(
        self, subjects: Sequence[Any], profile: Any, seed: int, progress: object
    ) -> list[Measurement]:
        ratios = self.batches[min(self.measured, len(self.batches) - 1)]
        self.measured += 1
        environment = Environment(profile.name, "f", "h", profile.runtime, "1", 1, "now")
        rounds = tuple(
            Round((ratio,), (1.0,), process)
            for process, ratio in enumerate(ratios)
            for _ in range(3)
        )
        return [Measurement(subject.name, rounds, environment, sha256="s") for subject in subjects]


@pytest.fixture
def gate(tmp_path: Path, write_net: NetWriter, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return ``run(*batches, options)``: measures ``a.tflite`` against a baseline of `STEADY`."""
    file, baseline = write_net(tmp_path / "a.tflite"), tmp_path / "baseline.json"
    arguments = (file, "--target", "simulated-phone")
    monkeypatch.setattr(benchmarking, "measure_subjects", Steps(STEADY))
    assert call(*arguments, "--save-baseline", baseline).exit_code == 0

    def run(*batches: Sequence[float], options: Sequence[object] = ()) -> tuple[Result, Steps]:
        steps = Steps(*batches)
        monkeypatch.setattr(benchmarking, "measure_subjects", steps)
        return call(*arguments, "--baseline", baseline, *options), steps

    return run


def test_a_steady_file_passes_with_one_batch(gate: Any) -> None:
    result, steps = gate(STEADY)
    assert (result.exit_code, steps.measured) == (0, 1)
    assert "a.tflite: passed, 1.000" in result.stdout


def test_a_slower_file_is_exit_code_5(gate: Any) -> None:
    result, steps = gate([1.1 * ratio for ratio in STEADY])
    assert isinstance(result.exception, Regression) and result.exception.exit_code == 5
    assert "a.tflite: slower, +10.0%" in str(result.exception)
    assert "+5.0% allowed; the file is the same" in str(result.exception)
    assert steps.measured == 1


def test_a_slower_file_inside_the_allowed_share_passes(gate: Any) -> None:
    result, _ = gate([1.1 * ratio for ratio in STEADY], options=["--max-regress", "20%"])
    assert result.exit_code == 0


def test_noise_is_measured_three_times_then_exit_code_6(gate: Any) -> None:
    noisy = (0.8, 1.3, 0.9, 1.2, 1.0)
    result, steps = gate(noisy)
    assert isinstance(result.exception, TooNoisy) and result.exception.exit_code == 6
    assert "too noisy for a verdict" in str(result.exception)
    assert steps.measured == 3


def test_a_second_batch_decides_an_open_verdict(gate: Any) -> None:
    result, steps = gate((1.0, 1.05, 0.97, 1.06, 1.0), STEADY)
    assert result.exit_code == 0
    assert 1 < steps.measured <= 3


def test_the_verdicts_are_in_junit_markdown_and_json(gate: Any, tmp_path: Path) -> None:
    junit, markdown = tmp_path / "j.xml", tmp_path / "m.md"
    options = ["--junit", junit, "--markdown", markdown, "--json"]
    result, _ = gate([1.1 * ratio for ratio in STEADY], options=options)
    suite = ElementTree.parse(junit).getroot()
    [failure] = suite.iter("failure")
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("1", "1", "0")
    assert "slower, +10.0%" in (failure.get("message") or "")
    assert "regressed: +10.0%" in markdown.read_text()
    [judgement] = json.loads(result.stdout)["gate"]["judgements"]
    assert (judgement["verdict"], judgement["limit"]) == ("regressed", 1.05)


def test_a_regressed_file_makes_no_new_baseline(gate: Any, tmp_path: Path) -> None:
    new = tmp_path / "new.json"
    gate([1.1 * ratio for ratio in STEADY], options=["--save-baseline", new])
    assert not new.exists()
    gate(STEADY, options=["--save-baseline", new])
    assert new.exists()


def test_a_file_that_the_baseline_lacks_is_named_before_measuring(
    gate: Any, tmp_path: Path, write_net: NetWriter
) -> None:
    other = write_net(tmp_path / "b.tflite")
    result, steps = gate(STEADY, options=[other])
    assert isinstance(result.exception, UnknownName)
    assert "no file in the baseline named 'b.tflite'" in str(result.exception)
    assert steps.measured == 0


@pytest.mark.parametrize("share", ["much", "-5%", "nan"])
def test_a_wrong_share_is_a_usage_error(gate: Any, share: str) -> None:
    result, _ = gate(STEADY, options=["--max-regress", share])
    assert result.exit_code == 2 and "expected a share such as 5% or 0.05" in result.stderr
