"""`hwnas latency predict`: what a network costs on a device, block by block."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("predict")
@click.argument("what")
@click.option("--target", help="Device, or a model by name like pixel1/table-2018.")
@click.option("--model", "file", type=click.Path(path_type=Path), help="A model's file.")
@click.option("--space", default="mobile", show_default=True, help="Of a genotype.")
@click.option("--data", default="fashion-mnist-6k", show_default=True, help="Of a genotype.")
@click.option("--budget", help="A latency like 80ms: how probably is it kept?")
@click.option("--confidence", default="90%", show_default=True, help="Exit 5 below it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def predict(
    what: str, target: str | None, file: Path | None, space: str, data: str, budget: str | None,
    confidence: str, as_json: bool,
) -> None:  # fmt: skip
    """Predict the latency of WHAT: a file of a network, a run folder, or a published name.

    Files are an architecture's or a genotype's JSON, or an ONNX or TFLite file that hwnas wrote.
    """
    import sys

    from hwnas.cli.latency.fit import share_of
    from hwnas.cli.tables import print_json, print_table
    from hwnas.data.datasets import load_dataset
    from hwnas.errors import UsageError
    from hwnas.latency_models.breakdown import breakdown
    from hwnas.latency_models.storage.registry import find_model
    from hwnas.networks.resolve import find_network, needs_shape
    from hwnas.specialize.setup.budget import parse_budget

    if (target is None) == (file is None):
        raise UsageError("expected either --target DEVICE or --model FILE")
    wanted = share_of("--confidence", confidence)
    budget_ms, is_share = parse_budget(budget) if budget else (None, False)
    if is_share:
        raise UsageError(f"--budget {budget!r}: a share of what? Expected a latency like 80ms")
    shape, classes = None, None
    if needs_shape(what):
        dataset = load_dataset(data)
        shape, classes = dataset.input_shape, dataset.num_classes
    network = find_network(what, space, shape, classes)
    name, model = find_model(str(file) if file else str(target), network.blocks)
    found = breakdown(model, network.blocks)
    chance = None if budget_ms is None else found.confidence(budget_ms)
    kept = chance is None or chance >= wanted
    if as_json:
        print_json({
            "network": what, "model": name, "kind": model.kind, "device": model.device,
            "mean_ms": found.mean_ms, "std_ms": found.std_ms, "interval_90_ms": found.interval_ms,
            "overhead_ms": found.overhead_ms, "blocks": found.blocks,
            "never_measured": found.never_measured, "only_alone": found.only_alone,
            "budget_ms": budget_ms, "probability": chance,
        })  # fmt: skip
    else:
        print_table(
            ["block", "ms", "90 % interval", "share", "known"],
            [
                [one.block, f"{one.ms:.4g}",
                 f"{one.interval_ms[0]:.4g} to {one.interval_ms[1]:.4g}",
                 f"{one.share:.1%}",
                 one.known + (" (!)" if one.never_measured or one.only_alone else "")]
                for one in found.blocks
            ],
        )  # fmt: skip
        low_ms, high_ms = found.interval_ms
        click.echo(f"overhead: {found.overhead_ms:.4g} ms")
        click.echo(
            f"{what} on {model.device}: {found.mean_ms:.4g} ms, a measurement lies between "
            f"{low_ms:.4g} and {high_ms:.4g} ms with 90 % (model {name}, {model.kind})"
        )
        for kind in found.never_measured:
            click.echo(f"never measured there: {kind}: its cost is a guess")
        for kind in found.only_alone:
            click.echo(f"timed alone, in no measured network: {kind}: less sure inside one")
        if chance is not None:
            click.echo(
                f"within {budget_ms:.4g} ms with probability {chance:.0%}, asked for {wanted:.0%}"
            )
    if not kept:
        sys.exit(5)
