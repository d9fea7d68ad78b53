"""Weights of the smaller networks in a trained network, in closed form from its statistics.

A member has the same chain of blocks, of which some are skipped, have fewer inner channels, a
smaller kernel, or both. Its weights are the trained network's own, except for what
`hwnas.nn.elastic.projection` and `hwnas.nn.elastic.kernel` solve again. Blocks that were trained at
smaller widths and kernels are sliced instead (`hwnas.nn.elastic.slices`).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import torch
from torch import Tensor, nn

from hwnas.architecture.architecture import Block
from hwnas.errors import UsageError
from hwnas.nn.elastic.channels import Inner, inner_channels, select_inner, strongest_gates
from hwnas.nn.elastic.kernel import crop_kernel, cut_kernel
from hwnas.nn.elastic.projection import cut_projection, elimination_order, mean_shift
from hwnas.nn.elastic.slices import NO_SLICES, TrainedSlices, slice_kernel, slice_width
from hwnas.nn.elastic.statistics import SMALLEST_KERNEL, BlockStatistics, Statistics
from hwnas.nn.growth.transforms import strongest
from hwnas.nn.network import Network

Weights = dict[str, Tensor]
"""A state dict, or that of one block."""

SQUEEZE, EXCITE = "layers.se.squeeze", "layers.se.excite"


def member_weights(
    network: Network,
    blocks_from: Sequence[Block],
    blocks_to: Sequence[Block],
    statistics: Statistics,
) -> Weights:
    """Return the state dict of the network of ``blocks_to``, a member of ``network``.

    ``blocks_from`` are the blocks of ``network``. For many members of a network use
    `ClosedForms`, which solves each cut of a block once.
    """
    return ClosedForms(network, blocks_from, statistics).member(blocks_to)


class ClosedForms:
    """All members of a trained network; a cut of a block is solved when a member first needs it."""

    def __init__(
        self,
        network: Network,
        blocks: Sequence[Block],
        statistics: Statistics,
        slices: TrainedSlices = NO_SLICES,
    ) -> None:
        """Take the weights of ``network``, whose blocks are ``blocks``, by reference on the CPU.

        A block without statistics is cut by its weights alone: its channels are sorted by the L1
        norm of the projection, its kernel is cropped. ``slices`` are the blocks that were trained
        to be sliced.
        """
        self.network, self.blocks, self.statistics = network, tuple(blocks), statistics
        self.slices = slices
        self._weights = [_state(block) for block in network.blocks]
        self._orders: dict[tuple[int, str], Tensor] = {}
        self._cuts: dict[tuple[int, ...], Weights] = {}

    def member(self, blocks: Sequence[Block]) -> Weights:
        """Return the state dict of the network of ``blocks``.

        Tensors that are not cut are the trained network's own. Raises `UsageError` for blocks that
        are not a member.
        """
        if len(blocks) != len(self.blocks):
            raise UsageError(
                f"a member of a network of {len(self.blocks)} blocks has as many, not {len(blocks)}"
            )
        return {
            f"blocks.{place}.{name}": value
            for place, block in enumerate(blocks)
            for name, value in self.block(place, block).items()
        }

    def block(self, place: int, block: Block) -> Weights:
        """Return the state dict of the block at index ``place`` as ``block``."""
        old = self.blocks[place]
        check_cut(place, old, block)
        if block.op == "identity":
            return {}
        if not is_cut(old, block):
            return self._weights[place]
        key = (place, *_kernels(block).values(), block.mid_channels, block.se_channels)
        if key not in self._cuts:
            self._cuts[key] = self._cut(place, block)
        return self._cuts[key]

    def order(self, place: int, inner: Inner) -> Tensor:
        """Return the inner channels of the block at ``place``, int64 ``[I]``, most useful first."""
        key = place, inner.consumer
        if key not in self._orders:
            gain = output_gain(self.network.blocks[place], inner.consumer).cpu()
            kernel = self._weights[place][f"layers.{inner.consumer}.conv.weight"]
            scaled = _rows(kernel * gain[:, None, None, None])
            covariance = self.statistics[place].inputs[inner.consumer].covariance
            group_width = self.blocks[place].group_width or 1
            self._orders[key] = elimination_order(scaled, covariance, group_width)
        return self._orders[key]

    def channels(self, place: int, width: int, inner: Inner) -> Tensor:
        """Return the ``width`` inner channels that remain at ``place``, ascending int64."""
        if place in self.slices:
            return torch.arange(width)
        if place not in self.statistics:
            kernel = self._weights[place][f"layers.{inner.consumer}.conv.weight"]
            return strongest(kernel.transpose(0, 1), width, self.blocks[place].group_width or 1)
        return self.order(place, inner)[:width].sort().values

    def _cut(self, place: int, block: Block) -> Weights:
        weights, statistics = dict(self._weights[place]), self.statistics.get(place)
        matrices = self.slices.get(place, {})
        for layer, kernel_size in _kernels(block).items():
            if kernel_size >= _kernels(self.blocks[place])[layer]:
                continue
            if kernel_size in matrices:
                gram = None if statistics is None else statistics.grams[layer]
                slice_kernel(weights, f"layers.{layer}", kernel_size, matrices, gram)
            else:
                reduce_kernel(weights, layer, kernel_size, statistics)
        if block.mid_channels < self.blocks[place].mid_channels:
            for inner in inner_channels(self.blocks[place]):
                self._reduce(place, block, inner, weights)
        return weights

    def _reduce(self, place: int, block: Block, inner: Inner, weights: Weights) -> None:
        """Reduce ``weights`` to the width that ``block`` has of ``inner``."""
        statistics, gates = self.statistics.get(place), block.se_channels
        channels = self.channels(place, block.mid_channels, inner)
        if place in self.slices:
            moments = None if statistics is None else statistics.inputs[inner.consumer]
            slice_width(weights, inner, channels, gates, moments)
        else:
            reduce_width(weights, inner, channels, gates, statistics)


def _kernels(block: Block) -> dict[str, int]:
    """Return the kernel sizes of the depthwise layers of a block by the layers' names."""
    return {"start": block.start_kernel_size, "depthwise": block.kernel_size}


