"""The plan of a search, its duration and learning rates, and the paths of its files."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import msgspec

from hwnas.training.images.augment import Augmentation
from hwnas.training.plan import TrainingPlan

JUDGING_IMAGES = 256
"""Validation images on which ``evolution`` and ``nsga2`` evaluate a network during the search."""
JUDGING_SHARE = 3.0
"""Images on which networks are judged, as a share of those on which the supernet is trained. An
evaluation takes a third of the time of a training step, so both parts take the same time."""
MIN_QUERIES, MAX_QUERIES = 80, 1000
"""Bounds of the number of judged networks (`tools.evaluate.blackbox.queries`)."""


class SearchPlan(msgspec.Struct, frozen=True):
    """How long and how fast a supernet is trained and searched."""

    warmup_epochs: int = 6
    """Epochs that train weights only, on paths that are still nearly uniform."""
    search_epochs: int = 4
    batch_size: int = 64
    epoch_images: int = 0
    """Images of an epoch, where it is shorter than a pass over all of them; 0: all."""
    warmup_learning_rate: float = 0.1
    """Learning rate of the warm-up: it rises over the first tenth, then falls along a cosine to
    zero."""
    warmup_rise: float = 0.1
    """Share of the warm-up in which its learning rate rises."""
    search_learning_rate: float = 0.025
    """Learning rate of the search: it falls along a cosine to ``last_rate`` of itself, the rate of
    later rounds."""
    last_rate: float = 0.1
    weight_steps: int = 2
    """Weight steps before each architecture step."""
    arch_batch_size: int = 0
    """Validation images of an architecture step; 0: as many as a batch has training images."""
    first_arch_epoch: int = 0
    """Epochs of the search that train weights only."""
    augmentation: Augmentation = Augmentation()
    """Augmentation of training images; validation images are not augmented."""
    accumulate: int = 1
    """Parts of a batch that are computed one after another, to fit the memory."""
    tuning: TrainingPlan = TrainingPlan()
    """How strategy ``elastic`` trains the network that it cuts."""
    children: int = 40
    """Networks that strategy ``eas`` trains, each one for ``child_epochs``."""
    child_epochs: int = 3
    """Training of each child; the start network is trained for ``warmup_epochs``."""

    @property
    def arch_images(self) -> int:
        """Validation images of an architecture step."""
        return self.arch_batch_size or self.batch_size

    def images_shown(self, images: int) -> int:
        """Return the images of an epoch, where there are so many training images."""
        return self.epoch_images or images

    def epochs(self, rounds: int) -> int:
        """Return the epochs of warm-up and search up to the end of a round."""
        return self.warmup_epochs + self.search_epochs + (rounds - 1) * self.round_epochs

    def queries(self, images: int) -> int:
        """Return the number of networks that ``evolution`` and ``nsga2`` evaluate to choose
        networks, for a number of training images.

        It depends on the plan alone, not on the machine; 0 without a search.
        """
        if not self.trains_supernet:
            return 0
        judged = JUDGING_SHARE * self.epochs(1) * self.images_shown(images) / JUDGING_IMAGES
        return max(MIN_QUERIES, min(MAX_QUERIES, round(judged)))

    @property
    def round_epochs(self) -> int:
        """Search epochs of each round after the first."""
        return max(min(1, self.search_epochs), self.search_epochs // 2)

    @property
    def trains_supernet(self) -> bool:
        """Whether there is a search; otherwise networks are drawn by their latency alone."""
        return self.epochs(1) > 0


class SearchFiles(msgspec.Struct, frozen=True):
    """Paths of the state of a search."""

    checkpoint: Path
    log: Path

    @classmethod
    def of_run(cls, folder: Path) -> Self:
        """Return the files in the folder of a run."""
        return cls(folder / "checkpoints" / "search.safetensors", folder / "search" / "log.jsonl")

    @property
    def speed(self) -> Path:
        """Speed of each epoch (`hwnas.search.loop.SearchSpeed`)."""
        return self.log.with_name("speed.jsonl")

    @property
    def warm_up(self) -> Path:
        """Checkpoint at the end of the warm-up.

        It does not depend on latency, so a search for another device or budget can start from it.
        """
        return self.checkpoint.with_name(f"warm-up{self.checkpoint.suffix}")
