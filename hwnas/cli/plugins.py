"""`hwnas plugins`: which extensions are installed, and which are broken."""

from __future__ import annotations

import click

from hwnas.cli.tables import print_json, print_table


@click.command("plugins")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.pass_context
def plugins(context: click.Context, as_json: bool) -> None:
    """List extensions by entry points, with their packages; exit status 1 if one is broken.

    Each is imported, which runs its package's code, and what can be checked in a moment is: the
    profiles of devices, a network of each space, the methods of strategies and runners. One whose
    name another package has as well is hidden: it is named, and is no failure.
    """
    from hwnas.plugins import installed
    from hwnas.testing.interface import check_interface

    found = installed(check_interface)
    if as_json:
        print_json([one._asdict() for one in found])
    else:
        titles = ["kind", "name", "package", "loads from", "state"]
        rows = [
            [
                one.kind, one.name, f"{one.package} {one.version}", one.value,
                ": ".join(filter(None, (one.state, one.note))),
            ]
            for one in found
        ]  # fmt: skip
        print_table(titles, rows, left=5)
    if any(one.state == "broken" for one in found):
        context.exit(1)
