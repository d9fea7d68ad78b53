"""`hwnas train`: one network, from scratch or from given weights, in a folder of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Literal

import msgspec

from hwnas.architecture.architecture import Architecture
from hwnas.console import Console, QuietConsole, Update
from hwnas.data.datasets import Dataset, load_dataset
from hwnas.data.photos.labelled import ReadingOptions
from hwnas.errors import UsageError
from hwnas.files import read_json, write_json
from hwnas.networks.resolve import is_genotype, resolve_architecture
from hwnas.spaces.published import adapt, published_names
from hwnas.specialize.distributed.tasks import TrainTask, together
from hwnas.specialize.progress import WaitingRemedy, speed_text
from hwnas.specialize.setup.augmentation import default_augmentation
from hwnas.specialize.setup.batch_size import resolve_batch_size, step_image_bytes
from hwnas.specialize.setup.device import training_threads
from hwnas.specialize.setup.effort import EFFORTS, plans
from hwnas.specialize.setup.work.minutes import MEASURING, training_epochs
from hwnas.specialize.setup.work.pace import training_pace
from hwnas.specialize.tracking import Tracker, Tracking
from hwnas.training.compute import CPU, Compute
from hwnas.training.distributed import local_ranks, ranks
from hwnas.training.images.loader import as_data
from hwnas.training.job import TrainingJob, TrainingResult, read_result, run_job
from hwnas.training.log import EpochLog, Progress
from hwnas.training.plan import TrainingPlan, one_cycle_plan, scaled_learning_rate

QUIET = QuietConsole()

PRETRAINED_RATE = 0.2
"""Factor of the learning rate for weights that are trained already: 0.02, at which EAS trains its
networks. The full rate undoes in one epoch what they have learned."""


class TrainSpec(msgspec.Struct, frozen=True, kw_only=True):
    """A training as the command line describes it; `train_network` makes a `TrainingJob` of it."""

    architecture: str
    """JSON file, run folder or published name."""
    data: str
    """A data set as `hwnas.data.datasets.load_dataset` takes it."""
    epochs: int | None = None
    """None: as in a quick run, or as many as ``minutes`` allow."""
    minutes: float | None = None
    """Time that the training should take, planned from measured speed."""
    batch_size: int | None = None
    """None: as in a quick run, or less if that doesn't fit the memory (`setup.batch_size`)."""
    weights: Path | None = None
    """File of the weights to begin with; None: fresh ones."""
    skip_broken: bool = False
    """Leave out images that can't be read."""
    flip: bool | None = None
    """None: colour images are mirrored, grey ones are not."""
    auxiliary: float = 0.0
    drop_path: float = 0.0
    seed: int = 0
    compute: Compute = CPU
    """Device and precision."""
    threads: int | Literal["auto"] = "auto"
    """Threads of the CPU's operations; ``auto``: all cores for photos, else one."""


def train_network(
    spec: TrainSpec,
    folder: Path,
    *,
    resume: bool = False,
    on_epoch: Callable[[EpochLog], None] = lambda line: None,
    console: Console = QUIET,
    tracker: Tracker | None = None,
) -> TrainingResult:
    """Train a network in ``folder`` and evaluate it on validation images.

    The same `TrainSpec` gives the same weights, also where the training was interrupted and
    resumed; ``threads="auto"`` for photos does so on machines of as many cores. ``tracker`` gets
    loss, accuracy and speed of each epoch, and is closed.
    Raises `UsageError` if ``folder`` has a finished training and ``resume`` isn't set.
    """
    if (result := read_result(folder)) is not None:
        if not resume:
            raise UsageError(
                f"{folder}: a training is there already; add --resume or choose another --out"
            )
        return result
    start_s = time.perf_counter()
    check_minutes(spec)
    architecture, dataset = _load(spec, ReadingOptions(spec.skip_broken, console.say, console.step))
    if dataset.num_classes != architecture.num_classes:
        raise UsageError(
            f"{spec.architecture} has {architecture.num_classes} classes, "
            f"but {spec.data} has {dataset.num_classes}"
        )
    for note in dataset.notes:
        console.say(f"{dataset.name}: {note}")
    spec = msgspec.structs.replace(spec, compute=_compute(spec, folder, dataset))
    plan = _plan(spec, folder, dataset, architecture, console.say)
    if spec.minutes is not None:
        plan = _timed(spec, plan, folder, dataset, architecture, start_s, console.say)
    job = TrainingJob(
        architecture=architecture,
        data=spec.data,
        plan=plan,
        initial="" if spec.weights is None else os.path.abspath(spec.weights),
        seed=spec.seed,
        compute=spec.compute,
    )
    spec.compute.start()
    images = (
        as_data(dataset.train, dataset, spec.compute),
        as_data(dataset.valid, dataset, spec.compute),
    )
    with (
        console.step("training") as update,
        closing(Tracking(tracker, console.say)) as tracking,
    ):
        reporter = _Reporter(job, images[0].images, update, console, tracking)

        def report_epoch(line: EpochLog) -> None:
            reporter.epoch(line)
            on_epoch(line)

        result = run_job(
            job,
            folder,
            images=images,
            on_epoch=report_epoch,
            on_progress=reporter.progress,
            epochs_context=together(TrainTask(job)),
        )
        reporter.result(result)
    return result


