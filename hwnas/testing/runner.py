"""Conformance test of runners (`hwnas.devices.runner.Runner`)."""

from __future__ import annotations

from pathlib import Path

from hwnas.devices.runner import Runner, Subject
from hwnas.errors import HwnasError
from hwnas.files import file_sha256
from hwnas.measurement.measurement import compare
from hwnas.testing.contract import require, require_error
from hwnas.testing.device import write_model


def check_runner(runner: Runner, suffix: str, folder: Path) -> None:
    """Check a runner with model files of the format ``suffix`` (``.onnx``, ``.tflite``).

    The files are written to ``folder``. The check measures three models, tries a missing, a damaged
    and a foreign file, and closes the runner. Raises `ContractBroken`.
    """
    with runner as entered:
        require(entered is runner, "entering a runner gives the runner")
        _check(runner, suffix, folder)
    runner.close()  # a second time does nothing


def _check(runner: Runner, suffix: str, folder: Path) -> None:
    small = write_model(folder / f"small{suffix}")
    large = write_model(folder / f"large{suffix}", channels=64, layers=4, size=16)
    environment = runner.probe()
    require(
        environment.device and environment.fingerprint,
        "probe() gives the device and its fingerprint",
    )
    require(
        environment.runtime and environment.runtime_version, "probe() gives runtime and version"
    )
    require(
        runner.probe().fingerprint == environment.fingerprint,
        "a device always has the same fingerprint",
    )
    require(runner.measure([]) == [], "measuring no files gives no measurements")
    _check_measuring(runner, small, large)
    _check_errors(runner, small, suffix, folder)


def _check_measuring(runner: Runner, small: Path, large: Path) -> None:
    steps: list[tuple[int, int]] = []
    subjects = [Subject("large", large), Subject("small", small), Subject("again", small)]
    measurements = runner.measure(
        subjects,
        calibrated_reference_ms=2.0,
        seed=1,
        progress=lambda done, planned: steps.append((done, planned)),
    )
    require(
        [measurement.name for measurement in measurements] == [file.name for file in subjects],
        "measurements come in the order of the files, under their names",
    )
    for measurement, subject in zip(measurements, subjects, strict=True):
        name = measurement.name
        require(measurement.rounds, f"{name}: there is at least one round")
        samples = [s for r in measurement.rounds for s in (*r.samples_ms, *r.reference_ms)]
        require(
            all(r.samples_ms and r.reference_ms for r in measurement.rounds), "no round is empty"
        )
        require(all(s > 0 for s in samples), f"{name}: every sample is above 0 ms")
        require(measurement.sha256 == file_sha256(subject.path), "sha256 is that of the file")
        require(measurement.environment.device, "every measurement has its environment")
        require(
            abs(measurement.median_ms - measurement.ratio * 2.0) < 1e-9,
            "a latency is the ratio to the reference times its calibrated latency",
        )
    large_, small_, again = measurements
    require(compare(large_, small_).ratio > 1, "a network with many times the arithmetic is slower")
    require(0.5 < compare(again, small_).ratio < 2, "the same file twice takes about the same time")
    require(all(0 <= done <= planned for done, planned in steps), "progress never exceeds the plan")


def _check_errors(runner: Runner, small: Path, suffix: str, folder: Path) -> None:
    broken = folder / f"broken{suffix}"
    broken.write_bytes(b"this is not a model")
    other = folder / "other.xyz"
    other.write_bytes(small.read_bytes())
    for file, what in (
        (folder / f"missing{suffix}", "a missing file"),
        (broken, "a file that is not a model"),
        (other, "a file of another format"),
    ):
        require_error(
            HwnasError,
            lambda file=file: runner.measure([Subject("wrong", file)]),
            f"{what} raises an HwnasError",
        )
