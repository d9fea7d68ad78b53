"""Stand-alone trainings of every network, one line of ``trainings.jsonl`` each."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from pathlib import Path

import msgspec
import torch

from hwnas.files import append_line, read_lines
from hwnas.training.job import TrainingJob, run_job
from hwnas.training.plan import TrainingPlan
from tools.evaluate.exhaustive.problem import (
    PLAN,
    TABLE_TASK,
    Choices,
    Images,
    Task,
    all_choices,
    architecture,
    load_images,
    space,
)


class Training(msgspec.Struct, frozen=True):
    """One finished training."""

    choices: Choices
    seed: int
    test_accuracy: float
    """Accuracy on the test images, as a share of 1."""
    cpu_s: float
    """Processor time of training and evaluation."""


def train_all(work: Path, seeds: int, processes: int) -> Iterator[Training]:
    """Train the networks that are missing in ``work/trainings.jsonl``, seed by seed; yield each
    training when it ends."""
    file = work / "trainings.jsonl"
    work.mkdir(parents=True, exist_ok=True)
    done = {(line.choices, line.seed) for line in read_lines(file, Training)}
    missing = [
        (choices, seed)
        for seed in range(seeds)
        for choices in all_choices(space())
        if (choices, seed) not in done
    ]
    if not missing:
        return
    # spawned: a fork of a process that has used torch's threads may hang
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, initializer=_images)
    try:
        for future in as_completed([pool.submit(train_network, *job) for job in missing]):
            training = future.result()
            append_line(file, training)
            yield training
    finally:
        pool.shutdown(cancel_futures=True)


def train_network(
    choices: Choices, seed: int, task: Task = TABLE_TASK, plan: TrainingPlan | None = None
) -> Training:
    """Train one network on one thread, by `PLAN` or another plan."""
    torch.set_num_threads(1)
    images, network = _images(task), architecture(space(task), choices)
    job = TrainingJob(architecture=network, data=task.data, plan=plan or PLAN, seed=seed)
    begun_s = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        result = run_job(job, Path(folder), images=(images.train, images.test))
    return Training(choices, seed, result.validation_accuracy, time.process_time() - begun_s)


@cache
def _images(task: Task = TABLE_TASK) -> Images:
    """Load the images once per process."""
    torch.set_num_threads(1)
    return load_images(task)
