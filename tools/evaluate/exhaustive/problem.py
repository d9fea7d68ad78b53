"""The space of the table, its images, and how each of its networks is trained."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import NamedTuple

from hwnas.architecture.architecture import Architecture, Genotype
from hwnas.data.datasets import load_dataset
from hwnas.spaces.mobile.space import MobileSpace
from hwnas.spaces.mobile.toml_file import chain_space
from hwnas.training.images.augment import NO_AUGMENTATION
from hwnas.training.images.loader import Data, as_data
from hwnas.training.plan import TrainingPlan, one_cycle_plan

Choices = tuple[int, ...]

IMAGE_SIZE = 16
TRAIN_IMAGES, VALID_IMAGES, TEST_IMAGES = 4000, 2000, 5000
"""Images of the official training set (the first two) and test set, drawn once."""
SEED = 0
"""Seed by which the images are drawn; the seeds of trainings are for weights and order."""
EPOCHS, BATCH_SIZE, LEARNING_RATE = 4, 128, 0.1
PLAN = one_cycle_plan(
    TrainingPlan(
        batch_size=BATCH_SIZE,
        peak_learning_rate=LEARNING_RATE,
        dropout=0.0,
        augmentation=NO_AUGMENTATION,
    ),
    EPOCHS,
)


class Task(NamedTuple):
    """A data set at a size."""

    data: str
    input_shape: tuple[int, int, int]
    """``(C, H, W)`` of the images, which are fitted to it."""


TABLE_TASK = Task("fashion-mnist", (1, IMAGE_SIZE, IMAGE_SIZE))
"""Task of the table."""
SECOND_TASK = Task("cifar10", (3, 32, 32))
"""Task of `tools.evaluate.exhaustive.ranking.second_data`."""


class Images(NamedTuple):
    """Images to train on, to choose networks by, and to report accuracies on."""

    train: Data
    valid: Data
    test: Data


def space(task: Task = TABLE_TASK) -> MobileSpace:
    """Return the space of the table, for the images of a task."""
    file = Path(__file__).parent / "space.toml"
    return chain_space(str(file), task.input_shape, 10)


def all_choices(space: MobileSpace) -> list[Choices]:
    """Return the choices of every network, the last decision changing fastest."""
    return list(product(*(range(len(decision.candidates)) for decision in space.decisions)))


def architecture(space: MobileSpace, choices: Choices) -> Architecture:
    return space.architecture(Genotype(space.name, choices))


def load_images(task: Task = TABLE_TASK) -> Images:
    """Load the images; raises `HwnasError` where the data set can be neither read nor loaded."""
    dataset = load_dataset(task.data, input_shape=task.input_shape)
    splits = (dataset.train, dataset.valid, dataset.test)
    counts = (TRAIN_IMAGES, VALID_IMAGES, TEST_IMAGES)
    return Images(
        *(
            as_data(split, dataset).sample(count, SEED)
            for split, count in zip(splits, counts, strict=True)
        )
    )
