"""What `hwnas train` trains, on which images and by which plan."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
from msgspec.structs import replace

from hwnas.architecture.architecture import Architecture
from hwnas.data.datasets import Dataset, load_dataset
from hwnas.data.photos.labelled import ReadingOptions
from hwnas.errors import UsageError
from hwnas.files import read_json, write_json
from hwnas.networks.names import kind_of
from hwnas.networks.resolve import resolve_architecture, states_no_shape
from hwnas.spaces.published import adapt
from hwnas.specialize.setup.augmentation import default_augmentation
from hwnas.specialize.setup.batch_size import (
    in_parts,
    resolve_batch_size,
    step_image_bytes,
)
from hwnas.specialize.setup.effort import EFFORTS, plans
from hwnas.specialize.setup.start.network import Start, start_from
from hwnas.specialize.setup.work.cut import epochs_text, longer
from hwnas.specialize.setup.work.minutes import (
    MEASURING,
    Epochs,
    misfit,
    training_passes,
    training_s,
)
from hwnas.specialize.setup.work.pace import training_pace
from hwnas.specialize.setup.work.recipes import scaled_training
from hwnas.specialize.setup.work.tuning import tuning_plan
from hwnas.training.compute import CPU, Compute
from hwnas.training.distributed import ranks
from hwnas.training.images.augment import Augmentation
from hwnas.training.images.loader import as_data
from hwnas.training.plan import TrainingPlan, one_cycle_plan, scaled_learning_rate

INITIAL = "initial.safetensors"
"""Weights of the network that is tuned, in the training's folder."""
TIMED_PLAN = "plan.json"
"""The plan for given minutes, in the training's folder."""
PRETRAINED_RATE = 0.2
"""Factor of the learning rate for weights that are trained already: 0.02, at which EAS trains its
networks. The full rate undoes in one epoch what they have learned."""


class TrainSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A training as the command line describes it; `train_network` makes a `TrainingJob` of it."""

    data: str
    """A data set as `hwnas.data.datasets.load_dataset` takes it."""
    architecture: str = ""
    """JSON file, run folder or published name; empty with ``pretrained``."""
    pretrained: str = ""
    """Trained network to tune on the data (`hwnas.networks.pretrained`)."""
    resolution: int | None = None
    """Height and width of the images of a trained network; None: `default_size`."""
    epochs: int | None = None
    """None: those of a quick run, or as many as ``minutes`` allow."""
    minutes: float | None = None
    """Time that the training should take, planned from measured speed."""
    batch_size: int | None = None
    """None: as in a quick run, or less if that doesn't fit the memory (`setup.batch_size`)."""
    weights: Path | None = None
    """File of the weights to begin with; None: fresh ones."""
    skip_broken: bool = False
    """Leave out images that can't be read."""
    group_by: str = ""
    """Photos of one group stay in one split: a regular expression for names, or a column."""
    flip: bool | None = None
    """None: colour images are mirrored, grey ones are not."""
    auxiliary: float = 0.0
    drop_path: float = 0.0
    seed: int = 0
    compute: Compute = CPU
    """Device and precision."""
    threads: int | Literal["auto"] = "auto"
    """Threads of the CPU's operations; ``auto``: all cores for photos, else one."""


class Trainee(NamedTuple):
    """The network that is trained, and its images."""

    architecture: Architecture
    dataset: Dataset
    start: Start | None = None
    """The trained network that is tuned; ``None``: another network."""

    @property
    def images(self) -> int:
        return len(self.dataset.train.labels)

    def with_epochs(self, plan: TrainingPlan, epochs: Epochs) -> TrainingPlan:
        """Return the plan for other epochs."""
        if self.start is None:
            return one_cycle_plan(replace(plan, epoch_images=epochs.images), epochs.number)
        return longer(plan, epochs, self.images)


def check_options(spec: TrainSpec) -> None:
    """Raise `UsageError` for options that exclude each other, or have no meaning."""
    if spec.minutes is not None:
        check_minutes(spec)
    if not spec.pretrained:
        if not spec.architecture:
            raise UsageError(
                "give the network: --from NETWORK for a trained one, or --architecture"
            )
        if spec.resolution is not None:
            raise UsageError(
                f"--resolution {spec.resolution}: it is that of a trained network (--from); an "
                "architecture has its own"
            )
        return
    given = {
        f"--architecture {spec.architecture}": spec.architecture,
        f"--weights {spec.weights}": spec.weights,
        f"--auxiliary {spec.auxiliary:g}": spec.auxiliary,
        f"--drop-path {spec.drop_path:g}": spec.drop_path,
    }
    for words, value in given.items():
        if value:
            raise UsageError(
                f"{words}: --from {spec.pretrained} is a network with weights; leave one of the "
                "two out"
            )


