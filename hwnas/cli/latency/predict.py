"""`hwnas latency predict`: the predicted latency of a network on a device, block by block."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hwnas.cli.framework.command import command, json_option, option
from hwnas.cli.framework.options import genotype_data_option, image_shape_option
from hwnas.cli.framework.params import DURATION, FILE, FRACTION, LATENCY_MODEL, NETWORK, SPACE
from hwnas.cli.tables import print_json, print_table

if TYPE_CHECKING:
    from hwnas.latency_models.breakdown import Breakdown


@command(
    "predict",
    short_help="Predict the latency of a network, block by block.",
    example=(
        "hwnas latency predict proxyless_mobile --target pixel1",
        "hwnas latency predict model.onnx --target host-cpu --budget 2ms",
    ),
)
@click.argument("network", type=NETWORK)
@option(
    "--target",
    group="Latency model",
    type=LATENCY_MODEL,
    help="Device, or a model's name such as pixel1/table-2018.",
)
@option("--model", "file", group="Latency model", type=FILE, help="File of a model.")
@option(
    "--space",
    group="Network",
    type=SPACE,
    default="mobile",
    help="Search space of the genotype.",
)
@image_shape_option
@genotype_data_option
@option(
    "--budget",
    "budget_ms",
    group="Budget",
    type=DURATION,
    help="Print the probability that the network meets this latency, such as 80ms.",
)
@option(
    "--confidence",
    group="Budget",
    type=FRACTION,
    default="90%",
    help="Exit with code 5 if the probability of meeting the budget is lower.",
)
@json_option
def predict(
    network: str,
    target: str | None,
    file: Path | None,
    space: str,
    input_shape: tuple[int, int, int] | None,
    data: str,
    budget_ms: float | None,
    confidence: float,
    as_json: bool,
) -> None:
    """Predict the latency of NETWORK, which is given as `hwnas show` takes it: a name, a folder, a
    file, or module:factory.
    """
    from hwnas.data.datasets import load_dataset
    from hwnas.errors import UsageError
    from hwnas.latency_models.breakdown import breakdown
    from hwnas.latency_models.storage.registry import find_model
    from hwnas.networks.resolve import is_genotype, resolve_architecture

    if (target is None) == (file is None):
        raise UsageError("expected either --target DEVICE or --model FILE")
    shape, classes = input_shape, None
    if is_genotype(network):
        dataset = load_dataset(data, input_shape=input_shape)
        shape, classes = dataset.input_shape, dataset.num_classes
    blocks = resolve_architecture(network, space, shape, classes).blocks
    name, model = find_model(str(file or target), blocks)
    result = breakdown(model, blocks)
    probability = None if budget_ms is None else result.confidence(budget_ms)
    if as_json:
        print_json(
            {
                "network": network,
                "model": name,
                "kind": model.kind,
                "device": model.device,
                "mean_ms": result.mean_ms,
                "std_ms": result.std_ms,
                "interval_90_ms": result.interval_ms,
                "overhead_ms": result.overhead_ms,
                "blocks": result.blocks,
                "never_measured": result.never_measured,
                "only_isolated": result.only_isolated,
                "budget_ms": budget_ms,
                "probability": probability,
            }
        )
    else:
        _print(result, f"{network} on {model.device}", f"model {name}, {model.kind}")
        if probability is not None:
            click.echo(
                f"within {budget_ms:.4g} ms with probability {probability:.0%}, required "
                f"{confidence:.0%}"
            )
    if probability is not None and probability < confidence:
        sys.exit(5)


def _print(result: Breakdown, subject: str, source: str) -> None:
    from hwnas.architecture.block import Block

    rows = [
        [
            Block.from_key(cost.block).label,
            f"{cost.ms:.4g}",
            f"{cost.interval_ms[0]:.4g} to {cost.interval_ms[1]:.4g}",
            f"{cost.share:.1%}",
            cost.source + (" (!)" if cost.never_measured or cost.only_isolated else ""),
        ]
        for cost in result.blocks
    ]
    print_table(["block", "ms", "90 % interval", "share", "known from"], rows)
    low_ms, high_ms = result.interval_ms
    click.echo(f"overhead: {result.overhead_ms:.4g} ms")
    click.echo(
        f"{subject}: {result.mean_ms:.4g} ms; 90 % of measurements lie between {low_ms:.4g} and "
        f"{high_ms:.4g} ms ({source})"
    )
    for kind in result.never_measured:
        click.echo(f"never measured on the device: {kind}; its cost is extrapolated")
    for kind in result.only_isolated:
        click.echo(f"timed in isolation only: {kind}; its cost inside a network is less certain")
