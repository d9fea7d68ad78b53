"""The amount of search and training of a run, in images shown, so that it fits data of any size."""

from __future__ import annotations

import msgspec

from hwnas.search.plan import SearchPlan
from hwnas.specialize.spec import EffortName
from hwnas.training.distributed import ranks
from hwnas.training.images.augment import Augmentation
from hwnas.training.plan import TrainingPlan, one_cycle_plan, scaled_learning_rate

REFERENCE_MACS = 5_000_000
"""MACs of the networks for which an `Effort` states numbers of images; larger networks are trained
on fewer."""


class Effort(msgspec.Struct, frozen=True):
    """The work of a run, for networks of `REFERENCE_MACS`.

    Without passes the schedules are those of a paper, for networks of any size (`work.recipes`).
    """

    warmup_passes: int
    """Images shown to the supernet before architectures are searched."""
    search_passes: int
    training_passes: int
    """Images shown to each network that is trained from scratch."""
    arch_learning_rate: float
    screened: int
    """Networks that are exported and measured before any is trained."""
    trained: int
    """Number of these that are trained from scratch."""
    baselines: int
    """Uniform networks that are trained as well, for comparison."""
    max_epochs: int = 60
    """Most epochs of a training; warm-up and search get at most half of that each. More would only
    overfit a small data set."""
    children: int = 40
    """Networks that EAS trains in a search."""
    child_epochs: int = 3
    """Epochs of training for each of them."""
    widens: bool = False
    """Whether there is time to train networks of several times the MACs."""

    min_warmup_steps: int = 0
    """Least number of steps of a warm-up; with fewer, the search is left out (`work.minimum`).
    After 375 steps of warm-up the networks of a supernet for Fashion-MNIST were 70 to 75 %
    accurate."""
    min_search_steps: int = 0

    @property
    def is_papers(self) -> bool:
        """Whether schedules are those of a paper."""
        return self.training_passes == 0


class WorkPlan(msgspec.Struct, frozen=True):
    """The planned search and trainings of a run: ``plan.json``."""

    effort: Effort
    search: SearchPlan
    training: TrainingPlan


EFFORTS: dict[EffortName, Effort] = {
    # to try it: the whole search, but one network and a short training
    "trial": Effort(24_000, 16_000, 12_000, 0.1, 8, 1, 0, 20, 8, 2),
    "quick": Effort(16_000, 12_000, 32_000, 0.1, 8, 3, 1, 60, 40, 3, False, 200, 150),
    "standard": Effort(100_000, 100_000, 150_000, 0.03, 12, 3, 1, 150, 150, 8, True, 200, 150),
    # as long as in the papers, see `work.recipes`
    "full": Effort(0, 0, 0, 0.001, 16, 4, 2, widens=True),
}


def plans(
    effort: Effort,
    images: int,
    macs: float,
    augmentation: Augmentation,
    step_macs: float | None = None,
) -> tuple[SearchPlan, TrainingPlan]:
    """Return the plans for ``images`` training images and networks of ``macs``.

    ``step_macs`` are the MACs of a search step for an image, if it runs more than one network.
    """
    batch_size = max(4, min(64, images // 8))
    batch_size = max(ranks(), batch_size - batch_size % ranks())  # equal parts

    def epochs(passes: int, macs: float, min_epochs: int, max_epochs: int) -> int:
        share = min(1.0, REFERENCE_MACS / macs)
        return min(max_epochs, max(min_epochs, round(passes * share / images)))

    step_macs = step_macs or macs

    search = SearchPlan(
        warmup_epochs=epochs(effort.warmup_passes, step_macs, 1, effort.max_epochs // 2),
        search_epochs=epochs(effort.search_passes, step_macs, 1, effort.max_epochs // 2),
        batch_size=batch_size,
        augmentation=augmentation,
        children=effort.children,
        child_epochs=effort.child_epochs,
    )
    training = TrainingPlan(
        batch_size=batch_size,
        peak_learning_rate=scaled_learning_rate(batch_size),
        augmentation=augmentation,
    )
    training_epochs = epochs(effort.training_passes, macs, 3, effort.max_epochs)
    return search, one_cycle_plan(training, training_epochs)
