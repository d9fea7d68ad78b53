"""How much work a run does: in passes over images, so that it fits data of any size."""

from __future__ import annotations

import msgspec

from hwnas.errors import UnknownName
from hwnas.search.plan import SearchPlan
from hwnas.training.distributed import ranks
from hwnas.training.loop import TrainingPlan

REFERENCE_MACS = 5_000_000
"""The passes of an `Effort` hold for networks of this size; larger ones get fewer."""


class Effort(msgspec.Struct, frozen=True):
    """Work to be spent, for networks of `REFERENCE_MACS`."""

    warmup_passes: int
    """Images shown to the supernet before architectures are searched."""
    search_passes: int
    training_passes: int
    """Images shown to each network that is trained from scratch."""
    arch_learning_rate: float
    screened: int
    """Networks that are exported and measured before any is trained."""
    trained: int
    """Networks of these that are trained to the end."""
    baselines: int
    """Uniform networks that are trained beside them."""
    most_epochs: int = 60
    """Of a training; warm-up and search get at most half of it each: small data sets only
    learn by heart what they are shown more often."""
    children: int = 40
    """Networks that EAS trains in a search."""
    child_epochs: int = 3
    """Of each of them."""
    widens: bool = False
    """Whether there is time to train networks of several times the MACs."""


EFFORTS = {
    # a look: the whole search, but one network and a short training
    "trial": Effort(24_000, 16_000, 12_000, 0.1, 8, 1, 0, 20, 8, 2),
    "quick": Effort(16_000, 12_000, 32_000, 0.1, 8, 3, 1, 60, 40, 3),
    "standard": Effort(100_000, 100_000, 150_000, 0.03, 12, 3, 1, 150, 150, 8, True),
    # ProxylessNAS on ImageNet: 40 + 120 + 300 epochs of 1.23 M images; EAS on CIFAR-10: 20 epochs
    "full": Effort(49_000_000, 148_000_000, 369_000_000, 0.001, 16, 4, 2, 300, 450, 20, True),
}


def find_effort(name: str) -> Effort:
    if name not in EFFORTS:
        raise UnknownName("effort", name, EFFORTS)
    return EFFORTS[name]


def plans(
    effort: Effort, images: int, macs: float, flip: bool, step_macs: float | None = None
) -> tuple[SearchPlan, TrainingPlan]:
    """Return the plans for ``images`` training images and networks of ``macs``.

    ``step_macs`` is what a step of the search computes on an image, where that is not one network.
    """
    batch_size = max(4, min(64, images // 8))
    batch_size = max(ranks(), batch_size - batch_size % ranks())  # equal parts

    def epochs(passes: int, macs: float, least: int, most: int) -> int:
        share = min(1.0, REFERENCE_MACS / macs)
        return min(most, max(least, round(passes * share / images)))

    step_macs = step_macs or macs

    search = SearchPlan(
        warmup_epochs=epochs(effort.warmup_passes, step_macs, 1, effort.most_epochs // 2),
        search_epochs=epochs(effort.search_passes, step_macs, 1, effort.most_epochs // 2),
        batch_size=batch_size,
        flip=flip,
        children=effort.children,
        child_epochs=effort.child_epochs,
    )
    training = TrainingPlan(
        epochs=epochs(effort.training_passes, macs, 3, effort.most_epochs),
        batch_size=batch_size,
        peak_learning_rate=0.1 * batch_size / 64,
        flip=flip,
    )
    return search, training
