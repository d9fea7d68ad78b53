"""Schedules of papers: how long they search and train, and with which rates and augmentation.

Each recipe names its paper. Recipes for photos of ImageNet or images of CIFAR-10 are used for other
data of that kind, see `recipe_plans`.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from hwnas.search.plan import SearchPlan
from hwnas.spaces.cells.space import CellSpace
from hwnas.spaces.grown.space import GrownSpace
from hwnas.spaces.space import SearchSpace
from hwnas.specialize.setup.augmentation import MANY_IMAGES, PHOTO_SIZE
from hwnas.training.distributed import ranks
from hwnas.training.images.augment import Augmentation
from hwnas.training.plan import TrainingPlan

IMAGENET_IMAGES, CIFAR_IMAGES = 1_231_167, 45_000
"""Training images of the papers, without those for validation."""
MIN_STEPS = 100
"""Steps of an epoch below which batches are halved."""
MIN_BATCH = 32
"""Least batch size after halving."""
SMALL_CROP_AREA = 0.25
"""Least area of crops for fewer than `MANY_IMAGES` photos."""


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """The schedules of a paper."""

    source: str
    images: int
    """Training images of the paper."""
    arch_learning_rate: float
    """Learning rate on the scale of `Effort.arch_learning_rate`: DARTS uses 0.3 of it, ISTA-NAS
    0.6."""
    search: SearchPlan
    training: TrainingPlan


PHOTO_CROPS = Augmentation(shift=0.0, min_crop_area=0.08)
SMALL_SHIFTS = Augmentation(shift=1 / 8)
"""Shifts by up to four of 32 pixels."""
CUTOUT = replace(SMALL_SHIFTS, cutout=1 / 2)
"""Side of the cutout: 16 of 32 pixels."""

PROXYLESS_IMAGENET = Recipe(
    source="ProxylessNAS on ImageNet (Cai et al., arXiv:1812.00332, and its code)",
    images=IMAGENET_IMAGES,
    arch_learning_rate=1e-3,
    search=SearchPlan(
        warmup_epochs=40,
        search_epochs=120,
        batch_size=256,
        warmup_learning_rate=0.05,
        warmup_rise=0.0,
        search_learning_rate=0.025,
        last_rate=0.0,
        weight_steps=5,
        first_arch_epoch=1,
        augmentation=replace(PHOTO_CROPS, brightness=32 / 255, saturation=0.5),
    ),
    training=TrainingPlan(
        epochs=300,
        batch_size=256,
        peak_learning_rate=0.05,
        warmup_epochs=0.0,
        weight_decay=4e-5,
        label_smoothing=0.1,
        dropout=0.1,
        augmentation=replace(PHOTO_CROPS, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
    ),
)

PROXYLESS_CIFAR = Recipe(
    # the code of this experiment is not public: epochs and rates of the search are ours
    source="ProxylessNAS on CIFAR-10 (Cai et al., arXiv:1812.00332, section 4.1)",
    images=CIFAR_IMAGES,
    arch_learning_rate=6e-3,
    search=SearchPlan(
        warmup_epochs=40,
        search_epochs=120,
        warmup_rise=0.0,
        last_rate=0.0,
        augmentation=SMALL_SHIFTS,
    ),
    training=TrainingPlan(epochs=300, warmup_epochs=0.0, dropout=0.0, augmentation=CUTOUT),
)

IMAGENET_REWARDS = Recipe(
    source="ProxylessNAS by REINFORCE on ImageNet (Cai et al., arXiv:1812.00332, and its code)",
    images=IMAGENET_IMAGES,
    arch_learning_rate=1e-3,
    # 300 updates an epoch, each with the rewards of 10 networks on 1,000 images
    search=replace(PROXYLESS_IMAGENET.search, weight_steps=16, arch_batch_size=1000),
    training=PROXYLESS_IMAGENET.training,
)

CIFAR_REWARDS = replace(
    PROXYLESS_CIFAR,
    arch_learning_rate=1e-2,
    search=replace(PROXYLESS_CIFAR.search, weight_steps=16, arch_batch_size=1000),
)

DARTS = Recipe(
    source="DARTS on CIFAR-10 (Liu et al., arXiv:1806.09055, appendix A)",
    images=CIFAR_IMAGES,
    arch_learning_rate=1e-3,
    search=SearchPlan(
        warmup_epochs=0,
        search_epochs=50,
        batch_size=64,
        search_learning_rate=0.025,
        last_rate=0.04,
        weight_steps=1,
        augmentation=SMALL_SHIFTS,
    ),
    training=TrainingPlan(
        epochs=600,
        batch_size=96,
        peak_learning_rate=0.025,
        warmup_epochs=0.0,
        nesterov=False,
        weight_decay=3e-4,
        decay_all=True,
        label_smoothing=0.0,
        dropout=0.0,
        augmentation=CUTOUT,
        clip_norm=5.0,
        auxiliary=0.4,
        drop_path=0.2,
    ),
)

PC_DARTS = replace(
    DARTS,
    source="PC-DARTS on CIFAR-10 (Xu et al., arXiv:1907.05737, section 4)",
    arch_learning_rate=2e-3,
    search=replace(
        DARTS.search,
        batch_size=256,
        search_learning_rate=0.1,
        last_rate=0.0,
        first_arch_epoch=15,
    ),
)

ISTA_TWO_STAGE = replace(
    DARTS,
    source="ISTA-NAS on CIFAR-10, two-stage (Yang et al., arXiv:2010.06176, section 4)",
    search=replace(DARTS.search, batch_size=256, search_learning_rate=0.1, last_rate=0.01),
)

ISTA_ONE_STAGE = replace(
    DARTS,
    source="ISTA-NAS on CIFAR-10, one-stage (Yang et al., arXiv:2010.06176, section 4)",
    search=replace(
        DARTS.search, search_epochs=120, batch_size=96, last_rate=1.0, augmentation=CUTOUT
    ),
)

EAS = Recipe(
    source="EAS on CIFAR-10 (Cai et al., arXiv:1707.04873, section 4.1)",
    images=CIFAR_IMAGES,
    arch_learning_rate=1e-3,
    search=SearchPlan(
        warmup_epochs=20,
        search_epochs=1,
        augmentation=SMALL_SHIFTS,
        children=450,
        child_epochs=20,
    ),
    training=TrainingPlan(
        epochs=300,
        peak_learning_rate=0.1,
        warmup_epochs=0.0,
        weight_decay=1e-4,
        label_smoothing=0.0,
        dropout=0.0,
        augmentation=SMALL_SHIFTS,
    ),
)

CELLS = {
    "darts": DARTS,
    "darts-2": DARTS,
    "pc-darts": PC_DARTS,
    "ista": ISTA_TWO_STAGE,
    "ista-one-stage": ISTA_ONE_STAGE,
}
"""Recipes of strategies that search cells; other strategies train their networks as DARTS does."""


def recipe_of(space: SearchSpace, strategy: str, size: int) -> Recipe:
    """Return the recipe for a space and a strategy on images of a height in pixels."""
    photos = size >= PHOTO_SIZE
    if isinstance(space, GrownSpace):
        return EAS
    if isinstance(space, CellSpace):
        return CELLS.get(strategy, replace(PROXYLESS_CIFAR, training=DARTS.training))
    if strategy == "reinforce":
        return IMAGENET_REWARDS if photos else CIFAR_REWARDS
    return PROXYLESS_IMAGENET if photos else PROXYLESS_CIFAR


def recipe_plans(
    recipe: Recipe, images: int, input_shape: tuple[int, int, int], flip: bool | None
) -> tuple[SearchPlan, TrainingPlan]:
    """Return the plans of a recipe for training images of a shape ``(C, H, W)``.

    The epochs are the paper's; for more images than in the paper there are fewer epochs, so that as
    many images are shown. If an epoch has fewer than `MIN_STEPS` steps, batches are halved down to
    `MIN_BATCH`, and learning rates are scaled with them. Each epoch has at least one architecture
    step.
    """
    search, training = recipe.search, recipe.training
    share = min(1.0, recipe.images / images)

    def epochs(count: int) -> int:
        return max(min(count, 1), round(count * share))

    search = scaled_search(search, _batch_size(search.batch_size, images))
    search = replace(
        search,
        weight_steps=max(1, min(search.weight_steps, images // search.batch_size)),
        warmup_epochs=epochs(search.warmup_epochs),
        search_epochs=epochs(search.search_epochs),
        arch_batch_size=search.arch_batch_size - search.arch_batch_size % ranks(),
        first_arch_epoch=min(search.first_arch_epoch, epochs(search.search_epochs) - 1),
        child_epochs=epochs(search.child_epochs),
        augmentation=_fitted(search.augmentation, images, input_shape, flip),
    )
    training = replace(
        scaled_training(training, _batch_size(training.batch_size, images)),
        epochs=epochs(training.epochs),
        augmentation=_fitted(training.augmentation, images, input_shape, flip),
    )
    return search, training


def scaled_search(plan: SearchPlan, batch_size: int) -> SearchPlan:
    """Return a plan with another batch size and learning rates in proportion to it."""
    share = batch_size / plan.batch_size
    return replace(
        plan,
        batch_size=batch_size,
        warmup_learning_rate=share * plan.warmup_learning_rate,
        search_learning_rate=share * plan.search_learning_rate,
    )


def scaled_training(plan: TrainingPlan, batch_size: int) -> TrainingPlan:
    """Return a plan with another batch size and a learning rate in proportion to it."""
    rate = batch_size / plan.batch_size * plan.peak_learning_rate
    return replace(plan, batch_size=batch_size, peak_learning_rate=rate)


def _batch_size(planned: int, images: int) -> int:
    size = planned
    while size // 2 >= MIN_BATCH and images // size < MIN_STEPS:
        size //= 2
    size = max(4, min(size, images // 8))
    return max(ranks(), size - size % ranks())  # equal parts


def _fitted(
    augmentation: Augmentation, images: int, input_shape: tuple[int, int, int], flip: bool | None
) -> Augmentation:
    """Return the augmentation of a recipe for other images: crops for photos, colours for colour
    images, and grey images are not mirrored."""
    channels, size, _ = input_shape
    if size >= PHOTO_SIZE:
        least = PHOTO_CROPS.min_crop_area if images >= MANY_IMAGES else SMALL_CROP_AREA
        augmentation = replace(augmentation, shift=0.0, min_crop_area=least)
    mirrored = channels > 1 if flip is None else flip
    augmentation = replace(augmentation, flip=mirrored)
    if channels > 1:
        return augmentation
    return replace(augmentation, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)
