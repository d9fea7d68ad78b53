"""What every runner promises (`hwnas.devices.runner.Runner`)."""

from __future__ import annotations

from pathlib import Path

from hwnas.devices.runner import Runner, Subject, file_sha256
from hwnas.errors import HwnasError
from hwnas.measurement.measurement import compare
from hwnas.testing.contract import holds, raises
from hwnas.testing.device import write_model


def check_runner(runner: Runner, suffix: str, folder: Path) -> None:
    """Check a runner with files of the format ``suffix`` (``.onnx``, ``.tflite``).

    ``folder`` is for the files. Measures three of them; the runner is closed at the end.
    """
    try:
        _check(runner, suffix, folder)
    finally:
        runner.close()
    runner.close()  # a second time does nothing


def _check(runner: Runner, suffix: str, folder: Path) -> None:
    small = write_model(folder / f"small{suffix}")
    large = write_model(folder / f"large{suffix}", channels=64, layers=8, size=32)
    said = runner.probe()
    holds(said.device and said.fingerprint, "probe() names the device and its hardware")
    holds(said.runtime and said.runtime_version, "probe() says runtime and version")
    holds(runner.probe().fingerprint == said.fingerprint, "a device has one fingerprint")
    holds(runner.measure([]) == [], "measuring nothing gives nothing")
    _check_measuring(runner, small, large)
    _check_errors(runner, small, suffix, folder)


def _check_measuring(runner: Runner, small: Path, large: Path) -> None:
    steps: list[tuple[int, int]] = []
    subjects = [Subject("large", large), Subject("small", small), Subject("again", small)]
    found = runner.measure(
        subjects,
        calibrated_reference_ms=2.0,
        seed=1,
        progress=lambda done, planned: steps.append((done, planned)),
    )
    holds(
        [one.name for one in found] == [one.name for one in subjects],
        "measurements come in the order of the files, under their names",
    )
    for one, subject in zip(found, subjects, strict=True):
        holds(one.rounds, f"{one.name}: there is at least one round")
        samples = [s for r in one.rounds for s in (*r.samples_ms, *r.reference_ms)]
        holds(all(r.samples_ms and r.reference_ms for r in one.rounds), "no round is empty")
        holds(all(s > 0 for s in samples), f"{one.name}: every sample is above 0 ms")
        holds(one.sha256 == file_sha256(subject.path), "the measured file is told by its hash")
        holds(one.environment.device, "every measurement says its environment")
        holds(
            abs(one.median_ms - one.ratio * 2.0) < 1e-9,
            "a latency is the ratio to the reference times its calibrated latency",
        )
    large_, small_, again = found
    holds(compare(large_, small_).ratio > 1, "a network of many times the arithmetic is slower")
    holds(0.5 < compare(again, small_).ratio < 2, "the same file twice takes about the same time")
    holds(all(0 <= done <= planned for done, planned in steps), "progress stays within its plan")


def _check_errors(runner: Runner, small: Path, suffix: str, folder: Path) -> None:
    broken = folder / f"broken{suffix}"
    broken.write_bytes(b"this is no model")
    other = folder / "other.xyz"
    other.write_bytes(small.read_bytes())
    for file, what in (
        (folder / f"missing{suffix}", "a file that is not there"),
        (broken, "a file that is no model"),
        (other, "a file of another format"),
    ):
        raises(
            HwnasError,
            lambda file=file: runner.measure([Subject("wrong", file)]),
            f"{what} is told by an HwnasError",
        )
