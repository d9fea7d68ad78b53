"""How fast is the latency model? Writes ``tools/bench/results/latency_model.md``.

    OMP_NUM_THREADS=1 python -m tools.bench.latency_model

Fits a model to 100 blocks and 60 networks of an invented device, then predicts networks singly and
in a batch. Every figure is the median of several rounds.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter

import click
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
from tools.lib.options import out_option
from tools.lib.results import command, results_folder, table, write_results

RESULTS = results_folder(__file__) / "latency_model.md"
BLOCK_COUNT, NETWORK_COUNT, BATCH_SIZE = 100, 60, 1_000_000
RESOURCE_WEIGHTS_MS = (0.002, 0.02, 0.15, 0.15, 0.3, 0.4, 0.1, 0.3, 0.3)
"""Cost of each of `features.RESOURCES` on the invented device."""


@click.command()
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1))
@out_option(RESULTS)
def main(rounds: int, out: Path) -> None:
    """Time fits and predictions of a model of an invented device."""
    gated = [msgspec.structs.replace(candidate, squeeze_excite=True) for candidate in MBCONVS]
    space = msgspec.structs.replace(
        mobile_space((3, 224, 224), 1000), candidates=(*MBCONVS, *gated)
    )
    threads = os.environ.get("OMP_NUM_THREADS")
    text = write_results(
        out,
        "Speed of the latency model",
        "OMP_NUM_THREADS=1 " + command(__file__, f"--rounds {rounds}"),
        f"{BLOCK_COUNT} of {len(compute_blocks(space))} blocks measured in isolation, "
        f"{NETWORK_COUNT} networks of {len(space.decisions)} decisions (the paper's space at "
        "224 px, also with squeeze-excite), an invented device; median of "
        f"{rounds} rounds.",
        table(("quantity", "value", "goal"), figures(space, rounds)),
        conditions=f"{threads or 'all'} thread(s), numpy {np.__version__}, "
        f"scipy {scipy.__version__}",
    )
    click.echo(text)


def figures(space: MobileSpace, rounds: int) -> list[tuple[str, str, str]]:
    """Return rows of quantity, value and goal."""
    observed = observations(space)
    rng = Random(1)
    genotypes = [space.random(rng) for _ in range(1_000)]
    networks = [space.architecture(genotype).blocks for genotype in genotypes]
    count = len(networks)
    model = fit(observed)
    content = encode_model(model)
    costs = model.cost_table(space)
    sizes = [len(row) for row in costs.mean_ms]
    batch = np.random.default_rng(0).integers(0, sizes, (BATCH_SIZE, len(sizes)))

    def seconds(run: Callable[[], object]) -> float:
        return median_s(run, rounds)

    fit_s = seconds(lambda: fit(observed))
    validated_s = seconds(lambda: fit(observed, validate=True))
    load_s = seconds(lambda: decode_model(content, "bench"))
    table_s = seconds(lambda: decode_model(content, "bench").cost_table(space))
    batch_s = seconds(lambda: costs.networks_ms(batch))
    intervals_s = seconds(lambda: model.predict(networks))
    choices_s = seconds(lambda: [costs.network_ms(genotype.choices) for genotype in genotypes])
    blocks_s = seconds(lambda: [model.network_ms(blocks) for blocks in networks])
    single_s = seconds(lambda: [model.predict([blocks]) for blocks in networks[:20]])
    return [
        ("fit, s", f"{fit_s:.2f}", "< 1"),
        ("fit and 6-fold cross-validation, s", f"{validated_s:.2f}", ""),
        ("load a saved model, ms", f"{load_s * 1e3:.1f}", ""),
        ("load it and make the cost table, ms", f"{table_s * 1e3:.0f}", ""),
        (
            f"batch of {BATCH_SIZE:,} by the cost table, networks/s",
            f"{BATCH_SIZE / batch_s:,.0f}",
            "≥ 1,000,000",
        ),
        (f"batch of {count:,} with their intervals, networks/s", f"{count / intervals_s:,.0f}", ""),
        ("one network by its choices, µs", f"{choices_s / count * 1e6:.1f}", "≤ 50"),
        ("one network by its blocks, µs", f"{blocks_s / count * 1e6:.1f}", "≤ 50"),
        ("one network with its interval, ms", f"{single_s / 20 * 1e3:.1f}", ""),
    ]


def observations(
    space: MobileSpace, block_count: int = BLOCK_COUNT, network_count: int = NETWORK_COUNT
) -> list[Observation]:
    """Return the null model, blocks spread over the space, and random networks."""
    noise_rng, rng = np.random.default_rng(0), Random(0)
    blocks = compute_blocks(space)
    ms = block_costs_ms(blocks)
    measured = [Observation("isolated", (), 0.03, 0.002)]
    for index in np.linspace(0, len(blocks) - 1, block_count).astype(int):
        block = blocks[index]
        measured.append(Observation("isolated", (block,), ms[block] * noise(noise_rng), 0.01))
    for _ in range(network_count):
        network = space.architecture(space.random(rng)).compute_blocks
        total_ms = 0.05 + sum(ms[block] for block in network)
        measured.append(Observation("network", network, total_ms * noise(noise_rng), 0.01))
    return measured


def compute_blocks(space: MobileSpace) -> list[Block]:
    """Return the distinct blocks of a space, without identities."""
    blocks = [*space.fixed, *(site.block for site in space.sites())]
    return list(dict.fromkeys(block for block in blocks if block.op != "identity"))


def block_costs_ms(blocks: list[Block]) -> dict[Block, float]:
    deviations = np.random.default_rng(2).normal(0, 0.03, len(blocks))
    ms = (resources(blocks) @ np.array(RESOURCE_WEIGHTS_MS)) * np.exp(deviations)
    return dict(zip(blocks, ms.tolist(), strict=True))


def noise(rng: np.random.Generator) -> float:
    return float(np.exp(rng.normal(0, 0.01)))


def fit(observed: list[Observation], validate: bool = False) -> LatencyModel:
    return fit_model("bench", observed, source="invented", validate=validate)


def median_s(run: Callable[[], object], rounds: int) -> float:
    """Return the median of the seconds that ``run`` takes, after one run to warm up."""
    run()
    times_s: list[float] = []
    for _ in range(rounds):
        start = perf_counter()
        run()
        times_s.append(perf_counter() - start)
    return median(times_s)


if __name__ == "__main__":
    main()
