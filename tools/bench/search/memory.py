"""How do memory and time of a search step grow with the number of candidates?

    OMP_NUM_THREADS=1 python -m tools.bench.search.memory [--json OUT]

Compares steps that compute one path with a step that computes all of them, as DARTS does. Writes
``tools/bench/search/results/memory.md``. Each case runs in a process of its own, forked before
anything was computed, so that its peak memory is its own.
"""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import click
import psutil
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.architecture.architecture import Block, Genotype
from hwnas.files import write_json
from hwnas.latency_models.cost import CostTable
from hwnas.nn.build import build
from hwnas.nn.supernet import MixedOp, Supernet
from hwnas.search.proxyless.gradient import ProxylessGradient
from hwnas.spaces.mobile.space import Candidate, MobileSpace, Stage
from tools.lib.results import command, results_folder, sections, table, write_results

RESULTS = results_folder(__file__) / "memory.md"
CANDIDATE_COUNTS = tuple(range(2, 10))
BATCH_SIZE, IMAGE_SIZE = 16, 32
CANDIDATES = tuple(
    Candidate("mbconv", kernel, 6, activation)
    for activation in ("relu6", "relu", "hswish")
    for kernel in (3, 5, 7)
)
"""Nine candidates of one width, so that only their number matters; the sampled path always takes
the first."""
PLAIN = "plain training"
SEARCH_STEPS = ("weight step", "architecture step", "two paths", "all paths")


@click.command()
@click.option("--rounds", default=9, show_default=True, help="Number of timed steps.")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Write the values as JSON.")
def main(rounds: int, out: Path | None) -> None:
    """Measure every step for every number of candidates."""
    cases = [(PLAIN, CANDIDATE_COUNTS[0])]
    cases += [(step, count) for step in SEARCH_STEPS for count in CANDIDATE_COUNTS]
    results = {case: run_forked(_measure, *case, rounds) for case in cases}
    plain = results[cases[0]]
    titles = ["step", *(f"{count} candidates" for count in CANDIDATE_COUNTS), "one network"]
    tables: list[tuple[str, str]] = []
    for quantity, title, unit in (
        ("activation_bytes", "Activations kept for the backward pass, MB", 1e6),
        ("rss_bytes", "Peak resident memory above that before the step, MB", 1e6),
        ("step_s", f"Time of a step (median of {rounds}), ms", 1e-3),
    ):
        base = plain[quantity]
        rows = [[PLAIN, *["-"] * len(CANDIDATE_COUNTS), f"{base / unit:.1f}"]]
        for step in SEARCH_STEPS:
            values = [results[step, count][quantity] for count in CANDIDATE_COUNTS]
            rows.append([step, *(f"{v / unit:.1f} ({v / base:.2f})" for v in values), ""])
        tables.append((title, table(titles, rows)))
    text = write_results(
        RESULTS,
        "Memory and time of search steps",
        command(__file__, f"--rounds {rounds}"),
        f"Ten MBConv blocks, {IMAGE_SIZE} px, batch {BATCH_SIZE}; each candidate has expansion 6 "
        "and weights of its own. In brackets: multiples of plain training of one network of the "
        "path. Activations are the tensors that autograd saves, without weights; other programs "
        "do not affect this number. Steps: one path with a weight update; one path with the "
        "gradient of all logits by recomputation (`full`); the same with `two`; all candidates at "
        "once with weights and logits in one step, as in DARTS.",
        sections(tables),
        conditions=f"torch {torch.__version__}, one thread",
    )
    click.echo(text)
    if out is not None:
        write_json(out, [{"step": s, "candidates": c} | row for (s, c), row in results.items()])


