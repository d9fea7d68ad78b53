"""`hwnas train`: train one architecture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hwnas.training.loop import EpochLog


@click.command("train")
@click.option(
    "--architecture",
    required=True,
    metavar="FILE|RUN|NAME",
    help="Architecture: JSON file, run folder or published name.",
)
@click.option(
    "--data", required=True, metavar="NAME|PATH", help="Data set: name, image folder or .npz file."
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder to write to.")
@click.option("--epochs", type=click.IntRange(1), help="[default: as in a quick run]")
@click.option(
    "--batch-size",
    type=click.IntRange(2),
    metavar="IMAGES",
    help="[default: the largest that fits the memory, at most 64]",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Begin with the weights of this .safetensors file.",
)
@click.option("--flip/--no-flip", default=True, show_default=True, help="Mirror images randomly.")
@click.option(
    "--auxiliary",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0),
    metavar="WEIGHT",
    help="Cells only: weight of the auxiliary head's loss (DARTS: 0.4).",
)
@click.option(
    "--drop-path",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 1, max_open=True),
    metavar="PROBABILITY",
    help="Cells only: drop-path probability at the end of the training (DARTS: 0.2).",
)
@click.option("--seed", default=0, show_default=True, help="Random seed.")
@click.option(
    "--threads", default=1, show_default=True, type=click.IntRange(1), help="CPU threads."
)
@click.option("--resume", is_flag=True, help="Continue the training in --out.")
def train(
    architecture: str,
    data: str,
    out: Path,
    epochs: int | None,
    batch_size: int | None,
    weights: Path | None,
    flip: bool,
    auxiliary: float,
    drop_path: float,
    seed: int,
    threads: int,
    resume: bool,
) -> None:
    """Train an architecture and write its weights.

    The folder OUT gets network.safetensors, log.jsonl and result.json. Start it with `torchrun
    --nproc-per-node N -m hwnas train …` and N processes share every batch.

    Example: hwnas train --architecture mobilenet_v2 --data cifar10 --out runs/mobilenet
    """
    from hwnas.specialize.distributed.ranks import leading
    from hwnas.specialize.steps.train_network import TrainSpec, train_network

    spec = TrainSpec(
        architecture=architecture,
        data=data,
        epochs=epochs,
        batch_size=batch_size,
        weights=weights,
        flip=flip,
        auxiliary=auxiliary,
        drop_path=drop_path,
        seed=seed,
        threads=threads,
    )
    with leading() as is_rank_0:
        if not is_rank_0:
            return
        result = train_network(spec, out, resume=resume, on_epoch=_print_epoch, log=_print)
    click.echo(f"validation accuracy {result.validation_accuracy:.2%}")
    click.echo(f"{out / 'network.safetensors'}")


def _print(text: str) -> None:
    click.echo(text, err=True)


def _print_epoch(line: EpochLog) -> None:
    _print(
        f"epoch {line.epoch} of {line.epochs}: loss {line.loss:.4f}, accuracy {line.accuracy:.2%}"
    )
