"""Memory and time of search steps by the number of candidates; one path against all paths.

    OMP_NUM_THREADS=1 python -m tools.bench.search.memory [--json OUT]

Writes tools/bench/search/results/memory.md. Every case runs in a process of its own, forked before
anything was computed, so that its peak of memory is its own.
"""

from __future__ import annotations

import multiprocessing
import resource
from collections.abc import Callable, Sequence
from datetime import date
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
from tools.lib.latency.score import hardware, table

RESULTS = Path(__file__).parent / "results" / "memory.md"
COUNTS = tuple(range(2, 10))
BATCH, SIZE = 16, 32
CANDIDATES = tuple(
    Candidate("mbconv", kernel, 6, activation)
    for activation in ("relu6", "relu", "hswish")
    for kernel in (3, 5, 7)
)
"""Nine of one width, so that their number alone matters; the path is always the first."""
STEPS = ("plain training", "weight step", "architecture step", "two paths", "all paths")


@click.command()
@click.option("--rounds", default=9, show_default=True, help="Steps that are timed.")
@click.option("--json", "out", type=click.Path(path_type=Path))
def main(rounds: int, out: Path | None) -> None:
    """Measure every step for every number of candidates."""
    found = {
        (name, count): _alone(name, count, rounds)
        for name in STEPS
        for count in (COUNTS if name != STEPS[0] else COUNTS[:1])
    }
    plain = found[STEPS[0], COUNTS[0]]
    sections: list[str] = []
    for figure, title, unit in (
        ("activation_bytes", "Activations kept for going back, MB", 1e6),
        ("rss_bytes", "Peak of resident memory over that before the step, MB", 1e6),
        ("step_s", f"Time of a step (median of {rounds}), ms", 1e-3),
    ):
        rows: list[list[object]] = [[STEPS[0], *["-"] * len(COUNTS), f"{plain[figure] / unit:.1f}"]]
        for name in STEPS[1:]:
            values = [found[name, count][figure] for count in COUNTS]
            cells = [f"{one / unit:.1f} ({one / plain[figure]:.2f})" for one in values]
            rows.append([name, *cells, ""])
        titles = ["step", *(f"{count} candidates" for count in COUNTS), "one network"]
        sections.append(f"## {title}\n\n{table(titles, rows)}")
    text = (
        "# Memory and time of search steps\n\n"
        f"`python -m tools.bench.search.memory --rounds {rounds}`, {date.today()}, {hardware()}, "
        f"torch {torch.__version__}, one thread.\n\n"
        f"Ten blocks of MBConv, {SIZE} px, batch {BATCH}; candidates with weights of their own, "
        "all of expansion 6. In brackets: times plain training of one network of the path. "
        "Activations are the tensors that autograd keeps, weights excluded: exact, whatever else "
        "runs. Steps: one path with weight update; one path with the gradient of all logits by "
        "recomputation (`full`); the same with `two`; all candidates at once with weights and "
        "logits in one step, as in DARTS.\n\n" + "\n\n".join(sections) + "\n"
    )
    RESULTS.write_text(text)
    click.echo(text)
    if out is not None:
        write_json(out, [{"step": n, "candidates": c} | row for (n, c), row in found.items()])


def _alone(name: str, count: int, rounds: int) -> dict[str, float]:
    """Measure one case in a forked process."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_measure, args=(name, count, rounds, there))
    child.start()
    found = here.recv()
    child.join()
    click.echo(f"{name}, {count} candidates: {found}", err=True)
    return found


def _measure(name: str, count: int, rounds: int, answer: Any) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    step, weights = _step(name, space(count))
    before = psutil.Process().memory_info().rss
    times: list[float] = []
    for _ in range(rounds):
        start = perf_counter()
        step()
        times.append(perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    kept = kept_bytes(step, weights)  # last: it holds on to what a step would have freed
    answer.send({"activation_bytes": kept, "rss_bytes": peak - before, "step_s": median(times)})


def space(count: int) -> MobileSpace:
    """Return a chain of ten blocks with so many candidates, none of them a skip."""
    stages = (Stage(16, 2, 1, 2), Stage(24, 3, 2, 3), Stage(40, 3, 2, 3), Stage(64, 2, 1, 2))
    stem = (Block("conv", 3, 16, 3, 2, 1, SIZE),)
    return MobileSpace("memory", (3, SIZE, SIZE), 10, stem, stages, CANDIDATES[:count], 128)


def _step(name: str, chain: MobileSpace) -> tuple[Callable[[], object], Sequence[Tensor]]:
    """Return what runs one step, and the weights (and logits) whose memory does not count."""
    images, labels = torch.randn(BATCH, 3, SIZE, SIZE), torch.randint(10, (BATCH,))
    images = images.to(memory_format=torch.channels_last)
    path = [0] * len(chain.decisions)
    if name == "plain training":
        return trained(build(chain.architecture(Genotype(chain.name, tuple(path)))), images, labels)
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


def trained(
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

        def mix(place: int, op: MixedOp, x: Tensor, active: int) -> Tensor:
            total = probs[place, 0] * op(x, 0)
            for candidate in range(1, len(op)):
                total = total + probs[place, candidate] * op(x, candidate)
            return total

        sgd.zero_grad(set_to_none=True)
        search.arch_optimizer.zero_grad()
        logits = supernet(images, [0] * len(supernet.ops), mix)
        F.cross_entropy(logits, labels, label_smoothing=0.1).backward()
        sgd.step()
        search.arch_optimizer.step()

    return step, list(supernet.parameters())


def kept_bytes(step: Callable[[], object], weights: Sequence[Tensor]) -> int:
    """Return the bytes of the storages that autograd keeps in a step, without weights."""
    known = {weight.untyped_storage().data_ptr() for weight in weights}
    kept: dict[int, int] = {}
    alive: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)  # so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        step()
    return sum(kept.values())


if __name__ == "__main__":
    main()
