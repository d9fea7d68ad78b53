"""One training in a folder of its own: described by ``job.json``, resumable, repeatable.

``python -m hwnas.training.job FOLDER`` reads ``job.json`` and writes ``log.jsonl``,
``network.safetensors`` and, last of all, ``result.json``. The same folder gives the same weights on
every machine: all randomness follows from the job's seed, and an interrupted training continues
from ``checkpoint.safetensors``.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

import msgspec
import torch
from torch import nn

from hwnas.architecture.architecture import Architecture
from hwnas.architecture.size import size_of
from hwnas.data.datasets import Dataset, load_dataset
from hwnas.data.photos.labelled import ReadingOptions
from hwnas.errors import HwnasError, WriteError
from hwnas.files import (
    append_line,
    encode_lines,
    lock_folder,
    previous,
    read_json,
    read_lines,
    write_atomic,
    write_json,
)
from hwnas.nn.auxiliary import trainee
from hwnas.nn.build import build
from hwnas.nn.network import Network
from hwnas.nn.resized import Resized
from hwnas.processes import watch_parent
from hwnas.recovery import recover
from hwnas.training.checkpoint import (
    Place,
    load_checkpoint,
    load_weights,
    read_place,
    save_checkpoint,
)
from hwnas.training.compute import CPU, Compute
from hwnas.training.description import NetworkDescription, Normalisation, description_notes
from hwnas.training.evaluation import RECALIBRATION_IMAGES, evaluate, recalibrate
from hwnas.training.images.loader import Data, as_data, read_images
from hwnas.training.log import EpochLog, Progress
from hwnas.training.loop import train
from hwnas.training.plan import TrainingPlan
from hwnas.training.pool import NO_SPACE_STATUS, OUT_OF_MEMORY
from hwnas.training.seeds import derived_seed

Images = tuple[Data, Data]
"""Training and validation images."""

TEACHER = "teacher.safetensors"
"""Weights of a teacher, in the training's folder."""
WEIGHTS, RESULT = "network.safetensors", "result.json"
"""Files of a finished training in its folder: the trained weights and the `TrainingResult`."""


class Teacher(msgspec.Struct, frozen=True):
    """A trained network to distil from (`hwnas.training.losses.distillation`).

    Images are loaded in its resolution, and made smaller for the network that is trained.
    """

    architecture: Architecture
    weights: str = TEACHER
    """File relative to the training's folder."""


