"""The contracts hold for what comes with hwnas, and each finds a fault that is made for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from hwnas.architecture.architecture import Genotype
from hwnas.devices.profile import MeasureSpec, find_profile
from hwnas.devices.runner import Subject, open_runner
from hwnas.devices.runners.simulated import SimulatedRunner
from hwnas.devices.transports.transport import CommandResult, Transport, open_transport
from hwnas.measurement.measurement import Measurement
from hwnas.plugins import load
from hwnas.spaces.grown.chain import plain_blocks
from hwnas.spaces.grown.space import GrownSpace, GrownStage, Layer
from hwnas.spaces.mobile.space import MobileSpace
from hwnas.testing import (
    ContractBroken,
    check_runner,
    check_space,
    check_strategy,
    check_transport,
    simulated_device,
    write_model,
)
from hwnas.testing.strategy import small_space

QUICK = MeasureSpec(warmup_s=0.0, processes=1, runs=3, min_rounds=6, max_rounds=6, ci=0.0)


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path / "home"))


def test_the_simulated_device_keeps_the_contract(tmp_path: Path) -> None:
    check_runner(open_runner(simulated_device(noise=0.01)), ".tflite", tmp_path)  # must not raise


def test_this_machine_keeps_the_contract(tmp_path: Path) -> None:
    profile = msgspec.structs.replace(find_profile("host-cpu"), measure=QUICK)
    check_runner(open_runner(profile), ".onnx", tmp_path)  # must not raise


class Turned(SimulatedRunner):
    def measure(self, subjects: Sequence[Subject], **more: Any) -> list[Measurement]:
        return super().measure(subjects, **more)[::-1]


class Uncalibrated(SimulatedRunner):
    def measure(self, subjects: Sequence[Subject], **more: Any) -> list[Measurement]:
        return super().measure(subjects, seed=more["seed"] if more else 0)


class Forgiving(SimulatedRunner):
    def measure(self, subjects: Sequence[Subject], **more: Any) -> list[Measurement]:
        return super().measure([subject for subject in subjects if subject.path.is_file()], **more)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (Turned, "measurements come in the order of the files"),
        (Uncalibrated, "a latency is the ratio to the reference times"),
        (Forgiving, "a missing file raises an HwnasError; it raised nothing"),
    ],
)
def test_a_runner_that_breaks_a_promise_is_named(kind: Any, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ContractBroken, match=sentence):
        check_runner(kind(simulated_device()), ".tflite", tmp_path)


def test_a_written_model_is_the_same_each_time(tmp_path: Path) -> None:
    a, b = (write_model(tmp_path / f"{name}.onnx") for name in "ab")
    assert a.read_bytes() == b.read_bytes()
    state = torch.random.get_rng_state()
    write_model(tmp_path / "c.onnx", channels=4)
    assert torch.equal(state, torch.random.get_rng_state())


def local() -> Transport:
    return open_transport(find_profile("host-cpu"))


def test_this_machines_shell_keeps_the_contract_of_a_transport(tmp_path: Path) -> None:
    check_transport(local(), tmp_path)  # must not raise


class Careless(Transport):
    """Joins words with blanks, as `adb shell` does."""

    def run(self, command: Sequence[str], **limits: Any) -> CommandResult:
        return self.shell(" ".join(command), **limits)


def test_a_transport_that_does_not_quote_is_reported(tmp_path: Path) -> None:
    good = local()
    with pytest.raises(ContractBroken, match="reaches the program as it is"):
        check_transport(Careless(good.name, good.connection, good.folder), tmp_path)


def test_the_default_space_keeps_the_contract() -> None:
    check_space(load("space", "mobile")((1, 28, 28), 10))  # must not raise
    check_space(small_space())  # must not raise


class Biased(MobileSpace, frozen=True):
    @property
    def size(self) -> int:
        return 7


def test_a_space_that_miscounts_is_reported() -> None:
    fields = msgspec.structs.asdict(small_space())
    with pytest.raises(ContractBroken, match="the size is the product of the candidates"):
        check_space(Biased(**fields))


@pytest.mark.parametrize("name", ["chain", "chain-large", "densenet"])
def test_spaces_that_are_grown_keep_the_contract(name: str) -> None:
    check_space(load("space", name)((1, 28, 28), 10))  # must not raise


class Shifted(GrownSpace, frozen=True):
    def layers(self, genotype: Genotype) -> Any:
        return super().layers(genotype)[::-1]


class Shrunken(GrownSpace, frozen=True):
    @property
    def largest(self) -> Genotype:
        return self.smallest


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        (Shifted, "undo each other"),
        (Shrunken, "no network computes less than the smallest or more than the largest"),
    ],
)
def test_a_grown_space_that_breaks_a_promise_is_named(kind: Any, sentence: str) -> None:
    same = GrownStage(
        widths=(4, 8), kernels=(1, 3), depth=2, start=(Layer(4, 3),), default=(Layer(8, 3),)
    )
    arguments = ("two", (1, 12, 12), 3, (same, same), "plain", plain_blocks)
    check_space(GrownSpace(*arguments))  # must not raise
    with pytest.raises(ContractBroken, match=sentence):
        check_space(kind(*arguments))


@pytest.mark.parametrize("name", ["random", "proxyless", "reinforce"])
def test_a_strategy_of_hwnas_keeps_the_contract(name: str) -> None:
    check_strategy(load("strategy", name))  # must not raise


def test_a_strategy_that_repeats_itself_is_reported() -> None:
    random: Any = load("strategy", "random")

    class Repeating(random):
        def candidates(self, *words: Any) -> list[Genotype]:
            return super().candidates(*words)[:1] * 2

    with pytest.raises(ContractBroken, match="no genotype twice"):
        check_strategy(Repeating)


def test_a_strategy_that_ignores_the_window_is_reported() -> None:
    random: Any = load("strategy", "random")

    class Careless(random):
        def candidates(self, count: int, low_ms: float, high_ms: float, seed: int) -> Any:
            return super().candidates(count, high_ms, 10 * high_ms, seed)

    with pytest.raises(ContractBroken, match="inside the latency window"):
        check_strategy(Careless)
