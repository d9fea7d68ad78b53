"""Why does a ProxylessNAS search choose worse than its own supernet ranks?

    python -m tools.evaluate.exhaustive.gradients.instruments gradients --work DIR [--seeds 3]
    python -m tools.evaluate.exhaustive.gradients.instruments table     --work DIR
    python -m tools.evaluate.exhaustive.gradients.instruments pairs     --work DIR

The first two read what ``run search --method ProxylessNAS`` left in DIR. ``gradients`` compares
estimators of the architecture gradient with the exact one at the end of the warm-up; ``table``
writes results/choice.md: how its searches ended, and these estimators. ``pairs`` reads the searches
``REINFORCE`` and ``REINFORCE, probability`` and writes results/reward_searches.md: how those of the
same seed and budget ended with one reward and with the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import torch
from torch.nn.functional import cross_entropy

from hwnas.files import append_line, read_lines
from hwnas.latency_models.cost import CostTable
from hwnas.search.objective import Linear
from hwnas.search.proxyless.gradient import ProxylessGradient
from hwnas.search.strategy import SearchContext
from hwnas.training.checkpoint import load_checkpoint
from hwnas.training.images.loader import Batch
from hwnas.training.seeds import seeded
from tools.evaluate.exhaustive.gradients.estimators import (
    Estimator,
    Floats,
    accumulated_cosine,
    decision_gradients,
    exact_gradient,
    policy_gradients,
    summary,
)
from tools.evaluate.exhaustive.problem import BATCH_SIZE, load_images, space
from tools.evaluate.exhaustive.ranking.scores import all_logits
from tools.evaluate.exhaustive.regret import tau
from tools.evaluate.exhaustive.searches import PLAN, WINDOW, Search, cost_table, stored
from tools.evaluate.exhaustive.table import TABLE, Table, read_table
from tools.lib.options import seeds_option, work_option
from tools.lib.results import command, table, write_results

METHOD = "ProxylessNAS"
REWARDS = "REINFORCE", "REINFORCE, probability"
"""Searches with rewards by accuracy, as in the paper, and by the probability of the labels."""
BATCHES, STEPS = 8, 200
"""Validation batches on which gradients are compared, and draws of each estimator."""


@click.group()
def cli() -> None:
    """Look into the searches that ran."""


@cli.command()
@work_option
@seeds_option(3)
def gradients(work: Path, seeds: int) -> None:
    """Compare estimators of the gradient; one line of gradients.jsonl for each and seed."""
    torch.set_num_threads(1)
    file, known = work / "gradients.jsonl", read_table()
    done = {line.seed for line in read_lines(file, Estimator)}
    for seed in set(range(seeds)) - done:
        for line in _compared(work, known, seed):
            append_line(file, line)
            click.echo(f"seed {seed}, {line.name}: {line.cosine:.2f} {line.signal:.3f}")


@cli.command("table")
@work_option
def write_table(work: Path) -> None:
    """Write results/choice.md."""
    known = read_table()
    searches = [line for line in stored(work) if line.method == METHOD]
    parts = [ends_text(work, known, searches)]
    if lines := list(read_lines(work / "gradients.jsonl", Estimator)):
        parts.append(estimators_text(known, lines))
    conditions = f"torch {torch.__version__}, one thread"
    path, called_as = TABLE.with_name("choice.md"), command(__file__, "table --work DIR")
    title = "What a ProxylessNAS search knows of its networks"
    click.echo(write_results(path, title, called_as, *parts, conditions=conditions))


@cli.command("pairs")
@work_option
def write_pairs(work: Path) -> None:
    """Write results/reward_searches.md."""
    known, searches = read_table(), stored(work)
    ends = [
        {
            (line.runtime, line.percentile, line.seed): search_end(work, known, line)
            for line in searches
            if line.method == method
        }
        for method in REWARDS
    ]
    both = sorted(ends[0].keys() & ends[1].keys())
    if len(both) < 2:
        raise click.ClickException(f"{work}: {len(both)} pairs of searches, expected at least two")
    text = (
        f"{len(both)} pairs of searches: {len({seed for *_, seed in both})} seed(s), the budgets "
        "of the table on both runtimes; in the mean, and the difference ± its standard error over "
        "the pairs. `tau`: Kendall's tau-b over all networks with the log-probability at the end "
        "of the search. `regret`: of the most probable network in the window that keeps the budget."
    )
    path, called_as = TABLE.with_name("reward_searches.md"), command(__file__, "pairs --work DIR")
    rows = paired_rows([[by_search[key] for key in both] for by_search in ends])
    click.echo(
        write_results(
            path,
            "Searches by REINFORCE with two rewards",
            called_as,
            text,
            table(["", *REWARDS, "difference"], rows),
            conditions=f"torch {torch.__version__}, one thread",
        )
    )


class SearchEnd(NamedTuple):
    """Figures of a search at its end, see `ends_text`."""

    entropy: float
    expected_share: float
    argmax_share: float
    tau_truth: float
    tau_supernet: float
    tau_supernet_truth: float
    networks: float
    rank: float
    regret_probable: float
    regret_supernet: float


PAIRED = {
    "tau with the truth": "tau_truth",
    "tau with its own supernet": "tau_supernet",
    "regret, points": "regret_probable",
}
"""Fields of `SearchEnd` that pairs of searches are compared by."""


def paired_rows(ends: Sequence[Sequence[SearchEnd]]) -> list[list[str]]:
    """Return means and paired differences of the figures of two lists of searches."""
    rows: list[list[str]] = []
    for name, field in PAIRED.items():
        first, second = (np.array([getattr(end, field) for end in each]) for each in ends)
        change = second - first
        error = change.std(ddof=1) / np.sqrt(len(change))
        means = [f"{each.mean():.2f}" for each in (first, second)]
        rows.append([name, *means, f"{change.mean():+.2f} ± {error:.2f}"])
    return rows


def ends_text(work: Path, known: Table, searches: Sequence[Search]) -> str:
    rows: list[list[object]] = []
    columns: list[SearchEnd] = []
    for search in searches:
        values = search_end(work, known, search)
        columns.append(values)
        rows.append([search.runtime, search.percentile, search.seed, *map(_two, values)])
    mean = [float(np.mean(column)) for column in zip(*columns, strict=True)]
    rows.append(["mean", "", "", *map(_two, mean)])
    titles = ["runtime", "budget, %", "seed", "entropy", "E / T", "argmax / T"]
    titles += ["tau, log p and truth", "tau, log p and supernet", "tau, supernet and truth"]
    titles += ["in the window", "rank", "regret: log p", "regret: supernet"]
    low, high = WINDOW
    text = (
        "`entropy`: of the probabilities, as a share of the largest. `E / T`, `argmax / T`: "
        "expected latency and that of the most probable candidates against the budget. `tau`: "
        "Kendall's tau-b over all networks of the log-probability of a network, the probability of "
        "the labels of 2,000 validation images with the supernet's weights, and the truth of the "
        f"table. Of the networks with a predicted latency of {low:.0%} to {high:.0%} of the budget "
        "that keep it: their number, the rank by the supernet of the most probable, and the regret "
        "of the most probable and of the first by the supernet, in points.\n\n"
    )
    return text + table(titles, rows)


def search_end(work: Path, known: Table, search: Search) -> SearchEnd:
    """Return the figures of one search."""
    name = f"{search.method}-{search.runtime}-{search.percentile}-{search.seed}"
    state, _ = load_checkpoint(work / "supernets" / name / "search.safetensors")
    costs, budget_ms = (
        cost_table(known, search.runtime),
        known.budget_ms(search.runtime, search.percentile),
    )
    logits = state["arch_logits"].double()
    rows = [row[: len(ms)].log_softmax(0) for row, ms in zip(logits, costs.mean_ms, strict=True)]
    entropy = np.mean([float(-(row.exp() * row).sum()) / np.log(len(row)) for row in rows])
    expected_ms = costs.fixed_ms + sum(
        float(row.exp() @ torch.tensor(ms, dtype=torch.float64))
        for row, ms in zip(rows, costs.mean_ms, strict=True)
    )
    largest_ms = costs.network_ms([int(row.argmax()) for row in rows])
    columns = zip(rows, known.choices.T, strict=True)
    log_p = np.sum([row.numpy()[column] for row, column in columns], 0)
    score, truth = np.array(search.supernet), known.accuracy
    predicted, measured = costs.networks_ms(known.choices), known.latency_ms[search.runtime]
    low, high = (share * budget_ms for share in WINDOW)
    inside = (predicted >= low) & (predicted <= high) & (measured <= budget_ms)
    window, best = np.flatnonzero(inside), known.best(search.runtime, budget_ms)
    probable, judged = (window[values[window].argmax()] for values in (log_p, score))
    return SearchEnd(
        float(entropy),
        expected_ms / budget_ms,
        largest_ms / budget_ms,
        tau(log_p, truth),
        tau(log_p, score),
        tau(score, truth),
        len(window),
        1 + int((score[window] > score[probable]).sum()),
        float(best - truth[probable]),
        float(best - truth[judged]),
    )


def estimators_text(known: Table, lines: Sequence[Estimator]) -> str:
    steps = PLAN.search_epochs * (4000 // PLAN.batch_size // PLAN.weight_steps)
    rows: list[list[object]] = []
    for name in dict.fromkeys(line.name for line in lines):
        taken = [line for line in lines if line.name == name]
        values = [[line.cosine, line.signal, accumulated_cosine(line, steps)] for line in taken]
        cells = [_mean_and_std(column) for column in zip(*values, strict=True)]
        rows.append([name, len(taken), taken[0].forwards, *cells])
    text = (
        "The gradient of the expected cross-entropy in the logits at the end of the warm-up, all "
        "probabilities equal, latency without weight. Exact: from the losses of all networks on "
        f"{BATCHES * BATCH_SIZE:,} validation images with the statistics of each batch. `cosine`: "
        f"of the mean of an estimator ({STEPS:,} draws) with it: below 1 by its bias (and by what "
        "is left of the noise). `signal`: length of the mean against the standard deviation of a "
        f"draw. `after {steps} steps`: expected cosine of the mean of as many draws as a search "
        "has architecture steps. `forwards`: networks that are run for a draw; with the gates, "
        "the other candidates are run alone.\n\n"
    )
    titles = ["estimator", "supernets", "forwards", "cosine", "signal", f"after {steps} steps"]
    return "## Estimators of the architecture gradient\n\n" + text + table(titles, rows)


def _compared(work: Path, known: Table, seed: int) -> list[Estimator]:
    strategy = _warm(work, seed, cost_table(known, "onnxruntime"))
    images = load_images().valid
    batches = [
        (pixels, labels) for pixels, labels in images.in_order(BATCH_SIZE) if len(labels) > 1
    ][:BATCHES]
    logits = all_logits(strategy.supernet, batches)  # pyright: ignore[reportArgumentType]
    labels = torch.cat([wanted for _, wanted in batches])
    networks = len(logits)
    losses = np.array(
        [cross_entropy(each, labels, reduction="none").numpy() for each in logits], np.float64
    )
    hits = (logits.argmax(2) == labels).numpy().astype(np.float64)
    given = logits.softmax(2).gather(2, labels.expand(networks, -1)[..., None])[..., 0].numpy()
    rng = np.random.default_rng(seed)
    exact = exact_gradient(known.choices, losses.mean(1))
    gates = _gate_gradients(strategy, batches)
    by_batch = losses.reshape(networks, BATCHES, -1).mean(2)
    hits_by_batch = hits.reshape(networks, BATCHES, -1).mean(2)
    whole = -given.mean(1, keepdims=True)
    decisions = sum(int(size) for size in known.choices.max(0))
    draws: dict[str, tuple[Floats, str]] = {
        "gates of all candidates, 128 images": (gates, "1 and its candidates"),
        "losses of all candidates, 128 images": (
            decision_gradients(known.choices, by_batch, STEPS, rng),
            str(1 + decisions),
        ),
        "losses of all candidates, 1,024 images": (
            decision_gradients(known.choices, losses.mean(1, keepdims=True), STEPS, rng),
            str(1 + decisions),
        ),
        "REINFORCE, accuracy of 10 networks, 128 images": (
            policy_gradients(known.choices, -hits_by_batch, 10, STEPS, rng),
            "10",
        ),
        "REINFORCE, accuracy of 10 networks, 1,024 images": (
            policy_gradients(known.choices, -hits.mean(1, keepdims=True), 10, STEPS, rng),
            "10",
        ),
        "REINFORCE, probability by 10 networks, 1,024 images": (
            policy_gradients(known.choices, whole, 10, STEPS, rng),
            "10",
        ),
    }
    return [
        summary(name, seed, forwards, drawn, exact) for name, (drawn, forwards) in draws.items()
    ]


def _warm(work: Path, seed: int, costs: CostTable) -> ProxylessGradient:
    """Return the search of a seed at the end of its warm-up, with equal probabilities."""
    strategy = ProxylessGradient.begin(
        SearchContext(
            space=space(),
            costs=costs,
            budget_ms=1.0,
            generator=seeded(seed, "paths"),
            arch_learning_rate=0.0,
        )
    )
    file = work / "supernets" / f"proxyless-warm-up-{seed}" / "search.safetensors"
    strategy.load_state_dict(load_checkpoint(file)[0])
    strategy.objective = Linear(1.0, 0.0)
    strategy.arch_logits.data.zero_()
    for group in strategy.arch_optimizer.param_groups:
        group["lr"] = 0.0
    return strategy


def _gate_gradients(strategy: ProxylessGradient, batches: Sequence[Batch]) -> Floats:
    """Return the logits' gradients in architecture steps that change no parameter, ``[N, P *
    K]``."""
    drawn: list[Floats] = []
    for step in range(STEPS):
        strategy.architecture_step(batches[step % len(batches)])
        grad = strategy.arch_logits.grad
        assert grad is not None
        drawn.append(grad[strategy.mask].double().numpy().copy())
    return np.array(drawn)


def _mean_and_std(values: Sequence[float]) -> str:
    spread = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{spread}"


def _two(value: float) -> str:
    return f"{value:.2f}"


if __name__ == "__main__":
    cli()
