"""How fast is the latency model? Writes ``tools/bench/results/latency_model.md``.

    OMP_NUM_THREADS=1 python -m tools.bench.latency_model

Fits a model to 100 blocks and 60 networks of a made-up device, then asks it for networks one by
one and in a batch. Every figure is the median of several rounds.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter

import msgspec
import numpy as np
import scipy

from hwnas.architecture.architecture import Block
from hwnas.latency_models.features import resources
from hwnas.latency_models.fitting.fit import fit_model
from hwnas.latency_models.model import LatencyModel
from hwnas.latency_models.observation import Observation
from hwnas.latency_models.storage.model_file import decode_model, encode_model
from hwnas.spaces.mobile.space import MBCONVS, MobileSpace, mobile_space

RESULTS = Path(__file__).parent / "results" / "latency_model.md"
BLOCKS, NETWORKS, BATCH = 100, 60, 1_000_000
WEIGHTS = (0.002, 0.02, 0.15, 0.15, 0.3, 0.4, 0.1, 0.3, 0.3)
"""ms for each of `features.RESOURCES`: an invented device."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    gated = [msgspec.structs.replace(one, squeeze_excite=True) for one in MBCONVS]
    space = msgspec.structs.replace(
        mobile_space((3, 224, 224), 1000), candidates=(*MBCONVS, *gated)
    )
    text = table(figures(space, options.rounds), space, options.rounds)
    print(text)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(text)


def figures(space: MobileSpace, rounds: int) -> list[tuple[str, str, str]]:
    """Return rows of what, figure and goal."""
    observed = observations(space)
    rng = Random(1)
    genotypes = [space.random(rng) for _ in range(1_000)]
    nets = [space.architecture(genotype).blocks for genotype in genotypes]
    model = fit(observed)
    text = encode_model(model)
    costs = model.cost_table(space)
    sizes = [len(row) for row in costs.mean_ms]
    batch = np.random.default_rng(0).integers(0, sizes, (BATCH, len(sizes)))
    seconds = {
        "fit": timed(lambda: fit(observed), rounds),
        "cross_validate": timed(lambda: fit(observed, validate=True), rounds),
        "load": timed(lambda: decode_model(text, "bench"), rounds),
        "table": timed(lambda: loaded(text).cost_table(space), rounds),
        "batch": timed(lambda: costs.networks_ms(batch), rounds),
        "spread": timed(lambda: model.predict(nets), rounds),
        "choices": timed(lambda: [costs.network_ms(one.choices) for one in genotypes], rounds),
        "blocks": timed(lambda: [model.network_ms(one) for one in nets], rounds),
        "one": timed(lambda: [model.predict([one]) for one in nets[:20]], rounds),
    }
    return [
        ("fit, s", f"{seconds['fit']:.2f}", "< 1"),
        ("fit and 6-fold cross-validation, s", f"{seconds['cross_validate']:.2f}", ""),
        ("load a saved model, ms", f"{seconds['load'] * 1e3:.1f}", ""),
        ("load it and make the cost table, ms", f"{seconds['table'] * 1e3:.0f}", ""),
        (
            f"batch of {BATCH:,} by the cost table, networks/s",
            f"{BATCH / seconds['batch']:,.0f}",
            "≥ 1,000,000",
        ),
        (
            f"batch of {len(nets):,} with their intervals, networks/s",
            f"{len(nets) / seconds['spread']:,.0f}",
            "",
        ),
        ("one network by its choices, µs", f"{seconds['choices'] / len(nets) * 1e6:.1f}", "≤ 50"),
        ("one network by its blocks, µs", f"{seconds['blocks'] / len(nets) * 1e6:.1f}", "≤ 50"),
        ("one network with its interval, ms", f"{seconds['one'] / 20 * 1e3:.1f}", ""),
    ]


def observations(space: MobileSpace) -> list[Observation]:
    """Return the null model, blocks spread over the space, and random networks."""
    rng, draw = np.random.default_rng(0), Random(0)
    every = distinct(blocks_of(space))
    chosen = [every[place] for place in np.linspace(0, len(every) - 1, BLOCKS).astype(int)]
    ms = cost_of(every)
    alone = [Observation("isolated", (block,), ms[block] * noisy(rng), 0.01) for block in chosen]
    nets: list[Observation] = []
    for _ in range(NETWORKS):
        blocks = space.architecture(space.random(draw)).compute_blocks
        total = 0.05 + sum(ms[block] for block in blocks)
        nets.append(Observation("network", blocks, total * noisy(rng), 0.01))
    return [Observation("isolated", (), 0.03, 0.002), *alone, *nets]


def blocks_of(space: MobileSpace) -> list[Block]:
    return [*space.fixed, *(site.block for site in space.sites())]


def distinct(blocks: Iterable[Block]) -> list[Block]:
    return list(dict.fromkeys(block for block in blocks if block.op != "identity"))


def cost_of(blocks: list[Block]) -> dict[Block, float]:
    own = np.random.default_rng(2).normal(0, 0.03, len(blocks))
    ms = (resources(blocks) @ np.array(WEIGHTS)) * np.exp(own)
    return dict(zip(blocks, ms.tolist(), strict=True))


def noisy(rng: np.random.Generator) -> float:
    return float(np.exp(rng.normal(0, 0.01)))


def fit(observed: list[Observation], validate: bool = False) -> LatencyModel:
    return fit_model("bench", observed, source="invented", validate=validate)


def loaded(text: bytes) -> LatencyModel:
    return decode_model(text, "bench")


def timed(run: Callable[[], object], rounds: int) -> float:
    """Return the median of the seconds that ``run`` takes, after a run for warming up."""
    run()
    taken: list[float] = []
    for _ in range(rounds):
        start = perf_counter()
        run()
        taken.append(perf_counter() - start)
    return median(taken)


def table(rows: list[tuple[str, str, str]], space: MobileSpace, rounds: int) -> str:
    every = distinct(blocks_of(space))
    return "\n".join(
        (
            "# Speed of the latency model\n",
            f"{BLOCKS} of {len(every)} blocks measured alone, {NETWORKS} networks of "
            f"{len(space.decisions)} decisions (the paper's space at 224 px,",
            f"also with squeeze-excite), an invented device; median of {rounds} rounds;",
            f"{platform.machine()}, {threads()}, numpy {np.__version__}, "
            f"scipy {scipy.__version__}.\n",
            f"Command: `OMP_NUM_THREADS=1 PYTHONPATH=. python {' '.join(sys.argv)}`\n",
            "| what | figure | goal |",
            "|---|---|---|",
            *(f"| {what} | {figure} | {goal} |" for what, figure, goal in rows),
            "",
        )
    )


def threads() -> str:
    asked = os.environ.get("OMP_NUM_THREADS")
    return f"{asked} thread(s)" if asked else "as many threads as numpy takes"


if __name__ == "__main__":
    main()
