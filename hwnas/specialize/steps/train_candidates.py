"""Trains the chosen networks, each in a process of its own or on all ranks together."""

from __future__ import annotations

import os
from pathlib import Path

from msgspec.structs import replace

from hwnas.console import Update
from hwnas.errors import TrainingFailed
from hwnas.files import read_json, read_lines, write_atomic, write_json
from hwnas.nn.memory import image_bytes
from hwnas.search.elastic.state import TunedFiles
from hwnas.search.plan import SearchFiles
from hwnas.specialize.context import Candidate, RunContext
from hwnas.specialize.distributed.tasks import TrainTask, together
from hwnas.specialize.progress import WaitingRemedy, combined, speed_text, standings
from hwnas.specialize.setup.device import child_gpus, training_threads
from hwnas.specialize.steps.baselines import inherited_weights
from hwnas.specialize.steps.training_setup import fine_tuning
from hwnas.training.compute import Compute, free_bytes
from hwnas.training.description import Normalisation
from hwnas.training.distributed import ranks
from hwnas.training.images.loader import as_data
from hwnas.training.job import (
    RESULT,
    WEIGHTS,
    Teacher,
    TrainingJob,
    TrainingResult,
    read_result,
    run_job,
)
from hwnas.training.log import EpochLog
from hwnas.training.pool import ProcessPool, trainings_per_gpu


def train_all(run: RunContext, chosen: list[Candidate]) -> list[TrainingResult]:
    """Train the networks in parallel processes, one per core.

    If there are several ranks, they train each network together instead.
    """
    root, dataset = run.folder.path / "training", run.dataset
    folders = [root / candidate.architecture.digest for candidate in chosen]
    jobs = {
        folder: job
        for folder, candidate in zip(folders, chosen, strict=True)
        if read_result(folder) is None
        and not reuse(run.folder.others, folder, job := _job(run, candidate, folder, len(chosen)))
    }
    where = f" on {ranks()} ranks" if ranks() > 1 else ""
    title = f"training {len(chosen)} network{'s' * (len(chosen) != 1)}{where}"
    with run.console.step(title) as update, run.folder.stage("train"):
        progress = _Progress(run, update, chosen, folders)

        for folder, job in jobs.items():
            write_json(folder / "architecture.json", job.architecture)
            if ranks() > 1:
                run_job(
                    job,
                    folder,
                    images=(
                        as_data(dataset.train, dataset, run.compute),
                        as_data(dataset.valid, dataset, run.compute),
                    ),
                    on_epoch=lambda _: progress.show(),
                    epochs_context=together(TrainTask(job)),
                )
            else:
                write_json(folder / "job.json", job)
        waiting = [] if ranks() > 1 else list(jobs)
        for folder, failure in _pool(run, list(jobs.values())).train(waiting, progress.show):
            if failure:
                raise TrainingFailed(f"training {folder.name} failed: {failure}")
        progress.show()
    results = [read_result(folder) for folder in folders]
    return [result for result in results if result is not None]


def reuse(others: list[Path], folder: Path, job: TrainingJob) -> bool:
    """Copy the result of the same training in one of the runs ``others``; return whether there is
    one.

    Runs for several targets and budgets share a tuned network, and train the same members of it, or
    the same whole network at a lower resolution. The number of threads may differ.
    """
    for other in others:
        source = other / "training" / folder.name
        if read_result(source) is None or not (source / "job.json").exists():
            continue
        same = read_json(source / "job.json", TrainingJob)
        if replace(same, compute=job.compute) != job or _inputs(source, job) != _inputs(
            folder, job
        ):
            continue
        for name in ("architecture.json", "job.json", "log.jsonl", WEIGHTS, RESULT):
            write_atomic(folder / name, (source / name).read_bytes())
        return True
    return False


def _inputs(folder: Path, job: TrainingJob) -> list[bytes]:
    """Return the contents of the files of weights that a training in ``folder`` reads."""
    names = (job.initial, "" if job.teacher is None else job.teacher.weights)
    # the folder may not exist yet
    return [Path(os.path.normpath(folder / name)).read_bytes() for name in names if name]


