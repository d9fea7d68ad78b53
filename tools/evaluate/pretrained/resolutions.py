"""Which score of a member before its training tells at which resolution a network is cut best?

    python -m tools.evaluate.pretrained.resolutions --run RUN

Judges the shortlist of a finished run with a trained network, and random members of the same
latency: by the divergence of the closed forms, and by the validation photos before and after the
projections are solved again from front to back. Writes ``results/resolutions.md``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import click
import torch
from scipy.stats import kendalltau
from torch import Tensor, nn

from hwnas.architecture.architecture import Genotype
from hwnas.architecture.size import size_text
from hwnas.console import console
from hwnas.files import read_json
from hwnas.latency_models.cost import NetworkCosts
from hwnas.latency_models.storage.model_file import ModelFile, model_of
from hwnas.nn.build import build
from hwnas.nn.elastic.member import ClosedForms
from hwnas.nn.resized import resized
from hwnas.search.elastic.divergence import CHUNK_IMAGES, Divergence
from hwnas.search.elastic.shortlist import random_members, shortlist
from hwnas.search.elastic.state import read_state
from hwnas.search.elastic.strategy import DIVERGENCE_IMAGES, MEMBERS_PER_SIZE, STATISTICS_IMAGES
from hwnas.spaces.elastic.space import ElasticSpace
from hwnas.specialize.context import RunContext
from hwnas.specialize.setup.resolve import Resources, open_run
from hwnas.specialize.spec import read_spec
from hwnas.training.evaluation import label_probability
from hwnas.training.images.loader import as_data
from tools.lib.options import out_option
from tools.lib.results import command, results_folder, table, write_results

RESULTS = results_folder(__file__) / "resolutions.md"
WINDOW = 0.93, 0.97
"""Latencies as shares of the budget."""
TITLES = (
    "member",
    "pixels",
    "blocks left out",
    "divergence of closed forms, nats",
    "accuracy of closed forms, %",
    "divergence when refitted",
    "accuracy when refitted, %",
    "probability of the label when refitted, %",
)


@click.command()
@click.option("--run", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--random", "count", default=12, show_default=True, help="Random members.")
@out_option(RESULTS)
@torch.no_grad()
def main(run: Path, count: int, out: Path) -> None:
    """Judge members of a finished run at all resolutions."""
    torch.set_num_threads(1)
    spec = read_spec(run)
    with Resources(console(True)) as resources, open_run(spec, run, resources, True) as context:
        rows = list(judged(context, run, count))
        images = len(context.dataset.valid.labels)
    taus = [f"{_tau(rows, column):+.2f}" for column in (3, 4, 5, 7)]
    text = write_results(
        out,
        "Members at all resolutions, before their training",
        command(__file__, "--run RUN"),
        f"{spec.pretrained} on {Path(spec.data).name}, {spec.targets[0]}, "
        f"{images} validation photos.",
        table(TITLES, ([row[0], row[1], row[2], *map(_rounded, row[3:])] for row in rows)),
        "Kendall's tau with the accuracy when refitted: divergence of closed forms "
        f"{taus[0]}, their accuracy {taus[1]}, divergence when refitted {taus[2]}, probability "
        f"{taus[3]}.",
    )
    click.echo(text)


def judged(
    run: RunContext, folder: Path, count: int
) -> Iterator[tuple[str, str, int, float, float, float, float, float]]:
    """Yield a row for each member of the shortlist and each random one."""
    space, seed = run.space, run.spec.seed
    assert isinstance(space, ElasticSpace)
    costs = model_of(read_json(folder / "latency_model.json", ModelFile)).costs(space)
    assert isinstance(costs, NetworkCosts)
    low_ms, high_ms = (share * run.budget_ms for share in WINDOW)
    state = read_state(folder / "checkpoints" / "search.safetensors")
    train, valid = (as_data(s, run.dataset) for s in (run.dataset.train, run.dataset.valid))
    sample = train.sample(max(STATISTICS_IMAGES, DIVERGENCE_IMAGES), seed)
    images = torch.cat([batch for batch, _ in sample.in_order()])[:DIVERGENCE_IMAGES]
    photos = torch.cat([batch for batch, _ in valid.in_order()])
    network = build(space.original)
    network.load_state_dict(state.weights)
    forms = ClosedForms(network.eval(), space.original.blocks, state.statistics, state.slices)
    divergence = Divergence(space, forms, images)

    def logits(network: nn.Module, member: Genotype) -> Tensor:
        shown = resized(photos, space.sizes[member.choices[0]])
        return torch.cat([network(part) for part in shown.split(CHUNK_IMAGES)])

    listed = shortlist(space, costs, state.increments, low_ms, high_ms, MEMBERS_PER_SIZE, seed)
    drawn = random_members(space, costs, low_ms, high_ms, count, seed + 1)
    named = [("shortlist", member) for member in listed] + [("random", each) for each in drawn]
    for name, member in named:
        closed, solved = divergence.member(member), divergence.refitted(member)
        before, after = logits(closed, member), logits(solved, member)
        blocks = space.architecture(member).compute_blocks
        yield (
            name,
            size_text(space.sizes[member.choices[0]]),
            len(space.original.compute_blocks) - len(blocks),
            divergence.of_network(closed, member.choices[0]),
            100 * _accuracy(before, valid.labels),
            divergence.of(member),
            100 * _accuracy(after, valid.labels),
            100 * label_probability(after, valid.labels),
        )


def _tau(rows: Sequence[Sequence[object]], column: int) -> float:
    """Return the rank correlation of a column with the accuracy of refitted members."""
    result: Any = cast(Any, kendalltau)([row[column] for row in rows], [row[6] for row in rows])
    return float(result.statistic)


def _accuracy(logits: Tensor, labels: Tensor) -> float:
    return (logits.argmax(1) == labels).double().mean().item()


def _rounded(value: object) -> str:
    assert isinstance(value, float)
    return f"{value:.1f}" if value > 5 else f"{value:.2f}"


if __name__ == "__main__":
    main()
