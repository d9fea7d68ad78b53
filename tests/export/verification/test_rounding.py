"""Int8 files of classifiers without labels: noise passes, wrong files do not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hwnas.architecture.artifact import DecidedClasses, Parity
from hwnas.export.quantization.ptq import int8_quantization
from hwnas.export.verification.metrics import Array, decided_classes
from hwnas.export.verification.rounding import exceeded_limit, rounded_parity

LIMITS = int8_quantization("onnx")
IMAGES, CLASSES = 16, 10


def problem(outputs: Array, expected: Array) -> str | None:
    """Return why a file with these logits is refused, if it is."""
    theirs, own = ({"logits": each[:, None].astype(np.float32)} for each in (outputs, expected))
    return exceeded_limit(rounded_parity(Path("net.onnx"), theirs, own, None), LIMITS)


def normal(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape)


def untrained(seed: int) -> Array:
    """Logits that differ from image to image by less than from class to class."""
    return normal(CLASSES, seed=seed) + 0.3 * normal(IMAGES, CLASSES, seed=seed + 100)


@pytest.mark.parametrize("seed", range(20))
def test_noise_that_changes_close_classes_is_no_fault(seed: int) -> None:
    """20 dB below the logits it changes up to three of 16 classes, all of them close ones."""
    expected = untrained(seed)
    assert problem(expected + 0.1 * normal(IMAGES, CLASSES, seed=seed + 200), expected) is None


def test_noise_changes_classes_at_all() -> None:
    flips = 0
    for seed in range(20):
        expected = untrained(seed)
        outputs = expected + 0.1 * normal(IMAGES, CLASSES, seed=seed + 200)
        flips += int((outputs.argmax(1) != expected.argmax(1)).sum())
    assert flips > 10


@pytest.mark.parametrize("seed", range(20))
def test_logits_that_do_not_depend_on_the_image_are_refused(seed: int) -> None:
    expected = untrained(seed)
    if len(set(expected.argmax(axis=1))) > 1:
        assert problem(np.broadcast_to(expected.mean(axis=0), expected.shape), expected)


def test_a_large_constant_does_not_hide_a_wrong_file() -> None:
    expected = 100 + normal(IMAGES, CLASSES)
    assert "between the images" in str(problem(np.full_like(expected, 100), expected))
    assert problem(100 + normal(IMAGES, CLASSES, seed=1), expected)


def test_a_single_image_is_judged_by_its_class() -> None:
    expected = normal(1, CLASSES)
    assert problem(expected + 0.01 * normal(1, CLASSES, seed=1), expected) is None
    assert problem(np.roll(expected, 1, axis=1), expected)


@pytest.mark.parametrize(
    ("decided", "message"),
    [
        (DecidedClasses(4, 0.75, 8.0), ""),
        (DecidedClasses(4, 0.5, 8.0), "only 50.00% of the 4 of 16 images"),
        (DecidedClasses(4, 0.75, 3.0), "is 3.0 dB below what differs"),
        (DecidedClasses(12, 0.75, 8.0), "only 75.00% of the 12 of 16 images"),
        (DecidedClasses(12, 0.84, 3.0), ""),
        (DecidedClasses(0, 0.0, None), ""),
    ],
)
def test_one_of_few_decided_classes_may_differ(decided: DecidedClasses, message: str) -> None:
    agreement = Parity(16, 0.1, 1.0, 0.8, 0.8, sqnr_db=10.0, decided=decided)
    assert message in str(exceeded_limit(agreement, LIMITS))
    assert bool(message) == bool(exceeded_limit(agreement, LIMITS))


def test_a_network_of_the_same_logits_for_all_images_is_judged_by_their_noise() -> None:
    expected = np.broadcast_to(1 + 1e-3 * normal(CLASSES), (IMAGES, CLASSES))
    noise = normal(IMAGES, CLASSES)
    assert problem(expected + 0.1 * noise, expected) is None
    assert "noise of" in str(problem(expected + noise, expected))


@pytest.mark.parametrize("seed", range(5))
def test_logits_in_another_order_are_refused(seed: int) -> None:
    """Of the classes, or of the images."""
    expected = normal(IMAGES, CLASSES, seed=seed)
    assert problem(np.roll(expected, 1, axis=1), expected)
    assert problem(np.roll(expected, 1, axis=0), expected)


def test_two_classes_that_are_swapped_are_refused() -> None:
    expected = normal(256, 4)
    assert problem(expected[:, [1, 0, 2, 3]], expected)


def test_a_class_is_decided_beyond_two_deviations_of_the_difference_of_two_logits() -> None:
    expected = np.zeros((1000, 2))
    expected[:, 0] = np.linspace(0, 1, 1000)
    noise = 0.05 * normal(1000, 2)
    decided = decided_classes(expected + noise, expected)
    # the noise of two logits about their mean has half the power of the noise
    limit = 2 * np.sqrt(2) * 0.05 / np.sqrt(2)
    assert decided.images == pytest.approx(1000 * (1 - limit), abs=15)
    assert decided.agreement > 0.98
