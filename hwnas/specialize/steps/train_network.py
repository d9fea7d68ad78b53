"""`hwnas train`: one network, from scratch or from given weights, in a folder of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import msgspec

from hwnas.console import Console, QuietConsole, Update
from hwnas.data.datasets import Dataset, absolute_name
from hwnas.data.photos.labelled import ReadingOptions
from hwnas.errors import UsageError
from hwnas.measurement.classification import chance_note
from hwnas.networks.weights import write_slices
from hwnas.processes import local_ranks
from hwnas.specialize.card import data_warnings
from hwnas.specialize.distributed.tasks import TrainTask, together
from hwnas.specialize.progress import WaitingRemedy, speed_text
from hwnas.specialize.setup.device import training_threads
from hwnas.specialize.setup.start.network import Start
from hwnas.specialize.steps.train_resume import begun_training, check_job
from hwnas.specialize.steps.training_setup import (
    INITIAL,
    Trainee,
    TrainSpec,
    check_options,
    find_trainee,
    timed_plan,
    training_plan,
)
from hwnas.specialize.tracking import Tracker, Tracking
from hwnas.training.checkpoint import save_checkpoint
from hwnas.training.compute import Compute
from hwnas.training.description import Normalisation
from hwnas.training.images.loader import as_data
from hwnas.training.job import TrainingJob, TrainingResult, read_result, run_job
from hwnas.training.log import EpochLog, Progress

QUIET = QuietConsole()


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
    Raises `UsageError` if ``folder`` has a finished training and ``resume`` isn't set, a training
    with other settings, or a run.
    """
    finished = read_result(folder)
    if finished is not None and not resume:
        raise UsageError(
            f"{folder}: a training is there already; add --resume or choose another --out"
        )
    begun = begun_training(spec, folder)
    if finished is not None:
        return finished
    start_s = time.perf_counter()
    check_options(spec)
    spec = msgspec.structs.replace(spec, data=absolute_name(spec.data))
    options = ReadingOptions(spec.skip_broken, console.say, console.step, spec.group_by)
    trainee = find_trainee(spec, options)
    dataset = trainee.dataset
    for note in (*dataset.notes, *(() if resume else data_warnings(dataset))):
        console.say(f"{dataset.name}: {note}")
    spec = msgspec.structs.replace(spec, compute=_compute(spec, begun, dataset))
    plan = training_plan(spec, folder, trainee, console.say)
    if spec.minutes is not None:
        plan = timed_plan(spec, plan, folder, trainee, start_s, console.say)
    if trainee.start is not None:
        console.say(_start_line(trainee.start))
    job = TrainingJob(
        architecture=trainee.architecture,
        data=spec.data,
        group_by=spec.group_by,
        plan=plan,
        initial=_initial(spec, trainee, folder),
        normalisation=Normalisation(dataset.mean, dataset.std),
        classes=dataset.classes,
        seed=spec.seed,
        compute=spec.compute,
    )
    if begun is not None:
        check_job(job, begun, folder)
    spec.compute.start()
    images = (
        as_data(dataset.train, dataset, spec.compute),
        as_data(dataset.valid, dataset, spec.compute),
    )
    with (
        console.step("training") as update,
        closing(Tracking(tracker, console.warn)) as tracking,
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
            say=console.say,
        )
        reporter.result(result)
    if note := chance_note(result.validation_accuracy, dataset.valid.labels):
        console.warn(note)
    return result


def _initial(spec: TrainSpec, trainee: Trainee, folder: Path) -> str:
    """Return the file of the weights to begin with; those of a trained network are written to
    ``folder``."""
    if trainee.start is None:
        return "" if spec.weights is None else os.path.abspath(spec.weights)
    path = folder / INITIAL
    if not path.exists():
        write_slices(folder, trainee.start.network.slices)
        save_checkpoint(path, trainee.start.network.network().state_dict(), {})
    return INITIAL


def _start_line(start: Start) -> str:
    """Return in one line from which network a training starts."""
    network = start.network
    classifier = "its classifier stays" if start.knows_classes else "new classifier"
    return (
        f"tuning {network.name} ({network.source}) at {network.architecture.input_shape[1]} px, "
        f"{classifier} for {network.architecture.num_classes} classes"
    )


def _compute(spec: TrainSpec, begun: TrainingJob | None, dataset: Dataset) -> Compute:
    """Return device, precision and threads of a training; a resumed one keeps its threads."""
    threads = spec.threads
    if threads == "auto":
        threads = (
            training_threads(dataset.input_shape[1], local_ranks())
            if begun is None
            else begun.compute.threads
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
