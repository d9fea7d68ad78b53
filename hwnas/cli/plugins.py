"""`hwnas plugins`: which extensions are installed, and which are broken."""

from __future__ import annotations

import click

from hwnas.cli.framework.command import command, json_option
from hwnas.cli.tables import print_json, print_table


@command("plugins", example="hwnas plugins")
@json_option
@click.pass_context
def plugins(context: click.Context, as_json: bool) -> None:
    """List and check the installed extensions; exit code 1 if one is broken.

    Each extension is imported, which runs code of its package, and checked briefly: the profiles of
    devices, one network of each space, the methods of strategies and runners. An extension is
    hidden, which is not an error, if another package has one of the same name that comes first.
    """
    from hwnas.plugins import installed
    from hwnas.testing.interface import check_interface

    extensions = installed(check_interface)
    if as_json:
        print_json([extension._asdict() for extension in extensions])
    else:
        titles = ["kind", "name", "package", "loads from", "state"]
        rows = [
            [
                extension.kind,
                extension.name,
                f"{extension.package} {extension.version}",
                extension.value,
                ": ".join(filter(None, (extension.state, extension.note))),
            ]
            for extension in extensions
        ]
        print_table(titles, rows, left=5)
    if any(extension.state == "broken" for extension in extensions):
        context.exit(1)
