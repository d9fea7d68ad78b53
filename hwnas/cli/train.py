"""`hwnas train`: train one architecture."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import click

from hwnas.cli.framework.command import command, option, quiet_option, track_option
from hwnas.cli.framework.options import group_by_option, skip_broken_option
from hwnas.cli.framework.params import DATA, NETWORK, PATH, PRETRAINED, Number, Value


def _threads_option(function: Callable[..., None]) -> Callable[..., None]:
    """Add ``--threads``, whose values are those of `hwnas specialize`."""
    from hwnas.specialize.values import THREADS_FORM, parse_threads

    return option(
        "--threads",
        group="Training",
        default="auto",
        type=Value("N|auto", parse_threads, THREADS_FORM),
        default_help="auto: all cores for images of 112 px and more, else 1",
        help="CPU threads.",
    )(function)


@command(
    "train",
    continued_by="--resume",
    argument_hint="the network follows --from or --architecture, the images follow --data",
    example=(
        "hwnas train --from efficientnet_lite0 --data photos --out tuned",
        "hwnas train --architecture runs/host-cpu --data fashion-mnist-6k --out trained",
    ),
)
@option(
    "--from",
    "pretrained",
    group="Network",
    type=PRETRAINED,
    help="Trained network to tune on the data: a name of `hwnas networks list`, the folder of a "
    "run or training, a weights file, or module:factory.",
)
@option(
    "--resolution",
    group="Network",
    type=click.IntRange(1),
    metavar="PIXELS",
    default_help="the network's own, or about 1.25 times the photos' where they are smaller",
    help="Height and width of the images of a trained network.",
)
@option(
    "--architecture",
    group="Network",
    type=NETWORK,
    help="Network to train from scratch, as `hwnas show` takes it: a JSON file, a folder, a "
    "published name, or module:factory.",
)
@option(
    "--data",
    group="Training",
    required=True,
    type=DATA,
    help="Data set: name, folder of images, list (.csv), tar shards, .npz or .packed file.",
)
@option(
    "--out",
    group="Output",
    required=True,
    type=PATH,
    help="Folder to write to.",
)
@option(
    "--epochs",
    group="Training",
    type=click.IntRange(1),
    default_help="3 to 60, the fewer the more images there are",
    help="Epochs to train.",
)
@option(
    "--minutes",
    group="Training",
    type=Number(0, min_open=True),
    metavar="M",
    help="Train about so long: epochs are planned from measured speed.",
)
@option(
    "--batch-size",
    group="Training",
    type=click.IntRange(2),
    metavar="IMAGES",
    default_help="the largest that fits the memory, at most 64",
    help="Images in a batch.",
)
@option(
    "--weights",
    group="Network",
    type=PATH,
    metavar="FILE",
    help="Begin with the weights of this .safetensors file of the architecture.",
)
@skip_broken_option("Training")
@group_by_option("Training")
@option(
    "--flip/--no-flip",
    group="Training",
    default=None,
    default_help="colour images are mirrored, grey ones are not",
    help="Mirror images randomly.",
)
@option(
    "--device",
    group="Training",
    default="auto",
    metavar="DEVICE",
    default_help="the first CUDA device, else the CPU",
    help="Device that trains: cpu, cuda, cuda:N or mps.",
)
@option(
    "--amp",
    group="Training",
    default="auto",
    type=click.Choice(["auto", "none", "bf16", "fp16"]),
    default_help="bf16 on GPUs that have it, else float32",
    help="Precision of training steps.",
)
@option(
    "--auxiliary",
    group="Cells",
    default=0.0,
    type=Number(0),
    metavar="WEIGHT",
    help="Weight of the auxiliary head's loss (DARTS: 0.4).",
)
@option(
    "--drop-path",
    group="Cells",
    default=0.0,
    type=Number(0, 1, max_open=True),
    metavar="PROBABILITY",
    help="Drop-path probability at the end of the training (DARTS: 0.2).",
)
@option("--seed", group="Training", default=0, help="Random seed.")
@_threads_option
@track_option
@option("--resume", group="Output", is_flag=True, help="Continue the training in --out.")
@quiet_option
def train(
    pretrained: str | None,
    resolution: int | None,
    architecture: str | None,
    data: str,
    out: Path,
    epochs: int | None,
    minutes: float | None,
    batch_size: int | None,
    weights: Path | None,
    skip_broken: bool,
    group_by: str,
    flip: bool | None,
    device: str,
    amp: str,
    auxiliary: float,
    drop_path: float,
    seed: int,
    threads: int | Literal["auto"],
    track: str | None,
    resume: bool,
    quiet: bool,
) -> None:
    """Train an architecture, or tune a trained network, and write its weights.

    The folder OUT gets network.safetensors, log.jsonl and result.json. `hwnas export OUT` compiles
    the network, and `hwnas specialize --from OUT` cuts it to a device. Start it with `torchrun
    --nproc-per-node N -m hwnas train …` and N processes share every batch.
    """
    from hwnas.console import console
    from hwnas.specialize.distributed.ranks import leading
    from hwnas.specialize.steps.train_network import train_network
    from hwnas.specialize.steps.training_setup import TrainSpec
    from hwnas.specialize.tracking import open_tracker
    from hwnas.training.compute import resolve_compute

    spec = TrainSpec(
        architecture=architecture or "",
        pretrained=pretrained or "",
        resolution=resolution,
        data=data,
        epochs=epochs,
        minutes=minutes,
        batch_size=batch_size,
        weights=weights,
        skip_broken=skip_broken,
        group_by=group_by,
        flip=flip,
        auxiliary=auxiliary,
        drop_path=drop_path,
        seed=seed,
        compute=resolve_compute(device, amp),
        threads=threads,
    )
    with leading(spec.compute.device) as is_rank_0:
        if not is_rank_0:
            return
        tracker = open_tracker(track, out)
        result = train_network(spec, out, resume=resume, console=console(quiet), tracker=tracker)
    click.echo(f"validation accuracy {result.validation_accuracy:.2%}")
    if result.top5_accuracy is not None:
        click.echo(f"top-5 accuracy {result.top5_accuracy:.2%}")
    if result.balanced_accuracy is not None:
        click.echo(f"mean accuracy of the classes {result.balanced_accuracy:.2%}")
    click.echo(f"{out / 'network.safetensors'}")
    if pretrained and not quiet:
        click.echo(f"model files: hwnas export {shlex.join([str(out), '--data', data])}")
