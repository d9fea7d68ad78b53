"""EAS: inherited against fresh weights, learned against random actions, EAS against ProxylessNAS.

    python -m tools.evaluate.eas.run inherit --work DIR [--data NAME] [--images 2000] [--seeds 3]
    python -m tools.evaluate.eas.run actions --work DIR [--data NAME] [--images 2000] [--seeds 3]
    python -m tools.evaluate.eas.run final   --work DIR \
        [--data NAME] [--effort trial] [--budget 0.5ms]

Each part continues where it was interrupted, prints its table and writes it to results/PART.md, for
other data to PART_DATA.md (``--json OUT``: the rows as JSON, too). The first two need no device:
their budget is in MACs. Small by default: the paper trained children for 20 epochs on 45,000
images.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random
from statistics import fmean, stdev
from typing import Any

import click
import msgspec
import torch

from hwnas.data.datasets import load_dataset
from hwnas.files import write_json
from hwnas.latency_models.cost import NetworkCosts
from hwnas.nn.build import build
from hwnas.nn.growth.apply import grown_net
from hwnas.nn.growth.transforms import net_of
from hwnas.report.report import Report
from hwnas.search.eas.model_pool import read_family
from hwnas.search.eas.schedule import child_plan, growth_steps
from hwnas.search.eas.strategy import Eas, EasRandom
from hwnas.search.plan import SearchFiles, SearchPlan
from hwnas.search.strategy import SearchContext
from hwnas.spaces.find import find_space
from hwnas.spaces.grown.space import GrownSpace, Layers
from hwnas.spaces.grown.steps import apply_step
from hwnas.training.evaluation import accuracy, recalibrate
from hwnas.training.images.loader import Data, as_data
from hwnas.training.log import EpochLog
from hwnas.training.loop import train
from hwnas.training.seeds import seeded
from tools.lib.options import json_option, seeds_option, work_option
from tools.lib.results import table_of, write_part

DATA = "fashion-mnist-6k"
Row = dict[str, object]


class Curves(msgspec.Struct):
    """Validation accuracy of one grown child after each epoch, with and without inheritance."""

    start: float
    """Accuracy of the network from which the child was grown."""
    inherited: list[float]
    scratch: list[float]
    macs: int


class SearchResult(msgspec.Struct):
    """Accuracies of the children of a search."""

    best: float
    mean: float
    """Mean accuracy of the last quarter of the children."""
    trained: int


@click.group()
def cli() -> None:
    """Evaluate EAS."""


def common(function: Callable[..., None]) -> Callable[..., Any]:
    """Add the options of all parts."""
    data = click.option("--data", default=DATA, show_default=True)
    space = click.option("--space", default="chain", show_default=True)
    return work_option(data(space(json_option(function))))


images_option = click.option("--images", default=2000, show_default=True, help="Training images.")


@cli.command()
@common
@images_option
@seeds_option(3)
@click.option(
    "--epochs", default=4, show_default=True, help="Epochs of the start network and of the child."
)
def inherit(
    work: Path, data: str, space: str, out: Path | None, images: int, seeds: int, epochs: int
) -> None:
    """Compare a grown child with its parent's weights and from scratch, epoch by epoch."""
    curves: list[Curves] = []
    for seed in range(seeds):
        path = work / f"inherit-{data}-{space}-{images}-{epochs}-{seed}.json"
        if not path.exists():
            write_json(path, _curves(data, space, images, epochs, seed))
        curves.append(msgspec.json.decode(path.read_bytes(), type=Curves))
    start = _mean_and_std([curve.start for curve in curves])
    rows: list[Row] = [{"": "start network", "inherited": start}]
    for n in range(epochs):
        row: Row = {"": f"epoch {n + 1}"}
        row["inherited"] = _mean_and_std([curve.inherited[n] for curve in curves])
        row["from scratch"] = _mean_and_std([curve.scratch[n] for curve in curves])
        rows.append(row)
    text = (
        f"Start network trained {epochs} epochs, grown by random steps to a middle network "
        f"({fmean(curve.macs for curve in curves):,.0f} MACs), which is trained in the same way "
        "with both initialisations, at the children's learning rate of 0.02; validation accuracy, "
        f"mean ± standard deviation over {seeds} seeds."
    )
    options = f"--space {space} --images {images} --epochs {epochs} --seeds {seeds}"
    name = _name("inherit", data)
    called_with = f"inherit --work DIR --data {data} {options}"
    click.echo(
        write_part(__file__, name, "EAS", called_with, text, table_of(rows), figures=rows, out=out)
    )