def _pool(run: RunContext, jobs: list[TrainingJob]) -> ProcessPool:
    """Return the pool that trains on the cores of this machine, or on its GPUs."""
    compute = run.compute
    if compute.kind != "cuda" or not jobs:
        return ProcessPool(None if compute.kind == "cpu" else 1)
    plan = run.training_plan
    image = max(image_bytes(job.architecture) for job in jobs)
    count = trainings_per_gpu(
        jobs[0].architecture.input_shape[1],
        len(jobs),
        image * plan.batch_size / plan.accumulate,
        free_bytes(compute.device),
    )
    return ProcessPool(gpus=child_gpus(run.spec.device, compute) * count)


def _job(run: RunContext, candidate: Candidate, folder: Path, networks: int) -> TrainingJob:
    data = run.dataset
    weights, plan = inherited_weights(run, candidate.architecture), run.training_plan
    inherits, teacher = weights.exists(), _teacher(run, folder)
    if candidate.origin == "sibling":  # as a user would tune it, who has no other network
        plan, teacher = replace(run.search_plan.tuning, probe=True), None
    elif inherits and teacher is None and not run.effort.is_papers:
        plan = fine_tuning(plan)
    return TrainingJob(
        architecture=candidate.architecture,
        data=run.spec.data,
        group_by=run.spec.group_by,
        plan=plan,
        initial=os.path.relpath(weights, folder) if inherits else "",
        teacher=teacher,
        normalisation=Normalisation(data.mean, data.std),
        classes=data.classes,
        seed=run.spec.seed,
        compute=_compute(run, folder, networks),
    )


def _teacher(run: RunContext, folder: Path) -> Teacher | None:
    """Return the whole network from which the candidates are cut, if there is one."""
    if run.weights is None:
        return None
    tuned = TunedFiles.of(SearchFiles.of_run(run.folder.path))
    return Teacher(tuned.read().architecture, os.path.relpath(tuned.weights, folder))


def _compute(run: RunContext, folder: Path, networks: int) -> Compute:
    """Return device and threads of a training; a resumed training keeps its number of threads."""
    if ranks() > 1:
        return replace(run.compute, threads=1)
    stored = folder / "job.json"
    if stored.exists():
        threads = read_json(stored, TrainingJob).compute.threads
    else:
        threads = training_threads(run.dataset.input_shape[1], networks)
    return replace(run.compute.of_child(), threads=threads)


class _Progress:
    """Reads the logs of trainings, prints their progress, and sends the metrics to a tracker."""

    def __init__(
        self, run: RunContext, update: Update, chosen: list[Candidate], folders: list[Path]
    ) -> None:
        self.run, self.update, self.chosen, self.folders = run, update, chosen, folders
        self.tracked = {folder: len(_epochs(folder)) for folder in folders}
        self.remedy = WaitingRemedy(run.dataset.train.images, run.spec.data, run.console.say)

    def show(self) -> None:
        logs = {folder: _epochs(folder) for folder in self.folders}
        epochs = self.run.training_plan.epochs
        last = [log[-1] for log in logs.values() if log]
        shares = ", ".join(f"{line.accuracy:.0%}" for line in last)
        texts = [f"training {self.run.dataset.score_name} {shares}"]
        if running := [line for line in last if line.epoch < epochs]:
            speed = combined(running)
            texts.append(speed_text(speed, self.run.compute))
            self.remedy.check(speed.waiting)
        done = sum(map(len, logs.values()))
        self.update(done, epochs * len(self.folders), ", ".join(texts) if last else "")
        self.run.console.standings(
            f"networks in training, budget {self.run.budget_ms:.4g} ms",
            standings(self.chosen, self.run.budget_ms, self._scores(logs)),
        )
        for folder, log in logs.items():
            self._track(folder, log)

    def _scores(self, logs: dict[Path, list[EpochLog]]) -> dict[str, str]:
        """Return the progress of each training, by the digest of its architecture."""
        name = self.run.dataset.score_name
        return {
            folder.name: f"epoch {log[-1].epoch}, training {name} {log[-1].accuracy:.1%}"
            for folder, log in logs.items()
            if log
        }

    def _track(self, folder: Path, log: list[EpochLog]) -> None:
        """Send the epochs that have ended since the last call."""
        for line in log[self.tracked[folder] :]:
            self.run.tracking.log_line(f"training/{folder.name[:8]}", line.epoch, line)
        self.tracked[folder] = max(self.tracked[folder], len(log))


def _epochs(folder: Path) -> list[EpochLog]:
    return list(read_lines(folder / "log.jsonl", EpochLog))