class TrainingJob(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides the weights of a training: ``job.json``."""

    architecture: Architecture
    data: str
    """A data set as `load_dataset` takes it, or a file of
    `hwnas.training.images.loader.write_images` relative to the training's folder."""
    group_by: str = ""
    """See `hwnas.data.photos.labelled.ReadingOptions`."""
    plan: TrainingPlan
    initial: str = ""
    """File of the initial weights, relative to the training's folder; empty: random ones."""
    teacher: Teacher | None = None
    """``None``: the network learns from labels only."""
    normalisation: Normalisation | None = None
    """Normalisation of the images; ``None``: that of the data set's training images."""
    classes: tuple[str, ...] = ()
    """Names of the classes, for the description in the file of the weights."""
    seed: int = 0
    compute: Compute = CPU

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape ``(C, H, W)`` of the training images: the teacher's where there is one."""
        source = self.architecture if self.teacher is None else self.teacher.architecture
        return source.input_shape

    @property
    def training_seed(self) -> int:
        """Seed of the order of the images, their augmentation and the dropout."""
        return derived_seed(self.seed, self.architecture.digest)


class TrainingResult(msgspec.Struct, frozen=True):
    """The result of a training: ``result.json``."""

    digest: str
    """Digest of the architecture."""
    validation_accuracy: float
    """Accuracy on the validation images, from 0 to 1."""
    loss: float
    """Training loss of the last epoch."""
    epochs: int
    seconds: float
    top5_accuracy: float | None = None
    """Top-5 accuracy on the validation images; ``None`` for fewer than 20 classes."""
    balanced_accuracy: float | None = None
    """Mean accuracy over classes on the validation images; ``None`` if the classes are balanced."""
    label_probability: float | None = None
    """See `hwnas.training.evaluation.label_probability`; on the validation images."""


def run_job(
    job: TrainingJob,
    folder: Path,
    *,
    images: Images | None = None,
    on_epoch: Callable[[EpochLog], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    epochs_context: AbstractContextManager[None] | None = None,
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr),
) -> TrainingResult:
    """Train, evaluate on validation images, and write weights and result to ``folder``.

    A finished training is not repeated. ``images`` are those of ``job.data``, if they are already
    loaded; ``epochs_context`` is entered while the epochs run; ``say`` is called with messages on
    damaged files in ``folder``. Raises `UsageError` if another process trains there.
    """
    if (result := read_result(folder)) is not None:
        return result
    with lock_folder(folder):
        recover(folder, say)
        write_json(folder / "job.json", job)
        images = images or load_images(job, folder)
        return _run(job, folder, images, on_epoch, on_progress, epochs_context)


def read_result(folder: Path) -> TrainingResult | None:
    """Return the result of a training, or None where it has not finished or lacks its weights."""
    path = folder / RESULT
    finished = path.exists() and (folder / WEIGHTS).exists()
    return read_json(path, TrainingResult) if finished else None


def load_images(job: TrainingJob, folder: Path) -> Images:
    """Load the images of a job that is trained in ``folder``."""
    job.compute.start()
    if job.data.endswith(".safetensors"):
        train_images, valid_images = read_images(folder / job.data)
        return train_images.placed(job.compute), valid_images.placed(job.compute)
    own = job.architecture.input_shape
    dataset = _dataset(job, own)
    train_set = dataset if job.input_shape == own else _dataset(job, job.input_shape)
    return (
        as_data(train_set.train, train_set, job.compute),
        as_data(dataset.valid, dataset, job.compute),
    )


def _dataset(job: TrainingJob, input_shape: tuple[int, int, int]) -> Dataset:
    options = ReadingOptions(group_by=job.group_by)
    dataset = load_dataset(job.data, input_shape=input_shape, options=options)
    if job.normalisation is None:
        return dataset
    return dataset.normalised_by(job.normalisation.mean, job.normalisation.std)


def train_with_rank_0(job: TrainingJob) -> None:
    """Do another rank's part of `run_job`; initial weights and checkpoint come from rank 0."""
    job = msgspec.structs.replace(job, compute=job.compute.of_rank())
    _, trained = _networks(job, None)
    train(trained, load_images(job, Path())[0], job.plan, job.training_seed)


def _run(
    job: TrainingJob,
    folder: Path,
    images: Images,
    on_epoch: Callable[[EpochLog], None] | None,
    on_progress: Callable[[Progress], None] | None,
    epochs_context: AbstractContextManager[None] | None,
) -> TrainingResult:
    train_images, valid_images = images
    network, trained = _networks(job, folder)
    log, checkpoint = folder / "log.jsonl", folder / "checkpoint.safetensors"
    _align_log(checkpoint, log)
    start = time.perf_counter()

    def write_epoch(line: EpochLog) -> None:
        append_line(log, line)
        if on_epoch is not None:
            on_epoch(line)

    with epochs_context or nullcontext():
        train(
            trained,
            train_images,
            job.plan,
            job.training_seed,
            checkpoint,
            write_epoch,
            _teacher(job, folder),
            on_progress,
            valid_images,
        )
    if not job.plan.frozen_norms:
        # the running averages of a short training lag behind its weights
        sample = train_images.sample(RECALIBRATION_IMAGES, job.seed)
        recalibrate(_as_trained(job, network), sample)
    evaluation = evaluate(network, valid_images)
    digest = job.architecture.digest
    normalisation = job.normalisation or _normalisation(train_images)
    notes = description_notes(NetworkDescription(job.architecture, normalisation, job.classes))
    save_checkpoint(folder / WEIGHTS, network.state_dict(), notes)
    last = list(read_lines(log, EpochLog))[-1]
    seconds = time.perf_counter() - start
    result = TrainingResult(
        digest,
        evaluation.accuracy,
        last.loss,
        last.epoch,
        seconds,
        evaluation.top5_accuracy,
        evaluation.balanced_accuracy,
        evaluation.label_probability,
    )
    write_json(folder / RESULT, result)
    checkpoint.unlink(missing_ok=True)
    previous(checkpoint).unlink(missing_ok=True)
    return result


def _normalisation(data: Data) -> Normalisation:
    """Return the normalisation of the images, in the digits that float32 needs."""
    mean, std = (
        tuple(float(str(value)) for value in values.flatten().cpu().numpy())
        for values in (data.mean, data.std)
    )
    return Normalisation(mean, std)


def _networks(job: TrainingJob, folder: Path | None) -> tuple[Network, nn.Module]:
    """Return the network and the module that is trained: with an auxiliary head where there is
    one. The initial weights are read from ``folder``."""
    job.compute.start()
    torch.manual_seed(derived_seed(job.seed, "weights", job.architecture.digest))
    network = build(job.architecture, job.plan.dropout)
    if job.initial and folder is not None:
        load_weights(network, folder / job.initial)
    trained = trainee(network, job.architecture, job.plan.auxiliary)
    return network, job.compute.place(_as_trained(job, trained))


def _as_trained(job: TrainingJob, network: nn.Module) -> nn.Module:
    """Return a module that takes the training images, which may be larger than the network's."""
    if job.input_shape == job.architecture.input_shape:
        return network
    return Resized(network, size_of(*job.architecture.input_shape[1:]))


def _teacher(job: TrainingJob, folder: Path) -> nn.Module | None:
    if job.teacher is None:
        return None
    teacher = build(job.teacher.architecture)
    load_weights(teacher, folder / job.teacher.weights)
    return job.compute.place(teacher.eval())


def _align_log(checkpoint: Path, log: Path) -> None:
    """Remove the log lines of epochs after the checkpoint, and restore the line of its last epoch,
    which is missing after a kill between checkpoint and log."""
    place = read_place(load_checkpoint(checkpoint)[1]) if checkpoint.exists() else Place()
    lines = [line for line in read_lines(log, EpochLog) if line.epoch <= place.epoch]
    if place.line is not None and place.epoch not in {line.epoch for line in lines}:
        lines.append(place.line)
    write_atomic(log, encode_lines(lines))


def main() -> None:
    folder = Path(sys.argv[1])
    if parent := os.environ.get("HWNAS_PARENT"):
        watch_parent(int(parent))
    try:
        run_job(read_json(folder / "job.json", TrainingJob), folder)
    except HwnasError as error:
        if not (isinstance(error, WriteError) and error.can_resume):
            sys.exit(str(error))
        with suppress(OSError):  # its file is beside what could not be written
            os.write(sys.stderr.fileno(), f"{error}\n".encode())
        sys.exit(NO_SPACE_STATUS)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or (
            "allocate memory" in str(error)
        ):
            sys.exit(OUT_OF_MEMORY)
        raise


if __name__ == "__main__":
    main()