@cli.command()
@common
@images_option
@seeds_option(3)
@click.option("--children", default=16, show_default=True)
@click.option("--epochs", default=1, show_default=True, help="Epochs of each child.")
def actions(
    work: Path,
    data: str,
    space: str,
    out: Path | None,
    images: int,
    seeds: int,
    children: int,
    epochs: int,
) -> None:
    """Compare EAS with EAS with random actions: the same children, epochs and budget."""
    rows: list[Row] = []
    name = f"{data}-{space}-{images}-{children}-{epochs}"
    plan = SearchPlan(warmup_epochs=4, children=children, child_epochs=epochs)
    for kind in (Eas, EasRandom):
        results: list[SearchResult] = []
        for seed in range(seeds):
            folder = work / f"{kind.__name__}-{name}-{seed}"
            path = folder.with_suffix(".json")
            if not path.exists():
                write_json(path, _search(kind, folder, data, space, images, seed, plan))
            results.append(msgspec.json.decode(path.read_bytes(), type=SearchResult))
        rows.append(
            {
                "actions": "learnt" if kind is Eas else "random",
                "best": _mean_and_std([result.best for result in results]),
                "last quarter": _mean_and_std([result.mean for result in results]),
                "trained": sum(result.trained for result in results),
            }
        )
    text = (
        f"`learnt`: the meta-controller; `random`: all possible actions equally likely. Validation "
        f"accuracy of the best of {children} children, mean ± standard deviation over {seeds} "
        "seeds, and the mean of the last quarter of the children."
    )
    options = f"--space {space} --images {images} --children {children} --epochs {epochs}"
    name = _name("actions", data)
    called_with = f"actions --work DIR --data {data} {options} --seeds {seeds}"
    click.echo(
        write_part(__file__, name, "EAS", called_with, text, table_of(rows), figures=rows, out=out)
    )


@cli.command()
@common
@click.option("--effort", default="trial", show_default=True)
@click.option("--target", default="host-cpu-litert", show_default=True)
@click.option("--budget", default="0.5ms", show_default=True)
@seeds_option(1)
def final(
    work: Path,
    data: str,
    space: str,
    out: Path | None,
    effort: str,
    target: str,
    budget: str,
    seeds: int,
) -> None:
    """Compare the delivered networks of EAS and ProxylessNAS at one budget, on one device."""
    rows: list[Row] = []
    for strategy, strategy_space in (("eas", space), ("proxyless", "mobile")):
        for seed in range(seeds):
            options = ["--strategy", strategy, "--space", strategy_space, "--data", data]
            options += ["--target", target, "--budget", budget]
            options += ["--effort", effort, "--seed", str(seed)]
            report = _specialize_report(work / f"{strategy}-{seed}", options)
            rows.append(_final_row(report, strategy, seed))
    text = (
        "Test accuracy of the delivered file, its measured latency, and the minutes of search and "
        "training (two workers on two cores where networks are trained)."
    )
    arguments = f"--space {space} --effort {effort} --target {target} --budget {budget}"
    name = _name("final", data)
    called_with = f"final --work DIR --data {data} {arguments} --seeds {seeds}"
    click.echo(
        write_part(__file__, name, "EAS", called_with, text, table_of(rows), figures=rows, out=out)
    )


def _data(name: str, images: int, seed: int) -> tuple[Data, Data, tuple[int, int, int], int]:
    dataset = load_dataset(name)
    train_images = as_data(dataset.train, dataset).sample(images, seed)
    valid = as_data(dataset.valid, dataset)
    return train_images, valid, dataset.input_shape, dataset.num_classes


def _grown_space(name: str, shape: tuple[int, int, int], classes: int) -> GrownSpace:
    space = find_space(name, shape, classes)
    if not isinstance(space, GrownSpace):
        raise click.UsageError(f"--space {name}: EAS needs a space of grown networks")
    return space


