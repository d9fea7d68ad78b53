"""Make the shipped latency models from published tables and networks.

    python -m tools.data.latency_models [--data ../shared/data] [--only pixel1]

Published block tables become models of kind ``table`` with the same numbers. Devices of which only
whole networks were published get a model that is adapted from the table of the Note10. The card
beside each model states its source and what is known about its error.
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
from numpy.typing import NDArray

from hwnas.architecture.architecture import Block, round_channels
from hwnas.files import write_atomic
from hwnas.latency_models.fitting.fit import fit_model, score_predictions
from hwnas.latency_models.importers import read_observations
from hwnas.latency_models.model import LatencyModel, Predictions
from hwnas.latency_models.observation import Observation
from hwnas.latency_models.storage.card import card, error_words
from hwnas.latency_models.storage.model_file import write_model
from hwnas.spaces.json_networks import DescribedNetwork, read_once_for_all
from tools.lib.results import ROOT, SHARED_DATA, table

OUT = ROOT / "latency_models"
RESOLUTIONS = range(160, 225, 16)
"""Every other of the published resolutions, in px; the model interpolates between them."""

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
@click.option("--data", default=SHARED_DATA, type=click.Path(exists=True, path_type=Path))
@click.option("--only", metavar="DEVICE", help="Make the models of this device only.")
def main(data: Path, only: str | None) -> None:
    """Write the latency models and their cards."""
    for name, model, note in _models(data):
        device, _, stem = name.partition("/")
        if only is None or device == only:
            write_model(model, OUT / device / f"{stem}.json")
            write_atomic(OUT / device / f"{stem}.md", card(model) + note)
            click.echo(f"{name}: {len(model.rows_ms)} rows")


def _models(data: Path) -> Iterator[tuple[str, LatencyModel, str]]:
    pixel1_table = data / "proxylessnas" / "pixel1_mobile_trim.yaml"
    yield "pixel1/table-2018", _pixel1(pixel1_table), PIXEL1_NOTE
    networks = read_once_for_all(data / "ofa" / "ofa_specialized.json")
    note10 = _note10(data / "ofa" / "lut_note10_17res.json", networks)
    yield "note10/table", note10, _note10_note(note10, networks)
    mobilenets = {"pixel1": _mobilenets(data / "published_tables" / "mobilenet_pixel.csv")}
    for device, device_networks in _by_device(networks).items():
        added = mobilenets.get(device, [])
        yield f"{device}/adapted", *_adapted(device, device_networks, note10, added)


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
        observation
        for resolution in RESOLUTIONS
        for observation in read_observations(path, resolution=resolution).observations
    ]
    # blocks at 7 px are in the tables of several resolutions: the first counts
    first = {observation.blocks: observation for observation in reversed(observations)}
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
    "pixel1": "pixel1",
    "pixel2": "pixel2",
    "note8": "note8",
    "s7edge": "s7edge",
    "LG-G8": "lg-g8",
    "cpu": "xeon-ofa",
    "v100": "v100-batch64",
    "1080ti": "1080ti-batch64",
    "tx2": "tx2-batch16",
}
"""Our device names by those of the collection; a GPU's latency is that of a batch."""

ROUNDING_STD_MS = 0.289
"""Standard deviation of rounding to whole milliseconds."""
MOBILENET_STD_MS = 0.0289
"""The same for latencies that were published in tenths of a millisecond."""


def _by_device(networks: list[DescribedNetwork]) -> dict[str, list[DescribedNetwork]]:
    devices: dict[str, list[DescribedNetwork]] = {}
    for network in networks:
        if network.device in DEVICES and network.published_ms is not None:
            devices.setdefault(DEVICES[network.device], []).append(network)
    return devices


def _observation(network: DescribedNetwork) -> Observation:
    assert network.published_ms is not None
    blocks, ms = network.architecture.compute_blocks, network.published_ms
    return Observation("network", blocks, ms, ROUNDING_STD_MS / ms, session=1)


def _mobilenets(path: Path) -> list[Observation]:
    """Return the float MobileNetV2 (ReLU6, no squeeze-excite) of several widths and resolutions.

    They have a session of their own, as they were not measured with the Once-for-All networks.
    """
    observations: list[Observation] = []
    for row in csv.DictReader(path.read_text().splitlines()):
        if match := re.fullmatch(r"mobilenet_v2_([\d.]+)_(\d+)_float", row["model"]):
            blocks = tuple(mobilenet_v2(float(match[1]), int(match[2])))
            ms = float(row["pixel1_ms"])
            observations.append(
                Observation("network", blocks, ms, MOBILENET_STD_MS / ms, session=0)
            )
    return observations


