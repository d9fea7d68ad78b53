"""Make latency_models/pixel1/mobile-224.json from the ProxylessNAS authors' published figures.

    python tools/make_pixel1_table.py --source ../shared/data/proxylessnas/pixel1_mobile_trim.yaml

The source maps a block's name to the count, mean (ms) and variance of its latency in random whole
networks on a Pixel 1. The figures are kept as they are; the names become `Block` keys.
"""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

import click

from hwnas.architecture import Block
from hwnas.errors import InvalidFile
from hwnas.files import write_atomic, write_json
from hwnas.latency_models.store import card
from hwnas.latency_models.table import SCHEMA, LatencyTable

OUT = Path(__file__).parent.parent / "latency_models" / "pixel1"
MBCONV = re.compile(
    r"expanded_conv-input:(\d+)x\1x(\d+)-output:(\d+)x\3x(\d+)"
    r"-expand:(\d+)-kernel:(\d+)-stride:(\d+)-idskip:([01])"
)
PLAIN = re.compile(r"(Conv|Conv_1)-input:(\d+)x\2x(\d+)-output:(\d+)x\4x(\d+)")
LOGITS = re.compile(r"Logits-input:(\d+)x\1x(\d+)-output:(\d+)")


@click.command()
@click.option("--source", required=True, type=click.Path(exists=True, path_type=Path))
def main(source: Path) -> None:
    """Convert the published table."""
    text = source.read_text()
    rows_ms = {
        block(name, source).key: float(mean)
        for name, mean in re.findall(r"^(\S+):\n  count: \d+\n  mean: (\S+)\n", text, re.MULTILINE)
    }
    table = LatencyTable(
        schema=SCHEMA,
        device="pixel1",
        kind="table",
        source="published with ProxylessNAS (Cai, Zhu and Han, ICLR 2019, arXiv:1812.00332): "
        "han-cai/files, commit a7c9bcd525e17404968bc55aa43772bf7e51909e, "
        f"proxylessnas/mobile_trim.yaml, sha256 {sha256(source.read_bytes()).hexdigest()[:16]}",
        made="2018",
        rows_ms=rows_ms,
    )
    write_json(OUT / "mobile-224.json", table)
    write_atomic(OUT / "card.md", card(table) + NOTE)
    click.echo(f"{len(rows_ms)} rows: {OUT / 'mobile-224.json'}")


def block(name: str, source: Path) -> Block:
    """Return the block that a row's name means."""
    if found := MBCONV.fullmatch(name):
        size, c_in, _, c_out, expand, kernel, stride, _ = map(int, found.groups())
        return Block("mbconv", c_in, c_out, kernel, stride, expand, size)
    if found := PLAIN.fullmatch(name):
        size, c_in, out, c_out = map(int, found.groups()[1:])
        kernel = 3 if found[1] == "Conv" else 1
        return Block("conv", c_in, c_out, kernel, size // out, 1, size)
    if found := LOGITS.fullmatch(name):
        size, c_in, classes = map(int, found.groups())
        return Block("logits", c_in, classes, 1, 1, 1, size)
    raise InvalidFile(str(source), f"row {name!r} is of no known kind")


NOTE = """
The figures are means over per-operator profiles of 982 random whole networks of the ProxylessNAS
space at 224 x 224 (each fixed block was seen 982 times), TF-Lite, batch 1. A network's latency is
their plain sum; a skipped block costs nothing. They hold for the software of 2018: measured whole
networks on a Pixel 1 with later software are 24 to 32 % faster than this table says.

They cover stage widths 24, 40, 80, 96, 192 and 320 only. The classifier was measured with 1000
classes; one with fewer is charged the same, an upper bound (the whole row is 0.31 ms).
"""

if __name__ == "__main__":
    main()
