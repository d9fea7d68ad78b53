"""Statistics of a trained network's inner channels, for the closed forms, from a few images.

One pass in evaluation mode gives, for each chosen block, mean and covariance of its inner channels
at sampled pixels, and the Gram matrices of the patches of its depthwise kernel. They hold for every
width and kernel size.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from hwnas.nn.blocks.convnext import ConvNeXtBlock
from hwnas.nn.blocks.layers import ConvNorm
from hwnas.nn.blocks.mobile import DepthwiseSeparable, FusedMBConv, MBConv, ShuffleUnit
from hwnas.nn.blocks.plain import DoubleConv
from hwnas.nn.blocks.residual import ResidualBlock
from hwnas.nn.depthwise import DepthwiseConv2d
from hwnas.nn.elastic.channels import INNER
from hwnas.nn.elastic.patches import patch_gram
from hwnas.nn.network import Network

PIXELS = 4000
"""Pixels sampled in a batch for covariances."""
KERNEL_PIXELS = 1000
"""Pixels sampled in a batch for depthwise kernels, which have few weights a channel."""
DEPTHWISE = ("start", "depthwise")
"""Names of the depthwise layers of a block, in order."""
WITH_INNER_CHANNELS = (
    MBConv, FusedMBConv, ResidualBlock, ShuffleUnit, DoubleConv, ConvNeXtBlock
)  # fmt: skip
SMALLEST_KERNEL = 3
"""Kernels of this size are not made smaller, so they need no statistics."""


class InputStatistics(NamedTuple):
    """Statistics of the pixels of I channels; float64, on the CPU."""

    mean: Tensor
    """``[I]``"""
    covariance: Tensor
    """``[I, I]``"""


class BlockStatistics(NamedTuple):
    """Statistics of one block with I inner channels."""

    inputs: Mapping[str, InputStatistics]
    """Statistics of the inputs of each layer that consumes inner channels, see `INNER`."""
    grams: Mapping[str, Tensor] = {}
    """``E [patch; 1] [patch; 1]^T`` of each channel of a depthwise layer with a kernel that can be
    made smaller, ``[C, k*k + 1, k*k + 1]``."""
    squeeze_mean: Tensor | None = None
    """Mean of the inputs of a squeeze-excite's first layer, ``[I]``."""
    excite_mean: Tensor | None = None
    """Mean of the inputs of a squeeze-excite's second layer, ``[S]``."""


Statistics = Mapping[int, BlockStatistics]
"""Statistics by the index of the block."""


@torch.no_grad()
def collect(
    network: Network,
    batches: Iterable[Tensor],
    places: Sequence[int],
    pixels: int = PIXELS,
    kernel_pixels: int = KERNEL_PIXELS,
    seed: int = 0,
) -> dict[int, BlockStatistics]:
    """Return the statistics of the blocks ``places`` over ``batches`` of images ``[N, C, H, W]``.

    The images are normalised as the network expects them. In each batch ``pixels`` are sampled for
    covariances, and ``kernel_pixels`` for kernels; over all batches, more pixels should be sampled
    than a block has inner channels. ``places`` are indices of `elastic_places`.
    """
    sampler = PixelSampler(seed)
    sums = {place: BlockSums(sampler, pixels, kernel_pixels) for place in places}
    with evaluating(network), _watching(network, sums):
        for images in batches:
            sampler.batch += 1
            network.blocks[: max(places, default=-1) + 1](images)
    return {place: block_sums.statistics() for place, block_sums in sums.items()}


def elastic_places(network: Network) -> tuple[int, ...]:
    """Return the indices of the blocks that have inner channels or kernels to be made smaller."""
    return tuple(
        place
        for place, block in enumerate(network.blocks)
        if _consumers(block) or _depthwise_layers(block)
    )


def _depthwise_layers(block: nn.Module) -> dict[str, ConvNorm]:
    """Return the depthwise layers with a kernel that can be made smaller, by their names."""
    if not isinstance(block, MBConv | DepthwiseSeparable | ConvNeXtBlock):
        return {}
    layers = {name: layer for name, layer in block.layers.named_children() if name in DEPTHWISE}
    return {
        name: layer
        for name, layer in layers.items()
        if isinstance(layer, ConvNorm) and layer.conv.kernel_size[0] > SMALLEST_KERNEL
    }


def _consumers(block: nn.Module) -> dict[str, nn.Conv2d]:
    """Return the convolutions of a block that consume inner channels, by the names of their layers.

    Convolutions with groups are left out, as their channels are those of their inputs.
    """
    if not isinstance(block, WITH_INNER_CHANNELS):
        return {}
    names = {inner.consumer for inners in INNER.values() for inner in inners}
    layers = {name: layer for name, layer in block.layers.named_children() if name in names}
    convs = {name: layer.conv for name, layer in layers.items() if isinstance(layer, ConvNorm)}
    return {name: conv for name, conv in convs.items() if conv.groups == 1}


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Set the network to evaluation mode, and back on exit."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)


