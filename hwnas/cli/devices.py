"""`hwnas devices`: list, add, check and diagnose devices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from hwnas.cli.framework.command import Group, json_option, option
from hwnas.cli.framework.params import TARGET
from hwnas.cli.tables import print_json, print_table

if TYPE_CHECKING:
    from hwnas.devices.discovery.attached import NvidiaGpu


@click.group("devices", cls=Group)
def devices() -> None:
    """List, add, check and diagnose the devices that networks can be made for."""


@devices.command("list", example=("hwnas devices list", "hwnas devices list --attached"))
@option("--attached", "only_attached", is_flag=True, help="List attached phones and GPUs only.")
@json_option
def list_devices(only_attached: bool, as_json: bool) -> None:
    """List device profiles, and the phones and GPUs attached to this machine."""
    attached = _attached() if only_attached or not as_json else []
    if as_json:
        print_json(attached if only_attached else _known())
        return
    if not only_attached:
        titles = ["name", "title", "kind", "runtime", "transport", "latency model"]
        keys = [title.replace(" ", "_") for title in titles]
        print_table(titles, [[row[key] or "" for key in keys] for row in _known()], left=6)
    if attached:
        click.echo("Attached now:")
        rows = [[str(cell) for cell in row.values()] for row in attached]
        print_table(list(attached[0]), rows, left=4)
    elif only_attached:
        click.echo("Nothing is attached: no phone by the adb server, no GPU by nvidia-smi.")


def _known() -> list[dict[str, Any]]:
    from hwnas.devices.profile import profile_files, read_profile
    from hwnas.errors import InvalidFile
    from hwnas.latency_models.storage.age import newest_model

    profiles: dict[str, dict[str, Any]] = {}
    for file in {file.name: file for file in profile_files()}.values():
        try:
            profile = read_profile(file)
        except InvalidFile as error:
            click.echo(f"skipped: {error}", err=True)
            continue
        model = newest_model(profile.name)
        profiles[profile.name] = {
            "name": profile.name,
            "title": profile.title,
            "kind": profile.kind,
            "runtime": profile.runtime,
            "transport": profile.transport,
            "threads": profile.measure.threads,
            "latency_model": model.summary if model else None,
            "latency_model_age_days": model.age_days if model else None,
        }
    return sorted(profiles.values(), key=lambda row: row["name"])


def _attached() -> list[dict[str, Any]]:
    from hwnas.devices.discovery.attached import attached_gpus, attached_phones

    phones = [
        {"address": f"adb:{phone.serial}", "name": phone.model, "state": phone.description}
        for phone in attached_phones()
    ]
    return [*phones, *map(_gpu, attached_gpus())]


def _gpu(gpu: NvidiaGpu) -> dict[str, Any]:
    from hwnas.devices.discovery.attached import cuda_number
    from hwnas.devices.worker.runtimes.cuda import visibility_hint

    number, state = cuda_number(gpu), f"ready, driver {gpu.driver}"
    if number is None:
        state = f"CUDA does not see it{visibility_hint()}"
    elif number != gpu.number:
        state += f", number {number} for CUDA"
    return {"address": f"gpu:{gpu.number}", "name": gpu.name, "state": state}


@devices.command(
    "add",
    example=(
        "hwnas devices add my-laptop --from here",
        "hwnas devices add my-phone --from adb",
        "hwnas devices add my-board --from ssh:pi@board",
    ),
)
@click.argument("name")
@option(
    "--from",
    "source",
    required=True,
    metavar="here|gpu[:N]|adb[:SERIAL]|ssh:HOST",
    help="The device to probe.",
)
@option("--force", is_flag=True, help="Overwrite an existing profile of that name.")
def add_device(name: str, source: str, force: bool) -> None:
    """Probe a device and write its profile NAME.toml.

    The file goes into the folder $HWNAS_DEVICES, or into the current folder.
    """
    import os
    from pathlib import Path

    from hwnas.devices.discovery.probe import probed_profile
    from hwnas.devices.profile import read_profile
    from hwnas.errors import UsageError
    from hwnas.files import write_atomic

    text = probed_profile(name, source)
    file = Path(os.environ.get("HWNAS_DEVICES") or ".") / f"{name}.toml"
    if file.exists() and not force:
        raise UsageError(f"{file}: exists already; --force overwrites it")
    write_atomic(file, text)
    read_profile(file)
    click.echo(f"{file}\nnext: hwnas devices doctor {file if '/' in str(file) else f'./{file}'}")


@devices.command(
    "doctor",
    example=(
        "hwnas devices doctor",
        "hwnas devices doctor pixel4",
        "hwnas devices doctor --training",
    ),
)
@click.argument("name", required=False, type=TARGET)
@option(
    "--training",
    is_flag=True,
    help="Time training and search steps on this machine's CPU and GPUs instead (a minute each).",
)
@json_option
@click.pass_context
def doctor(context: click.Context, name: str | None, training: bool, as_json: bool) -> None:
    """Diagnose what prevents or disturbs measuring here, and on DEVICE if it is given.

    The exit code is 3 if something is missing.
    """
    if training:
        _time_training(as_json)
        return
    from hwnas.devices.discovery.doctor import examine
    from hwnas.devices.profile import find_profile

    checks = examine(find_profile(name) if name else None)
    if as_json:
        print_json([check._asdict() for check in checks])
    else:
        rows = [list(check) for check in checks]
        print_table(["check", "", "result", "what to do"], rows, left=4)
    if any(check.state == "failed" for check in checks):
        context.exit(3)


def _time_training(as_json: bool) -> None:
    """Print images a second of training and search steps, and what an hour is enough for."""
    import msgspec

    from hwnas.console import console
    from hwnas.specialize.setup.work.synthetic import (
        TrainingSpeed,
        default_workloads,
        local_computes,
        measure_training_speed,
    )

    speeds: list[TrainingSpeed] = []
    for compute in local_computes():
        for workload in default_workloads(compute):
            size = "x".join(map(str, workload.input_shape))
            with console(as_json).step(f"timing steps on {compute.device}, images of {size}"):
                speeds.append(measure_training_speed(workload, compute))
    if as_json:
        print_json(msgspec.to_builtins(speeds))
        return
    titles = ["device", "precision", "images", "batch", "training", "supernet", "architecture"]
    titles += ["GB", "epoch", "training/h", "search/h"]
    rows = [
        [
            speed.compute.device,
            "float32" if speed.compute.amp == "none" else speed.compute.amp,
            "x".join(map(str, speed.workload.input_shape)),
            str(speed.workload.batch_size),
            _rate(speed.pace.training_ms),
            _rate(speed.pace.weight_ms),
            _rate(speed.pace.arch_ms),
            f"{speed.peak_bytes / 1e9:.1f}",
            f"{speed.workload.epoch_images:,}",
            _figures(speed.epochs_per_hour),
            _figures(speed.search_epochs_per_hour),
        ]
        for speed in speeds
    ]
    print_table(titles, rows, left=3)
    click.echo(
        "images a second in training steps, and in weight and architecture steps of a supernet; "
        "peak memory; images of an epoch, and such epochs in an hour of training and of search"
    )


def _rate(image_ms: float) -> str:
    """Return images a second."""
    return _figures(1e3 / image_ms)


def _figures(value: float) -> str:
    """Return a number with three digits, or as many as it has before the point."""
    return f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"


@devices.command("show", example="hwnas devices show pixel1")
@click.argument("name", type=TARGET)
@json_option
def show_device(name: str, as_json: bool) -> None:
    """Show a device profile, by name or path, with all its defaults."""
    import msgspec

    from hwnas.devices.profile import find_profile

    profile = msgspec.to_builtins(find_profile(name))
    if as_json:
        print_json(profile)
    else:
        print_table(["field", "value"], _fields(profile), left=2)


@devices.command("check", example="hwnas devices check my-phone.toml")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path())
@json_option
@click.pass_context
def check_devices(context: click.Context, files: tuple[str, ...], as_json: bool) -> None:
    """Check device profiles; prints one line per file, exit code 2 if one is invalid."""
    from pathlib import Path

    from hwnas.devices.profile import read_profile
    from hwnas.errors import InvalidFile

    problems: dict[str, str | None] = {}
    for file in files:
        try:
            read_profile(Path(file))
            problems[file] = None
        except InvalidFile as error:
            problems[file] = str(error)
    if as_json:
        print_json([{"file": file, "problem": problem} for file, problem in problems.items()])
    else:
        for file, problem in problems.items():
            click.echo(problem or f"{file}: ok", err=problem is not None)
    if any(problems.values()):
        context.exit(2)


def _fields(value: dict[str, Any], prefix: str = "") -> Iterator[list[str]]:
    """Yield the dotted name and the text of all fields that have a value."""
    for name, item in value.items():
        if isinstance(item, dict):
            yield from _fields(item, f"{prefix}{name}.")
        elif item is not None:
            text = ", ".join(map(str, item)) if isinstance(item, list | tuple) else str(item)
            yield [f"{prefix}{name}", text]
