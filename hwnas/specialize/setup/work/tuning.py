"""How a network with published weights is fine-tuned on the user's photos.

What was measured is in ``tools/evaluate/tuning/results``.
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
"""Images shown, those of an epoch counted each time."""
MIN_EPOCHS, MAX_EPOCHS = 3, 30
BATCH_SIZE = 32
PEAK_LEARNING_RATE = 0.001
"""For `BATCH_SIZE` images; proportional to smaller batches."""
MIN_CROP_AREA = 0.6
"""Smaller crops leave less of what the fitted classifier was fitted to."""
EMA_STEPS = 500
"""Steps from which the weights are averaged."""
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
