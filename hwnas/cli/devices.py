"""`hwnas devices`: which devices there are, what is attached, and whether all is right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from hwnas.cli.tables import print_json, print_table

if TYPE_CHECKING:
    from hwnas.devices.discovery.attached import NvidiaGpu


@click.group("devices")
def devices() -> None:
    """Devices that can be targets: list, show, check, add, doctor."""


@devices.command("list")
@click.option("--attached", "only_attached", is_flag=True, help="Phones and GPUs, no profiles.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def list_devices(only_attached: bool, as_json: bool) -> None:
    """List all known devices, and what is attached to this machine now."""
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
        click.echo("Nothing is attached (no adb server with a phone, no GPU by nvidia-smi).")


def _known() -> list[dict[str, Any]]:
    from hwnas.devices.profile import profile_files, read_profile
    from hwnas.errors import InvalidFile
    from hwnas.latency_models.storage.age import newest_model

    profiles: dict[str, dict[str, Any]] = {}
    for file in {file.name: file for file in profile_files()}.values():
        try:
            profile = read_profile(file)
        except InvalidFile as error:
            click.echo(f"left out: {error}", err=True)
            continue
        model = newest_model(profile.name)
        profiles[profile.name] = {
            "name": profile.name,
            "title": profile.title,
            "kind": profile.kind,
            "runtime": profile.runtime,
            "transport": profile.transport,
            "threads": profile.measure.threads,
            "latency_model": model.said if model else None,
            "latency_model_age_days": model.age_days if model else None,
        }
    return sorted(profiles.values(), key=lambda row: row["name"])


def _attached() -> list[dict[str, Any]]:
    from hwnas.devices.discovery.attached import attached_gpus, attached_phones

    phones = [
        {"way": f"adb:{one.serial}", "name": one.model, "state": one.said}
        for one in attached_phones()
    ]
    return [*phones, *map(_gpu, attached_gpus())]


def _gpu(gpu: NvidiaGpu) -> dict[str, Any]:
    from hwnas.devices.discovery.attached import cuda_number
    from hwnas.devices.worker.runtimes.cuda import restricted

    number, state = cuda_number(gpu), f"ready, driver {gpu.driver}"
    if number is None:
        state = f"CUDA does not see it{restricted()}"
    elif number != gpu.number:
        state += f", number {number} for CUDA"
    return {"way": f"gpu:{gpu.number}", "name": gpu.name, "state": state}


@devices.command("add")
@click.argument("name")
@click.option("--from", "source", required=True, metavar="here|gpu[:N]|adb[:SERIAL]|ssh:HOST",
              help="The device that is asked what it is.")  # fmt: skip
@click.option("--force", is_flag=True, help="Write over a profile of that name.")
def add_device(name: str, source: str, force: bool) -> None:
    """Write the profile NAME.toml from a probe, into $HWNAS_DEVICES or the current folder."""
    import os
    from pathlib import Path

    from hwnas.devices.discovery.probe import probed_profile
    from hwnas.devices.profile import read_profile
    from hwnas.errors import UsageError
    from hwnas.files import write_atomic

    text = probed_profile(name, source)
    file = Path(os.environ.get("HWNAS_DEVICES") or ".") / f"{name}.toml"
    if file.exists() and not force:
        raise UsageError(f"{file}: exists already; --force writes over it")
    write_atomic(file, text)
    read_profile(file)
    click.echo(f"{file}\nnext: hwnas devices doctor {file if '/' in str(file) else f'./{file}'}")


@devices.command("doctor")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.pass_context
def doctor(context: click.Context, name: str | None, as_json: bool) -> None:
    """Check this machine, and the way to the device NAME; exit status 3 if something is missing."""
    from hwnas.devices.discovery.doctor import examine
    from hwnas.devices.profile import find_profile

    checks = examine(find_profile(name) if name else None)
    if as_json:
        print_json([one._asdict() for one in checks])
    else:
        print_table(["check", "", "found", "what to do"], [list(one) for one in checks], left=4)
    if any(one.state == "failed" for one in checks):
        context.exit(3)


@devices.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def show_device(name: str, as_json: bool) -> None:
    """Show the profile NAME (or a path to one) with all its defaults."""
    import msgspec

    from hwnas.devices.profile import find_profile

    profile = msgspec.to_builtins(find_profile(name))
    if as_json:
        print_json(profile)
    else:
        print_table(["field", "value"], _fields(profile), left=2)


@devices.command("check")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.pass_context
def check_devices(context: click.Context, files: tuple[str, ...], as_json: bool) -> None:
    """Check device profiles: one line for each file, exit status 2 if one is wrong."""
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
    """Yield (dotted name, text) of all that is said; what is not said is left out."""
    for name, item in value.items():
        if isinstance(item, dict):
            yield from _fields(item, f"{prefix}{name}.")
        elif item is not None:
            text = ", ".join(map(str, item)) if isinstance(item, list | tuple) else str(item)
            yield [f"{prefix}{name}", text]
