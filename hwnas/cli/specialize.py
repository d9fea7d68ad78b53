"""`hwnas specialize`: the main job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwnas.cli.framework.command import (
    command,
    interrupted,
    json_option,
    option,
    quiet_option,
    stopped_by,
    track_option,
)
from hwnas.cli.framework.params import DATA, LATENCY_MODEL, PATH, SPACE, STRATEGY, TARGET, Value
from hwnas.errors import HwnasError, UnknownName, UsageError

if TYPE_CHECKING:
    from hwnas.specialize.options import RunOption
    from hwnas.specialize.setup.dry_run import PlanReport
    from hwnas.specialize.spec import RunSpec

NAMES = {kind.name: kind for kind in (TARGET, DATA, SPACE, STRATEGY, LATENCY_MODEL)}
"""Types that complete in the shell, by their placeholders."""


def _run_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of `hwnas.specialize.options`, which is imported with this command only."""
    from hwnas.specialize.options import OPTIONS

    for each in reversed(OPTIONS):
        attrs: dict[str, Any] = {"is_flag": True} if each.switch else {"type": _type(each)}
        default = each.default or None
        function = option(
            each.flag,
            each.field,
            group=each.group,
            help=each.help,
            default_help=default,
            default=None,
            multiple=each.repeated,
            metavar=each.metavar or None,
            **attrs,
        )(function)
    return function


class _Choice(click.Choice):
    """A choice whose error message names the nearest one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if param is not None and value not in self.choices:
            raise UnknownName(str(param.name), str(value), self.choices)
        return value


def _type(each: RunOption) -> click.ParamType:
    if each.choices:
        return _Choice(each.choices)
    if each.metavar in NAMES:
        return NAMES[each.metavar]
    return click.STRING if each.repeated else Value(each.metavar, each.parse, each.expected)


@command(
    "specialize",
    continued_by="",  # until the run's folder is there, see _run
    argument_hint="the device follows --target, the images follow --data, a network follows --from",
    example=(
        "hwnas specialize --target host-cpu --budget 0.2ms --data fashion-mnist-6k",
        "hwnas specialize --resume --out runs/host-cpu",
    ),
)
@_run_options
@option(
    "--out",
    group="Output",
    type=PATH,
    metavar="PATH",
    default_help="runs/TARGET",
    help="Folder of the run.",
)
@option("--resume", group="Output", is_flag=True, help="Continue the run in --out.")
@option(
    "--dry-run",
    group="Output",
    is_flag=True,
    help="Print what would be done and the reachable latencies.",
)
@track_option
@json_option
@quiet_option
def specialize(
    out: Path | None,
    resume: bool,
    dry_run: bool,
    track: str | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Make a model for a device, a latency budget and a data set.

    Searches an architecture, trains it, compiles it to ONNX and TFLite, measures the file on the
    device and writes a report. Without options: the embedded data on this machine's processor,
    with the latency of a uniform MobileNetV2-like network as the budget. Started by
    `torchrun --nproc-per-node N -m hwnas specialize …`, N processes train together.
    """
    from hwnas.console import console
    from hwnas.devices.profile import find_profile
    from hwnas.specialize.command_line import parse_fields, resumed_spec
    from hwnas.specialize.run_folder import default_folder
    from hwnas.specialize.spec import RunSpec

    given = parse_fields(options)
    if not resume:
        _check_data(given)
    for name in given.get("targets", ()):
        find_profile(name)  # a misspelt name is reported before torch is imported
    if dry_run:
        from hwnas.cli.tables import print_json
        from hwnas.specialize.flow import plan

        report = plan(RunSpec(**given), console(quiet))
        if as_json:
            print_json(report)
        else:
            _print_plan(report)
        return
    folder = out or default_folder(given.get("targets", ("host-cpu",)), resume)
    spec = resumed_spec(folder, given) if resume else RunSpec(**given)
    _run(spec, folder, resume, track, as_json, quiet)


def _check_data(given: dict[str, Any]) -> None:
    """Raise `UsageError` for a trained network without data; the embedded ones are too small."""
    from hwnas.specialize.spec import SCRATCH

    network = given.get("pretrained", SCRATCH)
    if network != SCRATCH and "data" not in given:
        raise UsageError(
            f"--from {network} needs --data: photos in a folder for each class to tune and cut it "
            "for your classes, or a folder of photos without labels to cut it for its own"
        )


def _run(
    spec: RunSpec, folder: Path, resume: bool, track: str | None, as_json: bool, quiet: bool
) -> None:
    from hwnas.console import console
    from hwnas.recovery import is_run
    from hwnas.specialize.distributed.ranks import leading
    from hwnas.specialize.flow import specialize as run
    from hwnas.specialize.tracking import open_tracker

    try:
        with leading(spec.device) as first:
            if not first:
                return
            tracker = open_tracker(track, folder)
            report = run(spec, folder, console(quiet), resume, tracker=tracker)
    except (KeyboardInterrupt, HwnasError, OSError) as error:
        if not is_run(folder):
            raise
        words = ["hwnas", "specialize", "--resume", "--out", str(folder)]
        if isinstance(error, KeyboardInterrupt):
            raise interrupted(error, words) from None
        if (stopped := stopped_by(error, words)) is not None:
            raise stopped from None
        raise
    text = (
        (folder / "report.json").read_text("utf-8")
        if as_json
        else report.summary(folder, brief=quiet)
    )
    click.echo(text)
    report.check_verdicts()


def _print_plan(plan: PlanReport) -> None:
    from decimal import Decimal

    from hwnas.specialize.setup.work.cut import epochs_text, of_images

    for result in plan.results:
        low_ms, median_ms, high_ms = result.range_ms
        click.echo(f"{result.target} ({result.runtime}, {result.precision})")
        click.echo(
            f"  the {Decimal(result.networks):.3g} networks of space {result.space} take "
            f"{low_ms:.4g} to {high_ms:.4g} ms, a random one {median_ms:.4g} ms in the median "
            f"({result.latency.kind})"
        )
        click.echo(f"  source: {result.source}")
        click.echo(f"  budget: {result.budget_ms:.4g} ms")
    data = plan.data
    click.echo(
        f"{data.name}: {data.train} training, {data.valid} validation, {data.test} test images of "
        f"{'x'.join(map(str, data.input_shape))}"
    )
    judged = f"{plan.judged} networks judged on the supernet, " if plan.judged else ""
    searched = (
        f"{plan.search.warmup_epochs} epochs of warm-up and {plan.search.search_epochs} of search"
        f"{of_images(plan.search.epoch_images)}, {judged}{epochs_text(plan.training)} of training "
        "for each network"
    )
    if plan.starts_from:
        searched = (
            f"{epochs_text(plan.search.tuning)} of tuning {plan.starts_from} for the data, "
            f"{epochs_text(plan.training)} of training for each network that is cut from it"
        )
    click.echo(f"work: {searched}; nothing was trained")