def reduce_kernel(
    weights: Weights, layer: str, kernel_size: int, statistics: BlockStatistics | None
) -> None:
    """Reduce the kernel of a depthwise ``layer`` of a block in its ``weights``.

    Without statistics, crop it.
    """
    name = f"layers.{layer}.conv.weight"
    kernel = weights[name]
    if statistics is None or layer not in statistics.grams:
        weights[name] = crop_kernel(kernel, kernel_size)
        return
    smaller, intercept = cut_kernel(kernel, statistics.grams[layer], kernel_size)
    weights[name] = smaller.to(kernel.dtype)
    shift_mean(weights, f"layers.{layer}", -intercept)


def reduce_width(
    weights: Weights,
    inner: Inner,
    channels: Tensor,
    gates: int,
    statistics: BlockStatistics | None,
) -> None:
    """Reduce a block to ``channels [K]`` of ``inner``, its squeeze-excite to ``gates`` channels.

    Without statistics all weights that remain keep their values. A squeeze-excite keeps its
    ``gates`` strongest channels, and its biases compensate for the means of the removed inputs.
    """
    layer = f"layers.{inner.consumer}"
    kernel = weights[f"{layer}.conv.weight"]
    strong = strongest_gates(weights, "layers", gates)
    if statistics is not None and strong is not None:
        _keep_mean(weights, SQUEEZE, channels, statistics.squeeze_mean)
        _keep_mean(weights, EXCITE, strong, statistics.excite_mean)
    select_inner(weights, "layers", inner, channels, strong)
    if statistics is not None:
        mean, covariance = statistics.inputs[inner.consumer]
        cut = cut_projection(_rows(kernel), covariance, channels)
        shift = mean_shift(_rows(kernel), cut, mean, channels)
        weights[f"{layer}.conv.weight"] = _kernel(cut, kernel).to(kernel.dtype)
        shift_mean(weights, layer, shift.view(-1, len(kernel)).sum(0))


