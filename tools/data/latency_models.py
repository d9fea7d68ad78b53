"""Make the latency models that are shipped, from published tables and networks.

    python -m tools.data.latency_models [--data ../shared/data] [--only pixel1]

Block tables become models of kind ``table``, exactly as published. Devices for which only whole
networks were published get a model that is adapted from the Note10's table. Each folder's card.md
says where the figures come from and what is known about their error.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import click
import msgspec
import numpy as np

from hwnas.architecture.architecture import Block, round_channels
from hwnas.files import write_atomic
from hwnas.latency_models.fitting.fit import fit_model, score_predictions
from hwnas.latency_models.importers import read_observations
from hwnas.latency_models.model import LatencyModel, Predictions
from hwnas.latency_models.observation import Observation
from hwnas.latency_models.storage.card import card, error_words
from hwnas.latency_models.storage.model_file import write_model
from hwnas.spaces.json_networks import DescribedNetwork, read_once_for_all
from tools.lib.results import ROOT

OUT = ROOT / "latency_models"
RESOLUTIONS = range(160, 225, 16)
"""Of the 17 that were published: those between are interpolated."""

PIXEL1 = (
    "published with ProxylessNAS (Cai, Zhu and Han, ICLR 2019, arXiv:1812.00332): han-cai/files, "
    "commit a7c9bcd525e17404968bc55aa43772bf7e51909e, proxylessnas/mobile_trim.yaml"
)
NOTE10 = (
    "Samsung Note10, published with Once-for-All (Cai et al., ICLR 2020, arXiv:1908.09791), from "
    "gatech-sysml/CompOFA, commit 6b53946157b8ee16118187872ed19e45dd9692c4, "
    "NAS/checkpoints/latency_table@note10"
)
NETWORKS = (
    "networks specialised by Once-for-All (Cai et al., ICLR 2020, arXiv:1908.09791) with their "
    "published latencies: han-cai/files, commit a7c9bcd525e17404968bc55aa43772bf7e51909e, "
    "ofa/ofa_specialized"
)

MOBILENETS = (
    "MobileNetV2 of several widths and resolutions: tensorflow/models, commit "
    "0ba83cf0211401a8505505276c59418f15338d31, research/slim/nets/mobilenet/README.md"
)


@click.command()
@click.option("--data", default="../shared/data", type=click.Path(exists=True, path_type=Path))
@click.option("--only", help="Name of one device.")
def main(data: Path, only: str | None) -> None:
    """Write all models and cards."""
    for name, model, note in _models(data):
        device, _, stem = name.partition("/")
        if only is None or device == only:
            write_model(model, OUT / device / f"{stem}.json")
            write_atomic(OUT / device / f"{stem}.md", card(model) + note)
            click.echo(f"{name}: {len(model.rows_ms)} rows")


def _models(data: Path) -> Iterator[tuple[str, LatencyModel, str]]:
    table = data / "proxylessnas" / "pixel1_mobile_trim.yaml"
    yield "pixel1/table-2018", _pixel1(table), PIXEL1_NOTE
    networks = read_once_for_all(data / "ofa" / "ofa_specialized.json")
    note10 = _note10(data / "ofa" / "lut_note10_17res.json", networks)
    yield "note10/table", note10, _note10_note(note10, networks)
    older = _mobilenets(data / "published_tables" / "mobilenet_pixel.csv")
    for device, mine in _by_device(networks).items():
        yield f"{device}/adapted", *_adapted(device, mine, note10, older.get(device, []))


def _pixel1(path: Path) -> LatencyModel:
    return fit_model(
        "pixel1",
        read_observations(path).observations,
        kind="table",
        source=f"{PIXEL1}, sha256 {_sha256(path)}",
        made="2018",
    )


def _note10(path: Path, networks: list[DescribedNetwork]) -> LatencyModel:
    observations = [
        one
        for resolution in RESOLUTIONS
        for one in read_observations(path, resolution=resolution).observations
    ]
    first = {one.blocks: one for one in reversed(observations)}  # 7x7 rows are in several tables
    return fit_model(
        "note10",
        list(reversed(first.values())),
        kind="table",
        source=f"{NOTE10}, sha256 {_sha256(path)}, resolutions {RESOLUTIONS.start} to 224 px in "
        f"steps of {RESOLUTIONS.step}",
        made="2020",
    )


def _sha256(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()[:16]


DEVICES = {
    "pixel1": "pixel1", "pixel2": "pixel2", "note8": "note8", "s7edge": "s7edge",
    "LG-G8": "lg-g8", "cpu": "xeon-ofa", "v100": "v100-batch64", "1080ti": "1080ti-batch64",
    "tx2": "tx2-batch16",
}  # fmt: skip
"""From the collection's names to ours; a GPU's latency is that of a batch."""

ROUNDING = 0.289
"""Standard deviation of rounding to whole milliseconds."""


def _by_device(networks: list[DescribedNetwork]) -> dict[str, list[DescribedNetwork]]:
    found: dict[str, list[DescribedNetwork]] = {}
    for one in networks:
        if one.device in DEVICES and one.published_ms is not None:
            found.setdefault(DEVICES[one.device], []).append(one)
    return found


def _observation(one: DescribedNetwork) -> Observation:
    assert one.published_ms is not None
    blocks, ms = one.architecture.compute_blocks, one.published_ms
    return Observation("network", blocks, ms, ROUNDING / ms, session=1)


def _mobilenets(path: Path) -> dict[str, list[Observation]]:
    """Return the float MobileNetV2 of several widths and resolutions, by device: ReLU6, no gates.

    Measured by others than the Once-for-all networks: a session of its own.
    """
    found: list[Observation] = []
    for row in csv.DictReader(path.read_text().splitlines()):
        if named := re.fullmatch(r"mobilenet_v2_([\d.]+)_(\d+)_float", row["model"]):
            blocks = mobilenet_v2(float(named[1]), int(named[2]))
            ms = float(row["pixel1_ms"])
            found.append(Observation("network", tuple(blocks), ms, 0.0289 / ms, session=0))
    return {"pixel1": found}


def mobilenet_v2(width_mult: float, size: int) -> list[Block]:
    """Return MobileNetV2 (Sandler et al., CVPR 2018, arXiv:1801.04381, table 2) for ImageNet."""
    channels = round_channels(32 * width_mult)
    blocks = [Block("conv", 3, channels, 3, 2, 1, size)]
    for expand, width, depth, stride in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
        (6, 320, 1, 1),
    ):  # fmt: skip
        for number in range(depth):
            out, step = round_channels(width * width_mult), stride if number == 0 else 1
            before = blocks[-1]
            blocks.append(
                Block("mbconv", before.out_channels, out, 3, step, expand, before.out_size)
            )
    last, head = blocks[-1], round_channels(1280 * max(1.0, width_mult))
    return [
        *blocks,
        Block("conv", last.out_channels, head, 1, 1, 1, last.out_size),
        Block("logits", head, 1000, 1, 1, 1, last.out_size),
    ]


def _fit(device: str, observations: list[Observation], note10: LatencyModel) -> LatencyModel:
    newer = sum(one.session == 1 for one in observations)
    added = f"; {len(observations) - newer} {MOBILENETS}" if newer < len(observations) else ""
    return fit_model(
        device,
        observations,
        kind="adapted",
        source=f"{newer} {NETWORKS}{added}; block costs from the Note10's table",
        sources=[note10],
        made="2020",
        validate=False,
    )


def _adapted(
    device: str,
    networks: list[DescribedNetwork],
    note10: LatencyModel,
    older: list[Observation],
) -> tuple[LatencyModel, str]:
    """Adapt the Note10's model; its error is of each network predicted from the others."""
    observations = [_observation(one) for one in networks]
    predicted: list[Predictions] = []
    for held_out in range(len(networks)):
        rest = [one for number, one in enumerate(observations) if number != held_out]
        model = _fit(device, [*older, *rest], note10)
        predicted.append(model.predict([networks[held_out].architecture.blocks]))
    measured = np.array([one.ms for one in observations])
    found = Predictions(
        np.concatenate([one.mean_ms for one in predicted]),
        np.concatenate([one.std_ms for one in predicted]),
    )
    model = _fit(device, [*older, *observations], note10)
    held_out = score_predictions(found, measured, len(networks))
    model = msgspec.structs.replace(model, held_out=held_out)
    rows = [
        f"| {one.name} | {measured[n]:g} | {found.mean_ms[n]:.1f} ± {found.std_ms[n]:.1f} | "
        f"{found.mean_ms[n] / measured[n] - 1:+.1%} |"
        for n, one in enumerate(networks)
    ]
    return model, ADAPTED_NOTE + "\n".join(rows) + "\n"


