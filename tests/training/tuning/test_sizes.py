"""Images are small in the first steps of a training and whole in the last ones."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hwnas.training.images.augment import Augmentation
from hwnas.training.images.batches import Batches
from hwnas.training.loop import train
from hwnas.training.plan import TrainingPlan
from hwnas.training.tuning.sizes import shown, small_size
from tests.support.tiny import tiny_data


@pytest.mark.parametrize(
    ("size", "small"), [(224, 160), (160, 112), (128, 96), (64, 48), (32, 16), (16, 16), (12, 12)]
)
def test_the_small_size_is_about_seven_tenths(size: int, small: int) -> None:
    assert small_size(size) == small


def test_images_are_small_in_the_share_of_steps_that_the_plan_says() -> None:
    plan = TrainingPlan(small_share=0.5)
    sizes = [shown(torch.rand(1, 3, 64, 64), plan, step, 10).shape[-1] for step in range(10)]
    assert sizes == 5 * [48] + 5 * [64]


def test_small_images_are_means_of_the_pixels_that_they_cover() -> None:
    image = torch.zeros(1, 1, 32, 32)
    image[..., ::2] = 1
    small = shown(image, TrainingPlan(small_share=1.0), 0, 1)
    assert small.shape[-1] == 16
    torch.testing.assert_close(small[..., 1:-1], torch.full((1, 1, 16, 14), 0.5))


def test_the_last_steps_have_whole_images() -> None:
    data = tiny_data(16, 32)
    whole = data.normalise(data.images)  # pyright: ignore[reportArgumentType]
    batches = Batches(data, 4, Augmentation(min_crop_area=0.3, flip=False), 0, whole_from=5)
    uncropped = [
        all(any(torch.equal(image, other) for other in whole) for image in batches.batch(step)[0])
        for step in range(8)
    ]
    assert uncropped == 5 * [False] + 3 * [True]


def test_a_training_shows_small_images_first_and_whole_ones_last() -> None:
    data = tiny_data(16, 32)
    whole = data.normalise(data.images)  # pyright: ignore[reportArgumentType]
    seen: list[tuple[int, bool]] = []
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1, 3))

    def note(_: object, inputs: tuple[torch.Tensor]) -> None:
        size = inputs[0].shape[-1]
        seen.append((size, size == 32 and any(torch.equal(inputs[0][0], o) for o in whole)))

    network.register_forward_pre_hook(note)
    plan = TrainingPlan(
        epochs=2,
        batch_size=4,
        augmentation=Augmentation(min_crop_area=0.3, flip=False),
        small_share=0.5,
        whole_share=0.25,
    )
    train(network, data, plan, seed=0)
    assert seen == 4 * [(16, False)] + 2 * [(32, False)] + 2 * [(32, True)]