class PixelSampler:
    """Random pixels of the current batch: the same ones for all feature maps of equal size."""

    def __init__(self, seed: int) -> None:
        self.seed, self.batch = seed, -1

    def sample(self, total: int, count: int) -> Tensor:
        """Return up to ``count`` of ``total`` pixels, int64."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.batch)
        return torch.randperm(total, generator=generator)[:count]

    def rows(self, features: Tensor, count: int) -> Tensor:
        """Return sampled pixels of ``features [N, C, H, W]`` as rows ``[n, C]``."""
        pixels = features.permute(0, 2, 3, 1)
        picks = self.sample(pixels.shape[:3].numel(), count)
        height, width = pixels.shape[1:3]
        image, rest = picks // (height * width), picks % (height * width)
        return pixels[image, rest // width, rest % width]


class Moments:
    """Mean and covariance of rows ``[n, C]``, summed in float64 about the first rows' mean."""

    def __init__(self) -> None:
        self.count = 0

    def add(self, rows: Tensor) -> None:
        if self.count == 0:
            channels = rows.shape[1]
            self.shift = rows.mean(0)
            self.sums = rows.new_zeros(channels, dtype=torch.float64)
            self.products = rows.new_zeros(channels, channels, dtype=torch.float64)
        centred = rows - self.shift
        self.count += len(rows)
        self.sums += centred.sum(0)
        self.products += centred.T @ centred

    @property
    def mean(self) -> Tensor:
        """``[C]``, on the CPU."""
        return (self.shift.double() + self.sums / self.count).cpu()

    @property
    def covariance(self) -> Tensor:
        """``[C, C]``, on the CPU."""
        mean = self.sums / self.count
        return (self.products / self.count).addr_(mean, mean, alpha=-1).cpu()


class BlockSums:
    """Sums over the sampled pixels of one block."""

    def __init__(self, sampler: PixelSampler, pixels: int, kernel_pixels: int) -> None:
        self.sampler, self.pixels, self.kernel_pixels = sampler, pixels, kernel_pixels
        self.inputs: dict[str, Moments] = {}
        self.squeeze, self.excite = Moments(), Moments()
        self.grams: dict[str, Tensor] = {}
        self.patches: dict[str, int] = {}

    def watch(self, block: nn.Module) -> Iterator[RemovableHandle]:
        """Add the inputs of the block's layers from now on."""
        for name, conv in _consumers(block).items():
            self.inputs[name] = Moments()
            yield conv.register_forward_pre_hook(partial(self._sample, self.inputs[name]))
        for name, layer in _depthwise_layers(block).items():
            yield layer.conv.register_forward_hook(partial(self._depthwise, name))
        for name, layer in block.get_submodule("layers").named_children():
            if name == "se":
                for part, moments in (("squeeze", self.squeeze), ("excite", self.excite)):
                    hook = partial(_add_pixels, moments)
                    yield layer.get_submodule(part).register_forward_pre_hook(hook)

    def statistics(self) -> BlockStatistics:
        inputs = {
            name: InputStatistics(moments.mean, moments.covariance)
            for name, moments in self.inputs.items()
        }
        grams = {name: (gram / self.patches[name]).cpu() for name, gram in self.grams.items()}
        has_gates = self.squeeze.count > 0
        means = (self.squeeze.mean, self.excite.mean) if has_gates else (None, None)
        return BlockStatistics(inputs, grams, *means)

    def _sample(self, moments: Moments, conv: nn.Module, inputs: tuple[Tensor]) -> None:
        moments.add(self.sampler.rows(inputs[0], self.pixels))

    def _depthwise(
        self, name: str, conv: nn.Module, inputs: tuple[Tensor], outputs: Tensor
    ) -> None:
        assert isinstance(conv, DepthwiseConv2d)
        pixels = self.sampler.sample(outputs[:, 0].numel(), self.kernel_pixels)
        gram = patch_gram(conv, inputs[0], pixels)
        self.grams[name] = self.grams[name] + gram if name in self.grams else gram
        self.patches[name] = self.patches.get(name, 0) + len(pixels)


def _add_pixels(moments: Moments, conv: nn.Module, inputs: tuple[Tensor]) -> None:
    moments.add(inputs[0].transpose(0, 1).flatten(1).T)


@contextmanager
def _watching(network: Network, sums: Mapping[int, BlockSums]) -> Iterator[None]:
    handles = [
        handle
        for place, block_sums in sums.items()
        for handle in block_sums.watch(network.blocks[place])
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