def _note10_note(note10: LatencyModel, networks: list[DescribedNetwork]) -> str:
    mine = [one for one in networks if one.device == "note10" and one.published_ms is not None]
    measured = np.array([one.published_ms for one in mine], dtype=float)
    found = note10.predict([one.architecture.blocks for one in mine])
    rows = [
        f"| {one.name} | {ms:g} | {mean:.1f} | {mean / ms - 1:+.1%} |"
        for one, ms, mean in zip(mine, measured, found.mean_ms, strict=True)
    ]
    said = error_words(score_predictions(found, measured))
    return f"{NOTE10_NOTE}- error on {said}\n\n{TABLE_HEAD}" + "\n".join(rows) + "\n"


TABLE_HEAD = "| network | published, ms | predicted, ms | error |\n| --- | --- | --- | --- |\n"

PIXEL1_NOTE = """
The figures are means over per-operator profiles of 982 random whole networks of the ProxylessNAS
space at 224 x 224 (each fixed block was seen 982 times), TF-Lite, batch 1. A network's latency is
their plain sum; a skipped block costs nothing. They hold for the software of 2018: whole networks
that were measured on a Pixel 1 with later software are 24 to 32 % faster than this table says.

They cover stage widths 24, 40, 80, 96, 192 and 320 only. The classifier was measured with 1000
classes; one with fewer is charged the same, an upper bound (the whole row is 0.31 ms).
"""

NOTE10_NOTE = """
Blocks with squeeze-excite and h-swish of the Once-for-all space, one core, batch 1. No whole
network was fitted: the latencies below were published beside the networks, in whole milliseconds.
Networks with blocks or resolutions that the table lacks are predicted from its other rows.

"""

ADAPTED_NOTE = (
    """
No block was ever timed on this device: its few published networks set the scale of the Note10's
block costs and a small correction. A prediction's interval is honest and wide; measure the device
to narrow it. Each network below was predicted from the others.

"""
    + TABLE_HEAD
)

if __name__ == "__main__":
    main()
