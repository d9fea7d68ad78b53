"""`hwnas train`: train one architecture from scratch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hwnas.training.loop import EpochLog


@click.command("train")
@click.option("--architecture", required=True, help="JSON file, run folder or published name.")
@click.option("--data", required=True, help="Data set by name, image folder or .npz file.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write to.")
@click.option("--epochs", type=click.IntRange(1), help="[default: as in a quick run]")
@click.option("--batch-size", type=click.IntRange(2), help="[default: what fits, at most 64]")
@click.option("--weights", help="Begin with the weights of this file (.safetensors).")
@click.option("--flip/--no-flip", default=True, show_default=True, help="Mirror images.")
@click.option("--auxiliary", default=0.0, type=click.FloatRange(0),
              help="Of cells: weight of a second classifier's loss; DARTS: 0.4.")  # fmt: skip
@click.option("--drop-path", default=0.0, type=click.FloatRange(0, 1, max_open=True),
              help="Of cells: probability, at the end; DARTS: 0.2.")  # fmt: skip
@click.option("--seed", default=0, show_default=True)
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1))
@click.option("--resume", is_flag=True, help="Go on with the training in --out.")
def train(
    architecture: str,
    data: str,
    out: Path,
    epochs: int | None,
    batch_size: int | None,
    weights: str | None,
    flip: bool,
    auxiliary: float,
    drop_path: float,
    seed: int,
    threads: int,
    resume: bool,
) -> None:
    """Train an architecture, from scratch without --weights, and write its weights.

    OUT gets network.safetensors, log.jsonl and result.json (accuracies, shares of 1). Started by
    `torchrun --nproc-per-node N -m hwnas train …`, N processes share every batch.
    """
    from hwnas.processes import watch_parent
    from hwnas.specialize.distributed.ranks import leading
    from hwnas.specialize.steps.train_job import TrainJob, run_training

    if parent := os.environ.get("HWNAS_PARENT"):
        watch_parent(int(parent))
    job = TrainJob(
        architecture=architecture, data=data, out=str(out), epochs=epochs,
        batch_size=batch_size, weights=weights, flip=flip, auxiliary=auxiliary,
        drop_path=drop_path, seed=seed, threads=threads,
    )  # fmt: skip
    with leading() as first:
        if not first:
            return
        result = run_training(job, resume, None if parent else _say, _tell)
    if not parent:
        click.echo(f"validation accuracy {result.validation_accuracy:.2%}")
        click.echo(f"{out / 'network.safetensors'}")


def _tell(text: str) -> None:
    click.echo(text, err=True)


def _say(line: EpochLog) -> None:
    click.echo(
        f"epoch {line.epoch} of {line.epochs}: loss {line.loss:.4f}, accuracy {line.accuracy:.2%}",
        err=True,
    )