def run_forked(run: Callable[..., Any], *arguments: Any) -> Any:
    """Return what ``run`` returns in a forked process with one thread."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)

    def send_result() -> None:
        torch.set_num_threads(1)
        sender.send(run(*arguments))

    child = context.Process(target=send_result)
    child.start()
    result = receiver.recv()
    child.join()
    click.echo(f"{run.__name__} {arguments}: {result}", err=True)
    return result


def _measure(name: str, count: int, rounds: int) -> dict[str, float]:
    torch.manual_seed(0)
    step, weights = _step(name, space(count))
    before_bytes = psutil.Process().memory_info().rss
    times_s: list[float] = []
    for _ in range(rounds):
        start = perf_counter()
        step()
        times_s.append(perf_counter() - start)
    return {
        "rss_bytes": peak_rss_bytes() - before_bytes,
        "step_s": median(times_s),
        # last, as it holds on to tensors that a step would have freed
        "activation_bytes": activation_bytes(step, weights),
    }


def peak_rss_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def space(count: int) -> MobileSpace:
    """Return a chain of ten blocks with ``count`` candidates each, none of them a skip."""
    stages = (Stage(16, 2, 1, 2), Stage(24, 3, 2, 3), Stage(40, 3, 2, 3), Stage(64, 2, 1, 2))
    stem = (Block("conv", 3, 16, 3, 2, 1, IMAGE_SIZE),)
    return MobileSpace(
        "memory", (3, IMAGE_SIZE, IMAGE_SIZE), 10, stem, stages, CANDIDATES[:count], 128
    )


def _step(name: str, chain: MobileSpace) -> tuple[Callable[[], object], Sequence[Tensor]]:
    """Return a function that runs one step, and the weights, whose memory is not counted."""
    images = torch.randn(BATCH_SIZE, 3, IMAGE_SIZE, IMAGE_SIZE)
    images = images.to(memory_format=torch.channels_last)
    labels = torch.randint(10, (BATCH_SIZE,))
    path = [0] * len(chain.decisions)
    if name == PLAIN:
        network = build(chain.architecture(Genotype(chain.name, tuple(path))))
        return training_step(network, images, labels)
    supernet = Supernet(chain, share_weights=False)
    supernet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    costs = CostTable(tuple((1.0,) * len(row) for row in chain.options), 0.0)
    generator = torch.Generator().manual_seed(0)
    estimator = "two" if name == "two paths" else "full"
    search = ProxylessGradient(supernet, costs, 10.0, generator, estimator=estimator)
    search._sample = lambda: path
    search._active = lambda pairs, probs: pairs[:, 0].tolist()
    if name == "weight step":
        return lambda: search.weight_step((images, labels), 0.01), list(supernet.parameters())
    if name == "all paths":
        return _all_paths(search, images, labels)
    return lambda: search.architecture_step((images, labels)), list(supernet.parameters())


def training_step(
    network: nn.Module, images: Tensor, labels: Tensor
) -> tuple[Callable[[], None], Sequence[Tensor]]:
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    sgd = torch.optim.SGD(network.parameters(), 0.01, 0.9, weight_decay=4e-5, nesterov=True)

    def step() -> None:
        sgd.zero_grad(set_to_none=True)
        F.cross_entropy(network(images), labels, label_smoothing=0.1).backward()
        sgd.step()

    network.train()
    return step, list(network.parameters())


def _all_paths(
    search: ProxylessGradient, images: Tensor, labels: Tensor
) -> tuple[Callable[[], None], Sequence[Tensor]]:
    supernet = search.supernet.train()
    assert isinstance(supernet, Supernet)
    sgd = torch.optim.SGD(supernet.parameters(), 0.01, 0.9, weight_decay=4e-5, nesterov=True)

    def step() -> None:
        probs = search.probs

        def mix(position: int, op: MixedOp, x: Tensor, active: int) -> Tensor:
            total = probs[position, 0] * op(x, 0)
            for candidate in range(1, len(op)):
                total = total + probs[position, candidate] * op(x, candidate)
            return total

        sgd.zero_grad(set_to_none=True)
        search.arch_optimizer.zero_grad()
        logits = supernet(images, [0] * len(supernet.ops), mix)
        F.cross_entropy(logits, labels, label_smoothing=0.1).backward()
        sgd.step()
        search.arch_optimizer.step()

    return step, list(supernet.parameters())


def activation_bytes(step: Callable[[], object], weights: Sequence[Tensor]) -> int:
    """Return the bytes of the storages that autograd saves in a step, without those of weights."""
    excluded = {weight.untyped_storage().data_ptr() for weight in weights}
    sizes: dict[int, int] = {}
    alive: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in excluded:
            sizes[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)  # so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        step()
    return sum(sizes.values())


if __name__ == "__main__":
    main()
