"""The plan of a fine-tuning follows from the images and the effort."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
import torch

from hwnas.architecture.architecture import Block
from hwnas.errors import HwnasError
from hwnas.measurement.classification import unbalanced
from hwnas.nn.network import Network
from hwnas.specialize.setup.work.tuning import MAX_EPOCHS, MIN_CROP_AREA, MIN_EPOCHS, tuning_plan
from hwnas.specialize.spec import EffortName
from hwnas.training.images.augment import NO_AUGMENTATION, Augmentation
from hwnas.training.loop import train
from tests.support.tiny import tiny_data

PHOTOS = np.arange(3000) % 5


def test_more_effort_is_more_epochs_of_the_same_photos() -> None:
    efforts: tuple[EffortName, ...] = ("trial", "quick", "standard", "full")
    epochs = [tuning_plan(PHOTOS, effort, NO_AUGMENTATION).epochs for effort in efforts]
    assert epochs == sorted({*epochs})


@pytest.mark.parametrize("images", [40, 400, 4_000, 400_000])
def test_the_epochs_are_within_limits_however_many_photos_there_are(images: int) -> None:
    plan = tuning_plan(np.arange(images) % 5, "standard", NO_AUGMENTATION)
    assert MIN_EPOCHS <= plan.epochs <= MAX_EPOCHS
    assert plan.batch_size <= images and 0 < plan.warmup_epochs < plan.epochs


def test_small_batches_have_a_low_rate() -> None:
    few, many = (tuning_plan(PHOTOS[:n], "quick", NO_AUGMENTATION) for n in (64, 3000))
    assert few.peak_learning_rate / few.batch_size == many.peak_learning_rate / many.batch_size


def test_long_trainings_average_their_weights() -> None:
    assert tuning_plan(PHOTOS, "full", NO_AUGMENTATION).ema > 0
    assert tuning_plan(PHOTOS[:300], "trial", NO_AUGMENTATION).ema == 0


def test_classes_are_weighted_where_they_are_unbalanced() -> None:
    labels = np.repeat([0, 1, 2], [300, 300, 100])
    assert unbalanced(labels) and not unbalanced(PHOTOS)
    assert tuning_plan(labels, "quick", NO_AUGMENTATION).class_weights == "balanced"
    assert tuning_plan(PHOTOS, "quick", NO_AUGMENTATION).class_weights == "none"


def test_the_augmentation_is_the_callers_with_larger_crops() -> None:
    assert tuning_plan(PHOTOS, "quick", NO_AUGMENTATION).augmentation == NO_AUGMENTATION
    crops = Augmentation(min_crop_area=0.25, saturation=0.5)
    larger = Augmentation(min_crop_area=MIN_CROP_AREA, saturation=0.5)
    assert tuning_plan(PHOTOS, "quick", crops).augmentation == larger


def test_a_network_of_unusual_scale_does_not_diverge() -> None:
    """The norms keep statistics that do not fit, so that each block enlarges its input."""
    data = tiny_data(42)

    def tuned(clip_norm: float) -> Network:
        torch.manual_seed(0)
        blocks = (
            Block("conv", 1, 8, 3, 2, 1, 12, "relu"),
            *(Block("basic", 8, 8, 3, 1, 1, 6, "relu"),) * 4,
            Block("logits", 8, 3, 1, 1, 1, 6),
        )
        network = Network(blocks)
        with torch.no_grad():
            for weight in network.parameters():
                weight.mul_(10 if weight.ndim == 4 else 1)
        train(network, data, msgspec.structs.replace(plan, clip_norm=clip_norm), seed=0)
        return network

    plan = tuning_plan(data.labels.numpy(), "trial", NO_AUGMENTATION)
    plan = msgspec.structs.replace(plan, epochs=6, patience=0)
    with pytest.raises(HwnasError, match="the training loss is not finite"):
        tuned(clip_norm=0.0)
    assert all(value.isfinite().all() for value in tuned(plan.clip_norm).state_dict().values())
