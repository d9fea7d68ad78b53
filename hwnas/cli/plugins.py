"""`hwnas plugins`: which extensions are installed, and which are broken."""

from __future__ import annotations

import click

from hwnas.cli.tables import print_json, print_table


@click.command("plugins")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.pass_context
def plugins(context: click.Context, as_json: bool) -> None:
    """List extensions by entry points, with their packages; exit status 1 if one is broken.

    Each is imported, which runs its package's code.
    """
    from hwnas.plugins import installed

    found = installed()
    if as_json:
        print_json([one._asdict() for one in found])
    else:
        titles = ["kind", "name", "package", "loads from", "state"]
        rows = [
            [one.kind, one.name, f"{one.package} {one.version}", one.value, one.problem or "ok"]
            for one in found
        ]
        print_table(titles, rows, left=5)
    if any(one.problem for one in found):
        context.exit(1)
