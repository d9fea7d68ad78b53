"""How a trained network is tuned on a data set."""

from __future__ import annotations

from hwnas.training.images.augment import Augmentation
from hwnas.training.plan import TrainingPlan, one_cycle_plan


def tuning_plan(images: int, epochs: int, augmentation: Augmentation) -> TrainingPlan:
    batch_size = max(4, min(32, images // 8))
    plan = TrainingPlan(
        batch_size=batch_size,
        peak_learning_rate=0.01 * batch_size / 32,
        weight_decay=1e-4,
        label_smoothing=0.1,
        dropout=0.2,
        augmentation=augmentation,
    )
    return one_cycle_plan(plan, epochs)