def _curves(data: str, name: str, images: int, epochs: int, seed: int) -> Curves:
    train_images, valid, shape, classes = _data(data, images, seed)
    space = _grown_space(name, shape, classes)
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    layers = space.layers(space.start)
    plan = child_plan(SearchPlan(), epochs)
    start = build(space.architecture(space.start))
    train(start, train_images, plan, seed)
    recalibrate(start, train_images)
    start_accuracy = accuracy(start, valid)

    def macs(candidate: Layers) -> float:
        return float(space.architecture(space.genotype(candidate)).macs)

    default = space.architecture(space.default).macs
    steps = growth_steps(space, layers, macs, 0.9 * default, default, Random(seed))
    net = net_of(space.blocks(layers), start)
    statistics = next(train_images.in_order(256))[0]
    grown = grown_net(space, layers, net, steps, statistics, seeded(seed, "grown"))
    for step in steps:
        layers = apply_step(space, layers, step)
    child = space.architecture(space.genotype(layers))
    return Curves(
        start_accuracy,
        _curve(grown.network(), train_images, valid, epochs, seed),
        _curve(build(child), train_images, valid, epochs, seed),
        child.macs,
    )


def _curve(
    network: torch.nn.Module, data: Data, valid: Data, epochs: int, seed: int
) -> list[float]:
    accuracies: list[float] = []

    def note(line: EpochLog) -> None:
        recalibrate(network, data)
        accuracies.append(accuracy(network, valid))
        network.train()

    train(network, data, child_plan(SearchPlan(), epochs), seed, None, note)
    return accuracies


def _search(
    kind: type[Eas], folder: Path, data: str, name: str, images: int, seed: int, plan: SearchPlan
) -> SearchResult:
    train_images, valid, shape, classes = _data(data, images, seed)
    space = _grown_space(name, shape, classes)
    costs = NetworkCosts(space, lambda blocks: {block: block.macs / 1e6 for block in blocks}, 0.0)
    budget = costs.network_ms(space.default.choices)
    torch.manual_seed(seed)
    (folder / "search").mkdir(parents=True, exist_ok=True)
    files = SearchFiles(folder / "search.safetensors", folder / "search" / "log.jsonl")
    strategy = kind.begin(
        SearchContext(
            space=space,
            costs=costs,
            budget_ms=budget,
            generator=seeded(seed, "paths"),
            warn=click.echo,
        )
    )
    strategy.search(train_images, valid, plan, seed, files)
    members = [member for member in read_family(folder / "search" / "children") if member.steps]
    accuracies = [member.accuracy for member in members if member.accuracy is not None]
    last = accuracies[-max(1, len(accuracies) // 4) :]
    return SearchResult(max(accuracies), fmean(last), len(accuracies))


def _specialize_report(folder: Path, options: list[str]) -> Report:
    if not (folder / "report.json").exists():
        words = [sys.executable, "-m", "hwnas", "specialize", "--out", str(folder), "--quiet"]
        words += options
        words += ["--resume"] if (folder / "config.toml").exists() else []
        subprocess.run(words, check=False, stdout=subprocess.DEVNULL)
    return Report.read(folder / "report.json")


def _final_row(report: Report, strategy: str, seed: int) -> Row:
    [result] = report.results
    spent = sum(report.stages_s.get(stage, 0.0) for stage in ("search", "train"))
    latency, accuracy = result.latency, result.accuracy
    return {
        "strategy": strategy,
        "seed": seed,
        "verdict": result.verdict,
        "accuracy": None if accuracy is None else round(accuracy.artifact or accuracy.torch, 4),
        "params": result.architecture.params,
        "macs": result.architecture.macs,
        "budget_ms": result.budget_ms,
        "measured_ms": None if latency is None else round(latency.median_ms, 4),
        "minutes": round(spent / 60, 1),
    }


def _mean_and_std(values: list[float]) -> str:
    spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
    return f"{fmean(values):.3f}{spread}"


def _name(part: str, data: str) -> str:
    """Return the name of a part's results file, which names data that is not the usual one."""
    return part if data == DATA else f"{part}_{Path(data).stem}"


if __name__ == "__main__":
    cli()
