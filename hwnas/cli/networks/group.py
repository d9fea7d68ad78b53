"""`hwnas networks`: list networks with published weights, show and fetch them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from hwnas.cli.framework.command import Group, json_option, option, quiet_option
from hwnas.cli.framework.options import image_shape_option
from hwnas.cli.framework.params import PRETRAINED
from hwnas.cli.tables import print_json, print_table

if TYPE_CHECKING:
    from hwnas.pretrained.sources import Source


@click.group("networks", cls=Group)
def networks() -> None:
    """List networks with published weights, show and fetch them."""


@networks.command("list", example=("hwnas networks list", "hwnas networks list --installed"))
@option("--installed", is_flag=True, help="List only networks whose weights are on this machine.")
@json_option
def list_networks(installed: bool, as_json: bool) -> None:
    """List networks with published weights, and where the weights are or how to get them."""
    from hwnas.pretrained.sources import sources

    rows = [row for row in map(_row, sources()) if row["file"] or not installed]
    if as_json:
        print_json(rows)
        return
    if not rows:
        click.echo("No weights are on this machine; `hwnas networks list` says how to get them.")
        return
    titles = ["network", "weights", "top-1 %", "MACs, M", "params, M", "pixels"]
    print_table(titles, [_cells(row) for row in rows], left=2)
    if not installed:
        click.echo("fetch: `hwnas networks fetch NETWORK` downloads the weights")
    click.echo("also: timm:NAME, local-dir:FOLDER (timm), a file of weights of such a network")


@networks.command(
    "show",
    example=("hwnas networks show mobilenet_v2", "hwnas networks show my-mobilenet.pt"),
)
@click.argument("name", metavar="NETWORK", type=PRETRAINED)
@image_shape_option
@json_option
def show_network(name: str, input_shape: tuple[int, int, int] | None, as_json: bool) -> None:
    """Show the figures, licence and preprocessing of a network, and where its weights are.

    NETWORK is a name of `hwnas networks list`, timm:NAME, local-dir:FOLDER, a file of weights, the
    folder of a run or training, or module:factory. Weights of timm and files are loaded and rebuilt
    from blocks, which checks them.
    """
    row = _any_row(name, input_shape)
    if as_json:
        print_json(row)
        return
    fields = [[_words(key), _text(value)] for key, value in row.items() if value]
    print_table(["field", "value"], fields, left=2)


@networks.command(
    "fetch",
    continued_by="",
    example=(
        "hwnas networks fetch mobilenet_v2",
        "hwnas networks fetch timm:mobilenetv3_large_100.ra_in1k",
    ),
)
@click.argument("name", type=PRETRAINED)
@quiet_option
def fetch_network(name: str, quiet: bool) -> None:
    """Download the weights of a network into the folder of torch.hub, and check their hash.

    Networks of timm (timm:NAME) go into the cache of the Hugging Face hub. A download that breaks
    off goes on where it stopped when the command is repeated.
    """
    from hwnas.console import console
    from hwnas.pretrained.download import fetch
    from hwnas.pretrained.hub import fetch_timm, is_timm
    from hwnas.pretrained.sources import find_source

    if is_timm(name):
        click.echo(fetch_timm(name))
        return
    source = find_source(name)
    with console(quiet).step(f"{name}: {source.about.licence}") as update:
        file = fetch(source, lambda done, total: update(done, total, "MB"))
    click.echo(file)


def _any_row(name: str, input_shape: tuple[int, int, int] | None) -> dict[str, Any]:
    from hwnas.networks.names import kind_of
    from hwnas.pretrained.sources import find_source, is_source

    if kind_of(name) == "published" and is_source(name):
        return _row(find_source(name))
    import msgspec

    from hwnas.networks.pretrained import load_pretrained

    network = load_pretrained(name, input_shape)
    return {
        "name": network.name,
        "macs": network.architecture.macs,
        "params": network.architecture.params,
        "classes": network.architecture.num_classes,
        "licence": network.licence,
        "preprocessing": msgspec.to_builtins(network.preprocessing),
        "file": network.source,
    }


def _row(source: Source) -> dict[str, Any]:
    import msgspec

    from hwnas.pretrained.sources import weights_file

    return {
        "name": source.name,
        "collection": source.about.title,
        "top1": source.top1,
        "macs": source.macs,
        "params": source.params,
        "licence": source.about.licence,
        "preprocessing": msgspec.to_builtins(source.preprocessing),
        "url": source.url or source.package,
        "sha256": source.sha256,
        "file": str(weights_file(source) or ""),
        "obtained_by": source.obtained_by,
        "homepage": source.about.homepage,
    }


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["name"],
        _weights(row),
        f"{row['top1']:.1f}" if row["top1"] is not None else "",
        f"{row['macs'] / 1e6:,.0f}",
        f"{row['params'] / 1e6:.1f}",
        str(row["preprocessing"]["size_px"]),
    ]


def _weights(row: dict[str, Any]) -> str:
    """Return where the weights of a network are, or how to get them, in a few words."""
    if row["file"]:
        return "on this machine"
    return "fetch" if row["url"].startswith("http") else row["obtained_by"]


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{_words(key)} {_text(item)}" for key, item in value.items())
    if isinstance(value, list):
        return " ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def _words(key: str) -> str:
    return key.replace("_", " ")
