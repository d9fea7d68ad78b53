"""`hwnas specialize`: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hwnas.errors import BudgetError, TooNoisy, UsageError

if TYPE_CHECKING:
    from hwnas.report.report import Report
    from hwnas.specialize.run_folder import Config

TOO_NOISY = 0.25
"""Half-width of the 95 % interval over the median from which there is no verdict."""


@click.command("specialize")
@click.option("--target", multiple=True, help="Device name or profile; several: one network each.")
@click.option("--budget", help="Like 80ms, 900us, 50% of the largest network, or 10ms,20ms.")
@click.option("--data", help="Data set name, image folder or .npz.  [default: fashion-mnist-6k]")
@click.option("--space", help="Search space: name or TOML file.  [default: mobile]")
@click.option(
    "--strategy",
    help="proxyless (default), random, reinforce, evolution, nsga2, eas; on cells proxyless, "
    "random, darts, darts-2, pc-darts, ista; on cells-norm ista-one-stage.",
)
@click.option("--objective", help="lagrangian, add#linear, mul#log, hinge.  [default: its own]")
@click.option("--estimator", help="full or two paths, for proxyless.  [default: full]")
@click.option("--ray", help="HOST:PORT of a Ray cluster, for eas.  [default: processes here]")
@click.option("--shrink/--no-shrink", default=None, help="eas: a start over the budget.")
@click.option("--precision", help="fp32, int8, fp32,int8 or auto: both.  [default: fp32]")
@click.option("--resolution", help="Pixels, like 24,28,32.  [default: the data's]")
@click.option("--width-mult", help="Times the space's widths, like 0.75,1,1.5.  [default: 1; with "
              "--effort standard up to 3 where a budget in ms allows it]")  # fmt: skip
@click.option("--max-drop", help="Accuracy that int8 may lose, like 1%.  [default: 2%]")
@click.option("--tune-epochs", type=click.IntRange(0), help="Where int8 loses more.  [default: 2]")
@click.option("--pixels", is_flag=True, default=None, help="Files take 0 to 255.")
@click.option("--effort", help="trial, quick, standard or full.  [default: quick]")
@click.option("--latency-model", help="File or name, e.g. pixel1/table-2018.  [default: own]")
@click.option("--seed", type=int, help="Of everything drawn.  [default: 0]")
@click.option("--threads", type=click.IntRange(1), help="For the supernet.  [default: 1]")
@click.option("--flip/--no-flip", default=None, help="Mirror training images.  [default: flip]")
@click.option("--separate-weights", is_flag=True, default=None, help="No sharing by slicing.")
@click.option("--raw", is_flag=True, default=None, help="Judge this run's clock, not calibrated.")
@click.option("--out", type=click.Path(path_type=Path), help="Run folder.  [default: runs/TARGET]")
@click.option("--resume", is_flag=True, help="Go on with the run in --out.")
@click.option("--dry-run", is_flag=True, help="Say what would be done and what is reachable.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.option("--quiet", is_flag=True, help="No progress.")
def specialize(
    out: Path | None, resume: bool, dry_run: bool, as_json: bool, quiet: bool, **asked: object
) -> None:
    """Make a model for a device, a latency budget and a data set.

    Searches an architecture, trains it, compiles it to ONNX and TFLite, measures the file on the
    device and writes a report. Without options: the embedded data on this machine's processor,
    with the latency of a uniform MobileNetV2-like network as the budget. Started by
    `torchrun --nproc-per-node N -m hwnas specialize …`, N processes train together.
    """
    from hwnas.console import console
    from hwnas.devices.profile import find_profile

    asked["target"] = ",".join(asked["target"]) or None  # type: ignore[arg-type]
    target = str(asked["target"] or "host-cpu")
    for name in target.split(","):
        find_profile(name)  # a misspelt name is told before torch loads
    if dry_run:
        from hwnas.cli.tables import print_json
        from hwnas.specialize.scenarios import plan_scenarios

        document = plan_scenarios(_config(None, asked), console(quiet))
        if as_json:
            print_json(document)
        else:
            _print_plan(document)
        return
    folder = _folder(out, target, resume)
    _run(_config(folder if resume else None, asked), folder, resume, as_json, quiet)


def _run(config: Config, folder: Path, resume: bool, as_json: bool, quiet: bool) -> None:
    import shlex
    import sys

    from hwnas.console import console
    from hwnas.specialize.distributed.ranks import leading
    from hwnas.specialize.flow import specialize as run

    try:
        with leading() as first:
            if not first:
                return
            report = run(config, folder, console(quiet), resume)
    except KeyboardInterrupt:
        command = shlex.join(["hwnas", "specialize", "--resume", "--out", str(folder)])
        click.echo(f"hwnas: interrupted; go on with: {command}", err=True)
        sys.exit(130)
    click.echo((folder / "report.json").read_text() if as_json else report.summary(folder))
    _judge(report)


def _judge(report: Report) -> None:
    """Raise for a verdict that is not a success; everything is written already."""
    for result in report.results:
        latency = result.latency
        if latency is not None and latency.ci95_ms is not None:
            low_ms, high_ms = latency.ci95_ms
            if (high_ms - low_ms) / 2 > TOO_NOISY * latency.median_ms:
                raise TooNoisy(
                    f"the latency is known to {low_ms:.4g} to {high_ms:.4g} ms only; close other "
                    "programs and measure again"
                )
        if result.verdict == "missed":
            raise BudgetError(result.reason)


def _config(folder: Path | None, asked: dict[str, object]) -> Config:
    """Return the configuration of a new run, or of the one to resume, which must agree."""
    import msgspec

    from hwnas.specialize.run_folder import Config, read_config
    from hwnas.specialize.setup.budget import parse_budget

    given = {name: value for name, value in asked.items() if value is not None}
    if (separate := given.pop("separate_weights", None)) is not None:
        given["share_weights"] = not separate
    if "max_drop" in given:
        from hwnas.cli.framework.params import FRACTION

        given["max_drop"] = FRACTION.convert(str(given["max_drop"]), None, None)
    if "budget" in given:
        for budget in str(given["budget"]).split(","):
            parse_budget(budget)
    if "data" in given and Path(str(given["data"])).exists():
        given["data"] = str(Path(str(given["data"])).resolve())  # a resume may come from elsewhere
    if str(given.get("space", "")).endswith(".toml"):
        given["space"] = str(Path(str(given["space"])).resolve())
    if folder is None:
        defaults = {"target": "host-cpu", "data": "fashion-mnist-6k", "threads": 1}
        return msgspec.convert({**defaults, **given}, Config)
    kept = read_config(folder)
    for name, value in given.items():
        if name == "ray":  # where something is trained changes no result
            kept = msgspec.structs.replace(kept, ray=value)
        elif getattr(kept, name) != value:
            raise UsageError(
                f"{folder}: the run to resume has {name} = {getattr(kept, name)!r}, not {value!r}; "
                "leave the option out, or begin a new run with another --out"
            )
    return kept


def _folder(out: Path | None, target: str, resume: bool) -> Path:
    """Return the run's folder: as given, else the next free (or the newest) one of the target."""
    if out is not None:
        return out
    stem = "+".join(Path(name).stem for name in target.split(","))
    number, folder = 1, Path("runs") / stem
    newest: Path | None = None
    while (folder / "config.toml").exists():
        newest = folder
        number += 1
        folder = Path("runs") / f"{stem}-{number}"
    return (newest or folder) if resume else folder


def _print_plan(document: dict[str, object]) -> None:
    from decimal import Decimal

    for result in document["results"]:  # type: ignore[attr-defined]
        low_ms, middle_ms, high_ms = result["range_ms"]
        click.echo(f"{result['target']} ({result['runtime']}, {result['precision']})")
        click.echo(
            f"  the space's {Decimal(result['networks']):.3g} networks take {low_ms:.4g} to "
            f"{high_ms:.4g} ms, half of the random ones up to {middle_ms:.4g} ms "
            f"({result['latency']['kind']})"
        )
        click.echo(f"  source: {result['source']}")
        click.echo(f"  budget: {result['budget_ms']:.4g} ms")
    search, training = document["search"], document["training"]
    data: dict[str, object] = document["data"]  # type: ignore[assignment]
    click.echo(
        f"{data['name']}: {data['train']} training, {data['valid']} validation, {data['test']} "
        f"test images of {'x'.join(map(str, data['input_shape']))}"  # type: ignore[call-overload]
    )
    click.echo(
        f"work: warm-up {search.warmup_epochs} and search {search.search_epochs} epochs, "  # type: ignore[attr-defined]
        f"training {training.epochs} epochs a network; nothing was trained"  # type: ignore[attr-defined]
    )
