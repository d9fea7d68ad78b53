"""`hwnas devices`: which devices there are, and whether a profile is right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from hwnas.cli.tables import print_json, print_table


@click.group("devices")
def devices() -> None:
    """Devices that can be targets: list, show, check."""


@devices.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def list_devices(as_json: bool) -> None:
    """List all known devices."""
    from hwnas.devices.profile import profile_files, read_profile

    profiles: dict[str, dict[str, Any]] = {}
    for file in profile_files():
        profile = read_profile(file)
        profiles[profile.name] = {
            "name": profile.name,
            "title": profile.title,
            "kind": profile.kind,
            "runtime": profile.runtime,
            "transport": profile.transport,
            "threads": profile.measure.threads,
        }
    rows = sorted(profiles.values(), key=lambda row: row["name"])
    if as_json:
        print_json(rows)
    else:
        print_table(list(rows[0]), [[str(cell) for cell in row.values()] for row in rows], left=5)


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
