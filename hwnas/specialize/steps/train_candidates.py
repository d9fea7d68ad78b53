"""Training the chosen networks: each in a process of its own, or all ranks on one after another."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from hwnas.console import Update
from hwnas.errors import HwnasError
from hwnas.files import read_lines, write_json
from hwnas.processes import cores
from hwnas.specialize.context import Candidate, RunContext
from hwnas.specialize.steps.screening import inherited_weights
from hwnas.specialize.steps.train_job import TrainJob, TrainResult, run_training
from hwnas.training.distributed import ranks
from hwnas.training.loop import EpochLog


def train_all(run: RunContext, chosen: list[Candidate]) -> list[TrainResult]:
    """Train each network in a process of its own, as many at once as there are cores.

    Several ranks train them together instead, one after the other.
    """
    folder = run.folder.path / "training"
    waiting = [
        one for one in chosen if not (folder / one.architecture.digest / "result.json").exists()
    ]
    if ranks() > 1:
        _train_together(run, waiting, chosen, folder)
        return [_result(folder / one.architecture.digest) for one in chosen]
    running: dict[str, subprocess.Popen[bytes]] = {}
    with run.console.step(f"training {len(chosen)} networks") as update, run.folder.stage("train"):
        try:
            while waiting or running:
                while waiting and len(running) < cores():
                    one = waiting.pop(0)
                    running[one.architecture.digest] = _start(run, one, folder)
                time.sleep(0.2)
                for digest, process in list(running.items()):
                    if process.poll() is not None:
                        _check_ended(process, folder / digest)
                        del running[digest]
                _tell(update, chosen, folder, run.training_plan.epochs)
        finally:
            for process in running.values():
                process.kill()
                process.wait()
    return [_result(folder / one.architecture.digest) for one in chosen]


def _train_together(
    run: RunContext, waiting: list[Candidate], chosen: list[Candidate], folder: Path
) -> None:
    title = f"training {len(chosen)} networks on {ranks()} ranks"
    plan, config = run.training_plan, run.spec
    with run.console.step(title) as update, run.folder.stage("train"):
        for one in waiting:
            out = folder / one.architecture.digest
            write_json(out / "architecture.json", one.architecture)
            weights = inherited_weights(run, one.architecture)
            training = TrainJob(
                architecture=str(out / "architecture.json"),
                data=config.data,
                out=str(out),
                epochs=plan.epochs,
                batch_size=plan.batch_size,
                weights=str(weights) if weights.exists() else None,
                flip=config.flip,
                auxiliary=plan.auxiliary,
                drop_path=plan.drop_path,
                seed=config.seed,
            )
            run_training(training, True, lambda _: _tell(update, chosen, folder, plan.epochs))


def _start(run: RunContext, one: Candidate, folder: Path) -> subprocess.Popen[bytes]:
    """Start ``hwnas train`` for one network; it ends when this process does."""
    out = folder / one.architecture.digest
    write_json(out / "architecture.json", one.architecture)
    config = run.spec
    command = [
        sys.executable, "-m", "hwnas", "train",
        "--architecture", str(out / "architecture.json"),
        "--data", config.data,
        "--out", str(out),
        "--epochs", str(run.training_plan.epochs),
        "--batch-size", str(run.training_plan.batch_size),
        "--auxiliary", str(run.training_plan.auxiliary),
        "--drop-path", str(run.training_plan.drop_path),
        "--seed", str(config.seed),
        "--flip" if config.flip else "--no-flip",
        "--resume",
    ]  # fmt: skip
    if (weights := inherited_weights(run, one.architecture)).exists():
        command += ["--weights", str(weights)]
    with open(out / "stderr.txt", "wb") as stderr:
        return subprocess.Popen(
            command,
            env={**os.environ, "HWNAS_PARENT": str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
        )


def _check_ended(process: subprocess.Popen[bytes], folder: Path) -> None:
    if process.returncode != 0:
        said = (folder / "stderr.txt").read_text(errors="replace").strip().splitlines()
        raise HwnasError(
            f"training {folder.name} ended with status {process.returncode}: "
            f"{said[-1] if said else 'it said nothing'}"
        )


def _result(folder: Path) -> TrainResult:
    return msgspec.json.decode((folder / "result.json").read_bytes(), type=TrainResult)


def _tell(update: Update, chosen: list[Candidate], folder: Path, epochs: int) -> None:
    lines = [
        list(read_lines(folder / one.architecture.digest / "log.jsonl", EpochLog)) for one in chosen
    ]
    done = sum(map(len, lines))
    last = [f"{epoch[-1].accuracy:.0%}" for epoch in lines if epoch]
    update(done, epochs * len(chosen), "training accuracy " + ", ".join(last) if last else "")