def check_minutes(spec: TrainSpec) -> None:
    """Raise `UsageError` where a training of given minutes can't be planned."""
    if spec.epochs is not None:
        raise UsageError(
            f"--minutes {spec.minutes:g} plans the epochs, and --epochs {spec.epochs} gives them; "
            "leave one of the two out"
        )
    if ranks() > 1:
        raise UsageError(
            f"--minutes {spec.minutes:g}: speed is measured in one process: start it without "
            "torchrun, or give --epochs"
        )


def find_trainee(spec: TrainSpec, options: ReadingOptions) -> Trainee:
    """Return the network and its images; published networks take the data's size and classes, a
    module of the user's code takes its size.

    Raises `UsageError` for a network of another number of classes.
    """
    load = partial(load_dataset, options=options)
    if spec.pretrained:
        start = start_from(spec.pretrained, spec.data, spec.resolution, load)
        return Trainee(start.network.architecture, start.dataset, start)
    if states_no_shape(spec.architecture):
        dataset = load(spec.data)
        shape, classes = dataset.input_shape, dataset.num_classes
        architecture = resolve_architecture(spec.architecture, "mobile", shape, classes)
    else:
        architecture = resolve_architecture(spec.architecture)
        dataset = load(spec.data, input_shape=architecture.input_shape)
        if kind_of(spec.architecture) in ("published", "timm"):
            architecture = adapt(architecture, dataset.input_shape, dataset.num_classes)
    if dataset.num_classes != architecture.num_classes:
        raise UsageError(
            f"{spec.architecture} has {architecture.num_classes} classes, but {spec.data} has "
            f"{dataset.num_classes}; --from {spec.architecture} tunes it for others, if it is "
            "trained"
        )
    return Trainee(architecture, dataset)


def training_plan(
    spec: TrainSpec, folder: Path, trainee: Trainee, log: Callable[[str], None]
) -> TrainingPlan:
    """Return the plan of a training in ``folder``, in batches that fit the memory."""
    augmentation = default_augmentation(trainee.dataset.input_shape, trainee.images, spec.flip)
    plan = _default_plan(trainee, augmentation)
    if spec.epochs is not None:
        plan = trainee.with_epochs(plan, Epochs(spec.epochs))
    image = step_image_bytes(trainee.architecture, spec.compute)
    batch_size = spec.batch_size or resolve_batch_size(
        folder / "batch_size.json",
        plan.batch_size,
        image / in_parts(plan, image, spec.compute.device).accumulate,
        log,
        "; --batch-size sets another",
        spec.compute.device,
    )
    if trainee.start is not None:
        return in_parts(scaled_training(plan, batch_size), image, spec.compute.device)
    plan = replace(
        plan,
        batch_size=batch_size,
        peak_learning_rate=scaled_learning_rate(batch_size),
        auxiliary=spec.auxiliary,
        drop_path=spec.drop_path,
    )
    return plan if spec.weights is None else fine_tuning(plan)


def fine_tuning(plan: TrainingPlan) -> TrainingPlan:
    """Return the plan for a network that begins with trained weights."""
    return replace(plan, peak_learning_rate=PRETRAINED_RATE * plan.peak_learning_rate)


def timed_plan(
    spec: TrainSpec,
    plan: TrainingPlan,
    folder: Path,
    trainee: Trainee,
    start_s: float,
    log: Callable[[str], None],
) -> TrainingPlan:
    """Return the plan with as many epochs as the minutes allow, stored in ``folder``.

    A resumed training is not planned again.
    """
    file = folder / TIMED_PLAN
    if file.exists():
        return read_json(file, TrainingPlan)
    time_s = 60 * (spec.minutes or 0.0)
    spec.compute.start()
    data = as_data(trainee.dataset.train, trainee.dataset, spec.compute)
    limit_s = MEASURING * time_s
    image_ms = training_pace(trainee.architecture, data, plan, limit_s, time.perf_counter)
    left_s = time_s - (time.perf_counter() - start_s)
    images, valid_images = trainee.images, len(trainee.dataset.valid.labels)
    passes = training_passes(plan, left_s, image_ms, images, valid_images)
    passes = min(passes, EFFORTS["standard"].max_epochs)
    timed = trainee.with_epochs(plan, Epochs.of(passes, images, plan.batch_size))
    text = f"{spec.minutes:g} min: {1e3 / image_ms:.3g} images/s measured; {epochs_text(timed)}"
    log(text + misfit(training_s(timed, image_ms, images, valid_images), left_s))
    write_json(file, timed)
    return timed


def _default_plan(trainee: Trainee, augmentation: Augmentation) -> TrainingPlan:
    """Return the plan of a quick run: fine-tuning for a trained network."""
    if trainee.start is None:
        macs = trainee.architecture.macs
        return plans(EFFORTS["quick"], trainee.images, macs, augmentation)[1]
    plan = tuning_plan(trainee.dataset.train.labels, "quick", augmentation)
    return replace(plan, probe=not trainee.start.knows_classes)