MOBILENET_V2_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, channels, blocks, stride."""


def mobilenet_v2(width_mult: float, size: int) -> list[Block]:
    """Return MobileNetV2 (Sandler et al., CVPR 2018, arXiv:1801.04381, table 2) for ImageNet."""
    channels = round_channels(32 * width_mult)
    blocks = [Block("conv", 3, channels, 3, 2, 1, size)]
    for expand, width, depth, stride in MOBILENET_V2_STAGES:
        for number in range(depth):
            out, step = round_channels(width * width_mult), stride if number == 0 else 1
            last = blocks[-1]
            blocks.append(Block("mbconv", last.out_channels, out, 3, step, expand, last.out_size))
    last, head = blocks[-1], round_channels(1280 * max(1.0, width_mult))
    return [
        *blocks,
        Block("conv", last.out_channels, head, 1, 1, 1, last.out_size),
        Block("logits", head, 1000, 1, 1, 1, last.out_size),
    ]


def _fit(device: str, observations: list[Observation], note10: LatencyModel) -> LatencyModel:
    count = sum(observation.session == 1 for observation in observations)
    added = f"; {len(observations) - count} {MOBILENETS}" if count < len(observations) else ""
    return fit_model(
        device,
        observations,
        kind="adapted",
        source=f"{count} {NETWORKS}{added}; block costs from the Note10's table",
        sources=[note10],
        made="2020",
        validate=False,
    )


def _adapted(
    device: str,
    networks: list[DescribedNetwork],
    note10: LatencyModel,
    added: list[Observation],
) -> tuple[LatencyModel, str]:
    """Adapt the Note10's model to a device and return the note for its card.

    The error is that of each network predicted from the others and from the ``added`` observations.
    """
    observations = [_observation(network) for network in networks]
    held_out: list[Predictions] = []
    for index, network in enumerate(networks):
        others = [*observations[:index], *observations[index + 1 :]]
        model = _fit(device, [*added, *others], note10)
        held_out.append(model.predict([network.architecture.blocks]))
    measured_ms = np.array([observation.ms for observation in observations])
    predictions = Predictions(
        np.concatenate([prediction.mean_ms for prediction in held_out]),
        np.concatenate([prediction.std_ms for prediction in held_out]),
    )
    model = _fit(device, [*added, *observations], note10)
    scores = score_predictions(predictions, measured_ms, len(networks))
    model = msgspec.structs.replace(model, held_out=scores)
    stds = [f" ± {std_ms:.1f}" for std_ms in predictions.std_ms]
    return model, ADAPTED_NOTE + _error_table(networks, measured_ms, predictions.mean_ms, stds)


def _note10_note(note10: LatencyModel, networks: list[DescribedNetwork]) -> str:
    networks = [
        network
        for network in networks
        if network.device == "note10" and network.published_ms is not None
    ]
    measured_ms = np.array([network.published_ms for network in networks], dtype=float)
    predictions = note10.predict([network.architecture.blocks for network in networks])
    error = error_words(score_predictions(predictions, measured_ms))
    rows = _error_table(networks, measured_ms, predictions.mean_ms, [""] * len(networks))
    return f"{NOTE10_NOTE}- error on {error}\n\n{rows}"


def _error_table(
    networks: list[DescribedNetwork],
    measured_ms: NDArray[np.float64],
    mean_ms: NDArray[np.float64],
    stds: list[str],
) -> str:
    rows = [
        (network.name, f"{ms:g}", f"{mean:.1f}{std}", f"{mean / ms - 1:+.1%}")
        for network, ms, mean, std in zip(networks, measured_ms, mean_ms, stds, strict=True)
    ]
    return table(("network", "published, ms", "predicted, ms", "error"), rows) + "\n"


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

ADAPTED_NOTE = """
No block was ever timed on this device: its few published networks set the scale of the Note10's
block costs and a small correction. A prediction's interval is honest and wide; measure the device
to narrow it. Each network below was predicted from the others.

"""

if __name__ == "__main__":
    main()