def _rows(kernel: Tensor) -> Tensor:
    """Return ``kernel [O, I, k, k]`` as a projection of each tap, ``[k * k * O, I]``."""
    return kernel.permute(2, 3, 0, 1).flatten(0, 2)


def _kernel(rows: Tensor, like: Tensor) -> Tensor:
    """Return the kernel ``[O, K, k, k]`` of a projection of each tap, with the taps of ``like``."""
    outputs, _, height, width = like.shape
    return rows.view(height, width, outputs, -1).permute(2, 3, 0, 1).contiguous()


def _keep_mean(weights: Weights, layer: str, inputs: Tensor, mean: Tensor | None) -> None:
    """Add to the bias of a 1x1 convolution what all but ``inputs`` contribute on average."""
    assert mean is not None
    weight, bias = weights[f"{layer}.weight"].flatten(1).double(), weights[f"{layer}.bias"]
    lost = weight @ mean - weight[:, inputs] @ mean[inputs]
    weights[f"{layer}.bias"] = (bias + lost).to(bias.dtype)


def output_gain(block: nn.Module, layer: str) -> Tensor:
    """Return the factors ``[O]`` by which the batch norm of a layer multiplies its inputs."""
    norm = block.get_submodule(f"layers.{layer}.norm")
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None
    return (norm.weight / (norm.running_var + norm.eps).sqrt()).detach()


def shift_mean(weights: Weights, layer: str, by: Tensor) -> None:
    """Add ``by [C]`` to the running mean of a layer's batch norm."""
    name = f"{layer}.norm.running_mean"
    weights[name] = (weights[name] + by).to(weights[name].dtype)


def check_cut(place: int, old: Block, new: Block) -> None:
    """Raise `UsageError` unless ``new`` can be cut from ``old``, which is at index ``place``."""
    if new.op == "identity" and (old.residual or old.op == "identity"):
        return
    same_but_size = msgspec.structs.replace(
        new,
        kernel_size=old.kernel_size,
        start_kernel_size=old.start_kernel_size,
        expand_ratio=old.expand_ratio,
        in_size=old.in_size,
        precision=old.precision,
        squeezed=old.squeezed,
        group_width=old.group_width,
    )
    wider = new.mid_channels > old.mid_channels or new.se_channels > old.se_channels
    if (
        same_but_size != old
        or wider
        or not _keeps_groups(old, new)
        or (new.mid_channels < old.mid_channels and not _can_be_narrower(old, new))
        or not _can_have_kernels(old, new)
    ):
        raise UsageError(
            f"block {place} ({old.label}) cannot be cut to {new.label}: expected its shape with "
            "fewer inner channels, a smaller depthwise kernel, or a skip in place of a block with "
            "a shortcut"
        )


def _can_be_narrower(old: Block, new: Block) -> bool:
    return old.has_inner_channels and new.has_inner_channels and new.mid_channels > 0


def _keeps_groups(old: Block, new: Block) -> bool:
    """Return whether each group of the kxk convolution that remains is whole."""
    is_single = not new.group_width and new.mid_channels == old.group_width
    whole = not old.group_width or new.mid_channels % old.group_width == 0
    return whole and (new.group_width == old.group_width or is_single)


def _can_have_kernels(old: Block, new: Block) -> bool:
    pairs = zip(_kernels(old).values(), _kernels(new).values(), strict=True)
    return all(
        size == smaller
        or (old.spec.has_depthwise and SMALLEST_KERNEL <= smaller < size and smaller % 2 == 1)
        for size, smaller in pairs
    )


def is_cut(old: Block, new: Block) -> bool:
    """Return whether ``new`` has other weights than ``old``."""
    fields = ("op", "kernel_size", "start_kernel_size", "mid_channels")
    return any(getattr(old, name) != getattr(new, name) for name in fields)


def _state(block: nn.Module) -> Weights:
    return {name: value.detach().cpu() for name, value in block.state_dict().items()}
