"""How a network is trained: the plan of a training, and its learning rate at every step."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from hwnas.training.images.augment import Augmentation

FIRST_RATE = 0.04
"""Learning rate of the first step of a warm-up, relative to the peak."""


class TrainingPlan(msgspec.Struct, frozen=True):
    """How a network is trained by SGD with momentum."""

    epochs: int = 15
    batch_size: int = 64
    epoch_images: int = 0
    """Images of an epoch, where it is shorter than a pass over all of them; 0: all."""
    peak_learning_rate: float = 0.1
    warmup_epochs: float = 3.0
    """Epochs in which the learning rate rises; then it falls along a cosine to zero."""
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    """L2 penalty on weights of convolutions and linear layers, not on batch norms and biases."""
    decay_all: bool = False
    """Whether batch norms and biases are penalised too, as in DARTS."""
    label_smoothing: float = 0.05
    dropout: float = 0.1
    augmentation: Augmentation = Augmentation()
    clip_norm: float = 0.0
    """Largest norm of the gradient of all weights; 0: no limit."""
    ema: float = 0.0
    """Decay of an exponential moving average of the weights, which are the result; 0: none."""
    accumulate: int = 1
    """Parts of a batch that are computed one after another, to fit the memory. Batch norms take
    their statistics over a part."""
    auxiliary: float = 0.0
    """Weight of the auxiliary head's loss, for networks of cells (`hwnas.nn.auxiliary`); DARTS uses
    0.4."""
    drop_path: float = 0.0
    """Probability that a branch of a cell is dropped for an image; it rises from 0 to this. DARTS
    uses 0.2."""
    layer_decay: float = 1.0
    """Factor of a block's learning rate relative to the next block's, from the classifier
    downwards."""
    head_rate: float = 1.0
    """Factor of the classifier's learning rate."""
    probe: bool = False
    """Whether the classifier begins as a logistic regression on the features of the network. The
    training steps have the same features only with ``frozen_norms``."""
    frozen_norms: bool = False
    """Whether batch norms use the network's initial statistics, which do not change. The statistics
    of batches of other images than the network was trained on would change its features."""
    small_share: float = 0.0
    """Share of the steps, the first ones, with images of `tuning.sizes.small_size`."""
    whole_share: float = 0.0
    """Share of the steps, the last ones, with images that are neither cropped nor shifted."""
    patience: int = 0
    """Epochs without a better validation accuracy after which a training stops; the weights of the
    best epoch, or those before the first, are the result. 0: all epochs, and the last one's
    weights."""
    teacher_share: float = 0.5
    """Weight of the teacher's predictions in the loss, if there is a teacher; the rest is that of
    the labels."""
    class_weights: Literal["none", "balanced"] = "none"
    """``balanced``: the losses of a class's images are weighted with the inverse of its number of
    images."""

    def images_shown(self, images: int) -> int:
        """Return the images of an epoch, where there are so many training images."""
        return self.epoch_images or images


WARMUP_SHARE = 0.2
"""Share of the epochs in which the learning rate of a one-cycle schedule rises."""


def one_cycle_plan(plan: TrainingPlan, epochs: int) -> TrainingPlan:
    """Return the plan for another number of epochs, with a warm-up of `WARMUP_SHARE` of them."""
    return msgspec.structs.replace(plan, epochs=epochs, warmup_epochs=WARMUP_SHARE * epochs)


def scaled_learning_rate(batch_size: int) -> float:
    """Return the peak learning rate for a batch size: linear, 0.1 for 64 images (Goyal et al.,
    "Accurate, Large Minibatch SGD", arXiv:1706.02677)."""
    return 0.1 * batch_size / 64


def ema_decay(steps: int) -> float:
    """Return the decay that averages the last 5 % of ``steps``, at least 0.99."""
    return max(0.99, 1 - 1 / max(1.0, 0.05 * steps))


def learning_rate(plan: TrainingPlan, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of a step of the whole training."""
    return one_cycle(
        step,
        plan.epochs * steps_per_epoch,
        plan.peak_learning_rate,
        plan.warmup_epochs * steps_per_epoch,
    )


def one_cycle(step: int, steps: int, peak: float, warmup: float) -> float:
    """Return the learning rate of a step: linear from peak/25 to the peak in ``warmup`` steps, then
    a cosine to 0."""
    warmup = min(warmup, steps - 1)  # the last step has a rate too
    if step < warmup:
        return peak * (FIRST_RATE + (1 - FIRST_RATE) * step / warmup)
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1.0, steps - warmup)))
