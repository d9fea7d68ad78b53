"""Samples of noise on which files are compared with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

import hwnas
from hwnas.errors import ExportError
from hwnas.export.graph.nodes import TensorSpec
from hwnas.export.onnx_reader.noise import comparable_samples
from hwnas.export.onnx_reader.reference import Reference
from hwnas.export.verification.metrics import Array, hidden_error
from tests.support.networks.onnx_files import save

Run = tuple[float, tuple[float, ...]]


class Runs(Reference):
    """A reference whose errors and largest outputs are given, in the order of the samples."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.path, self.runs = Path("net.onnx"), iter(runs)

    def outputs(self, inputs: Sequence[Array], names: Sequence[str]) -> dict[str, Array]:
        return {}

    def own_runs(self, samples: Iterable[Sequence[Array]], names: Sequence[str]) -> Iterator[Run]:
        for _ in samples:
            yield next(self.runs)


def chosen(*runs: Run) -> list[Array]:
    """Return the samples that are taken of a network whose runs are given, for a count of 4."""
    inputs = [TensorSpec("x", (1, 3))]
    return [sample for [sample] in comparable_samples(Runs(runs), ["x"], inputs, 4, 2)]


def normal(*places: int) -> Array:
    noise = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    return noise[list(places)]


EXACT, ROUNDED, LOST = (0.0, (1.0,)), (6e-5, (1.0,)), (0.3, (1.0,))


def test_normal_noise_is_taken_where_the_runtime_agrees_with_itself() -> None:
    np.testing.assert_array_equal(chosen(EXACT, EXACT, EXACT, EXACT), normal(0, 1, 2, 3))


def test_samples_that_rounding_changes_are_left_out() -> None:
    np.testing.assert_array_equal(chosen(LOST, EXACT, ROUNDED, EXACT), normal(1, 3))


def test_samples_with_small_outputs_are_left_out() -> None:
    small = (0.0, (1e-5,))
    np.testing.assert_array_equal(chosen(small, EXACT, EXACT, EXACT), normal(1, 2, 3))
    np.testing.assert_array_equal(chosen(small, small, small, small), normal(0, 1, 2, 3))


def test_another_kind_of_noise_is_tried_where_most_samples_are_mostly_rounding() -> None:
    samples = chosen(LOST, LOST, EXACT, LOST, EXACT, EXACT, EXACT, LOST)
    np.testing.assert_array_equal(samples[:1], normal(2))
    assert len(samples) == 4
    assert all(((sample >= 0) & (sample < 1)).all() for sample in samples[1:])


def test_samples_that_are_nearly_as_good_are_taken_if_there_are_no_others() -> None:
    np.testing.assert_array_equal(chosen(LOST, ROUNDED, *22 * [LOST]), normal(1))


def test_a_network_of_rounding_is_refused_with_its_smallest_error() -> None:
    with pytest.raises(ExportError, match=r"net\.onnx: .* differs from itself by 0\.3 of"):
        chosen((0.5, (1.0,)), *23 * [LOST])


def test_a_sigmoid_far_from_zero_is_compared_where_its_values_say_something(
    tmp_path: Path,
) -> None:
    nodes = [
        helper.make_node("Mul", ["x", "factor"], ["wide"]),
        helper.make_node("Sigmoid", ["wide"], ["y"]),
    ]
    path = save(tmp_path / "net.onnx", nodes, (1, 2), {"factor": np.array(20.0, np.float32)})
    artifact = hwnas.export(path, None, tmp_path / "net.tflite")
    assert artifact.parity is not None
    assert artifact.parity.images > 1 and artifact.parity.max_relative_error < 1e-6


def test_values_smaller_than_the_rounding_of_the_largest_are_not_compared() -> None:
    expected = np.array([[[1.0, 4e-8]], [[0.5, 2e-7]]])
    rounded, wrong = expected.copy(), expected.copy()
    rounded[0, 0, 1] += 1e-7
    wrong[0, 0, 1] += 3e-7
    assert hidden_error(rounded, expected) == 0.0
    assert hidden_error(wrong, expected) == pytest.approx(1.5)
