"""The worker's models in the real runtimes."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from weakref import WeakSet

import numpy as np
import pytest

from hwnas.devices.worker import main, rounds
from hwnas.devices.worker.model import BadModel, Model, input_shapes
from hwnas.devices.worker.runtimes import litert
from hwnas.devices.worker.runtimes.open import open_model
from hwnas.devices.worker.samples import Samples, Timer

NetWriter = Callable[..., Path]
FORMATS = [("onnxruntime", ".onnx"), ("litert", ".tflite")]


def answer(model: Model, images: np.ndarray) -> np.ndarray:
    """Run a model on images ``[N, C, H, W]``; returns ``[N, C, H, W]`` for any layout."""
    channels_last = model.inputs[0].shape[-1] == 3
    model.set_inputs([images.transpose(0, 2, 3, 1) if channels_last else images])
    model.run()
    (output,) = model.outputs()
    return output.transpose(0, 3, 1, 2) if channels_last else output


@pytest.mark.parametrize("threads", [1, 2])
def test_both_runtimes_compute_the_same_on_any_number_of_threads(
    tmp_path: Path, write_net: NetWriter, threads: int
) -> None:
    images = np.random.default_rng(0).standard_normal((1, 3, 16, 16), np.float32)
    expected = answer(open_model(str(write_net(tmp_path / "a.onnx")), "onnxruntime", 1), images)
    for runtime, suffix in FORMATS:
        model = open_model(str(write_net(tmp_path / f"a{suffix}")), runtime, threads)
        np.testing.assert_allclose(answer(model, images), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("runtime", "suffix"), FORMATS)
@pytest.mark.parametrize("threads", [1, 2])
def test_input_and_output_are_copies(
    tmp_path: Path, write_net: NetWriter, runtime: str, suffix: str, threads: int
) -> None:
    model = open_model(str(write_net(tmp_path / f"a{suffix}")), runtime, threads)
    (shape,) = input_shapes("", model.inputs)
    images = np.ones(shape, np.float32)
    model.set_inputs([images])
    images[:] = 7.0
    model.run()
    (first,) = model.outputs()
    before = first.copy()
    model.set_inputs([2 * np.ones(shape, np.float32)])
    model.run()
    np.testing.assert_array_equal(first, before)
    np.testing.assert_allclose(model.outputs()[0], 2 * before, rtol=1e-5)


@pytest.mark.parametrize(("runtime", "suffix"), FORMATS)
def test_a_corrupt_file_is_named(tmp_path: Path, runtime: str, suffix: str) -> None:
    file = tmp_path / f"broken{suffix}"
    file.write_bytes(b"this is no model")
    with pytest.raises(BadModel, match=f"broken{suffix}: ") as caught:
        open_model(str(file), runtime)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("runtime", "line"), [("onnxruntime", "onnxruntime>=1.18"), ("litert", "ai-edge-litert>=2.1")]
)
def test_a_missing_runtime_names_the_pip_line(
    monkeypatch: pytest.MonkeyPatch, runtime: str, line: str
) -> None:
    def nothing(name: str) -> ModuleType:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", nothing)
    with pytest.raises(RuntimeError, match=f'not installed here: pip install "{line}"'):
        open_model("any", runtime)


def test_an_unknown_runtime_names_the_known_ones() -> None:
    with pytest.raises(RuntimeError, match="no runtime named 'tvm'; known: litert, onnxruntime"):
        open_model("any", "tvm")


def test_integer_tensors_are_reached_through_their_scale() -> None:
    tensor = {"quantization": (0.5, -3), "dtype": np.int8}
    quantized = litert.quantised(np.array([0.0, 1.0, -1.24, 1e6]), tensor)
    assert quantized.tolist() == [-3, -1, -5, 127]
    assert litert.dequantised(quantized, tensor).tolist() == [0.0, 1.0, -1.0, 65.0]


def test_a_visit_surrounds_the_model_with_the_reference() -> None:
    calls: list[str] = []
    runs = lambda: calls.append("m"), lambda: calls.append("r")
    own, reference = rounds.visit(*runs, 7, Timer(1))
    assert (len(own.wall_ms), len(reference.wall_ms)) == (7, 7)
    assert "".join(calls) == "r" + "rrr" + "m" + "mmmmmmm" + "r" + "rrrr"


SPEC = {"runs": 1, "min_rounds": 4, "max_rounds": 40, "ci": 0.0, "max_s": 60.0, "threads": 1}


def samples(*wall_ms: float) -> Samples:
    """Return calls of which nothing but their wall clock is known."""
    result = Samples()
    result.wall_ms += wall_ms
    return result


class FakeModel:
    """A model without inputs that computes nothing."""

    version, inputs, output_names = "1", (), ()

    def __init__(self, path: str) -> None:
        self.path = path

    def set_inputs(self, arrays: object) -> None: ...

    def run(self) -> None: ...


def fake() -> Any:
    """Return a stand-in for an opened model, with a function of its own."""
    model = SimpleNamespace(rounds=[], run=lambda: None, beside=None, probe=None)
    model.model = model
    return model


def test_a_steady_model_leaves_the_rounds_and_an_unsteady_one_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steady, noisy, noise = fake(), fake(), iter(range(10_000))
    seen: list[bool] = []

    def visit(run: object, reference: object, runs: int, timer: object) -> tuple[Samples, Samples]:
        seen.append(run is steady.run)
        return samples(*[1.0 if seen[-1] else 1.0 + next(noise) % 5] * runs), samples(1.0)

    monkeypatch.setattr(rounds, "visit", visit)
    spec = {**SPEC, "runs": 3, "min_rounds": 6, "max_rounds": 15, "ci": 0.02}
    rounds.take_rounds(fake(), [steady, noisy], spec, 0, lambda done, total: None)
    assert (len(steady.rounds), len(noisy.rounds)) == (6, 15)
    assert len(set(seen[0:12:2])) == 2, "the order of a round is shuffled"


def test_time_is_up_only_after_the_least_number_of_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = iter(range(1, 10_000))
    monkeypatch.setattr(rounds, "visit", lambda *_: (samples(next(noise)), samples(1.0)))
    spec = {**SPEC, "max_s": 0.0}
    subject = fake()
    rounds.take_rounds(fake(), [subject], spec, 0, lambda done, total: None)
    assert len(subject.rounds) == 4


def test_batches_of_a_process_are_open_one_after_the_other_and_warmed_up_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    opened = WeakSet[FakeModel]()
    most, references, warm_ups, done = 0, 0, list[float](), list[tuple[int, int]]()

    def open_fake(path: str, *_: object) -> FakeModel:
        nonlocal most, references
        model = FakeModel(path)
        references += path == "reference"
        opened.add(model)
        most = max(most, len(opened))
        return model

    monkeypatch.setattr(rounds, "open_model", open_fake)
    monkeypatch.setattr(main, "warm_up", lambda _, spec: warm_ups.append(spec["warmup_s"]))
    request = {
        "runtime": "onnxruntime",
        "threads": 1,
        "seed": 0,
        "models": [{"name": str(number), "path": str(number)} for number in range(7)],
        "together": 3,
        "reference": "reference",
        "spec": {**SPEC, "warmup_s": 0.5, "max_rounds": 4},
    }
    result = main.measure(request, lambda *state: done.append(state))
    assert [model["name"] for model in result["models"]] == [str(n) for n in range(7)]
    assert {len(model["rounds"]) for model in result["models"]} == {4}
    assert most == 1 + 3, "the reference and a batch"
    assert references == 3, "each batch has a reference of its own"
    assert warm_ups == [0.5, 0.0, 0.0]
    counts = [count for count, _ in done]
    assert counts == sorted(counts) and done[-1] == (28, 28)
