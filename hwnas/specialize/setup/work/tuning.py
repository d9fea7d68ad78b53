"""The fine-tuning of a network with published weights on the user's photos.

The measurements behind it are in ``tools/evaluate/tuning/results``.
"""

from __future__ import annotations

from msgspec.structs import replace

from hwnas.measurement.classification import Labels, unbalanced
from hwnas.specialize.spec import EffortName
from hwnas.training.images.augment import Augmentation
from hwnas.training.plan import TrainingPlan, ema_decay, one_cycle_plan

PASSES: dict[EffortName, int] = {
    "trial": 6_000,
    "quick": 20_000,
    "standard": 50_000,
    "full": 150_000,
}
"""Number of images shown, over all epochs."""
MIN_EPOCHS, MAX_EPOCHS = 3, 30
BATCH_SIZE = 32
PEAK_LEARNING_RATE = 0.001
"""Peak learning rate for batches of `BATCH_SIZE` images; smaller batches have a proportionally
smaller one."""
MIN_CROP_AREA = 0.6
"""Least area of crops: smaller crops differ too much from the images that the classifier was fitted
to."""
EMA_STEPS = 500
"""Least number of steps for an average of the weights."""
CLIP_NORM = 50.0
"""Largest norm of the gradients. Those of EfficientNet-Lite0 on photos are below it; networks whose
scale is unusual diverge with larger ones."""


def tuning_plan(labels: Labels, effort: EffortName, augmentation: Augmentation) -> TrainingPlan:
    """Return the plan to fine-tune a network on images with these ``labels``.

    The classifier begins as a logistic regression; then all layers are trained, those near the
    image at lower rates, and batch norms with the statistics of the published network.
    """
    images = len(labels)
    if augmentation.min_crop_area > 0:
        augmentation = replace(augmentation, min_crop_area=MIN_CROP_AREA)
    epochs = min(MAX_EPOCHS, max(MIN_EPOCHS, round(PASSES[effort] / images)))
    batch_size = max(4, min(BATCH_SIZE, images // 8))
    steps = epochs * (images // batch_size)
    plan = TrainingPlan(
        batch_size=batch_size,
        peak_learning_rate=PEAK_LEARNING_RATE * batch_size / BATCH_SIZE,
        weight_decay=1e-4,
        label_smoothing=0.1,
        augmentation=augmentation,
        ema=ema_decay(steps) if steps > EMA_STEPS else 0.0,
        layer_decay=0.9,
        probe=True,
        frozen_norms=True,
        clip_norm=CLIP_NORM,
        patience=max(MIN_EPOCHS, epochs // 3),
        class_weights="balanced" if unbalanced(labels) else "none",
    )
    return one_cycle_plan(plan, epochs)