def _compute(spec: TrainSpec, folder: Path, dataset: Dataset) -> Compute:
    """Return device, precision and threads of a training; a resumed one keeps its threads."""
    threads, stored = spec.threads, folder / "job.json"
    if threads == "auto":
        threads = (
            read_json(stored, TrainingJob).compute.threads
            if stored.exists()
            else training_threads(dataset.input_shape[1], local_ranks())
        )
    return msgspec.structs.replace(spec.compute, threads=threads)


class _Reporter:
    """Prints how a training goes, and sends it to a tracker."""

    def __init__(
        self, job: TrainingJob, images: object, update: Update, console: Console, tracking: Tracking
    ) -> None:
        self.job, self.update, self.console, self.tracking = job, update, console, tracking
        self.remedy = WaitingRemedy(images, job.data, console.say)

    def progress(self, progress: Progress) -> None:
        speed = speed_text(progress, self.job.compute)
        self.update(progress.step, progress.steps, f"loss {progress.loss:.4f}, {speed}")

    def epoch(self, line: EpochLog) -> None:
        self.console.say(
            f"epoch {line.epoch} of {line.epochs}: loss {line.loss:.4f}, accuracy "
            f"{line.accuracy:.2%}, {speed_text(line, self.job.compute)}"
        )
        self.remedy.check(line.waiting)
        self.tracking.log_line("training", line.epoch, line)

    def result(self, result: TrainingResult) -> None:
        self.tracking.log_line("result", result.epochs, result)


def check_minutes(spec: TrainSpec) -> None:
    """Raise `UsageError` where a training of given minutes can't be planned."""
    if spec.minutes is None:
        return
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


def _timed(
    spec: TrainSpec,
    plan: TrainingPlan,
    folder: Path,
    dataset: Dataset,
    architecture: Architecture,
    start_s: float,
    log: Callable[[str], None],
) -> TrainingPlan:
    """Return the plan with as many epochs as the minutes allow, stored in ``folder``.

    A resumed training is not planned again.
    """
    file = folder / "plan.json"
    if file.exists():
        return read_json(file, TrainingPlan)
    time_s = 60 * (spec.minutes or 0.0)
    spec.compute.start()
    data = as_data(dataset.train, dataset, spec.compute)
    image_ms = training_pace(architecture, data, plan, MEASURING * time_s, time.perf_counter)
    left_s = time_s - (time.perf_counter() - start_s)
    epochs = training_epochs(left_s, image_ms, len(dataset.train.labels))
    log(
        f"{spec.minutes:g} min: {1e3 / image_ms:.3g} images/s measured; {epochs} "
        f"epoch{'s' * (epochs > 1)}"
    )
    timed = one_cycle_plan(plan, epochs)
    write_json(file, timed)
    return timed


def fine_tuning(plan: TrainingPlan) -> TrainingPlan:
    """Return the plan for a network that begins with trained weights."""
    rate = PRETRAINED_RATE * plan.peak_learning_rate
    return msgspec.structs.replace(plan, peak_learning_rate=rate)


def _load(spec: TrainSpec, options: ReadingOptions) -> tuple[Architecture, Dataset]:
    """Return the network and the data; a published network takes the data's size and classes."""
    if is_genotype(spec.architecture):
        dataset = load_dataset(spec.data, options=options)
        return resolve_architecture(
            spec.architecture, input_shape=dataset.input_shape, num_classes=dataset.num_classes
        ), dataset
    architecture = resolve_architecture(spec.architecture)
    dataset = load_dataset(spec.data, input_shape=architecture.input_shape, options=options)
    if spec.architecture in published_names():
        architecture = adapt(architecture, dataset.input_shape, dataset.num_classes)
    return architecture, dataset


def _plan(
    spec: TrainSpec,
    folder: Path,
    dataset: Dataset,
    architecture: Architecture,
    log: Callable[[str], None],
) -> TrainingPlan:
    images = len(dataset.train.labels)
    augmentation = default_augmentation(dataset.input_shape, images, spec.flip)
    plan = plans(EFFORTS["quick"], images, architecture.macs, augmentation)[1]
    batch_size = spec.batch_size or resolve_batch_size(
        folder / "batch_size.json",
        plan.batch_size,
        step_image_bytes(architecture, spec.compute),
        log,
        "; --batch-size sets another",
        spec.compute.device,
    )
    plan = msgspec.structs.replace(
        one_cycle_plan(plan, spec.epochs or plan.epochs),
        batch_size=batch_size,
        peak_learning_rate=scaled_learning_rate(batch_size),
        auxiliary=spec.auxiliary,
        drop_path=spec.drop_path,
    )
    return plan if spec.weights is None else fine_tuning(plan)
