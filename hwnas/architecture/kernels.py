"""The kernels that a runtime starts for an operation, and what each computes and moves.

MACs count convolutions and linear layers (1 MAC = 2 FLOPs); batch norm, activations, pooling and
additions count nothing. These are the counting rules of the published ProxylessNAS and
Once-for-all figures. A batch norm behind a convolution is folded into its weights; any other one
is a kernel of its own.
"""

from __future__ import annotations

from typing import NamedTuple

from hwnas.architecture.size import Size, area, axes, strided

WIDE_KERNEL_SIZE = 7
"""Some runtimes have fast depthwise kernels up to 5x5 only: a 7x7 one takes 26 times as long in
LiteRT."""
SMOOTH_ACTIVATIONS = ("hswish", "silu", "gelu")


class Kernel(NamedTuple):
    """The cost of one kernel for one image, in amounts that add up over kernels."""

    dense_macs: int = 0
    depthwise_macs: int = 0
    wide_depthwise_macs: int = 0
    """MACs of depthwise convolutions with a kernel size of at least `WIDE_KERNEL_SIZE`."""
    elements: int = 0
    """Elements of feature maps that are read or written."""
    weights: int = 0
    """Weights that are read."""
    window_elements: int = 0
    """Elements that pooling windows read."""
    gate_elements: int = 0
    """Elements that squeeze-excite reads or scales."""
    hswish_elements: int = 0
    """Elements of an h-swish, SiLU or GELU, which cost more than a ReLU."""
    norm_params: int = 0
    """Parameters beside the weights: two per channel of a batch norm, or biases. They cost no
    time."""

    @property
    def macs(self) -> int:
        return self.dense_macs + self.depthwise_macs + self.wide_depthwise_macs

    @property
    def params(self) -> int:
        return self.weights + self.norm_params


def conv(
    in_channels: int,
    out_channels: int,
    in_size: Size,
    kernel_size: int = 1,
    stride: int = 1,
    groups: int = 1,
    activation: str = "",
    norm: bool = True,
    out_size: Size | None = None,
) -> Kernel:
    """Return a convolution, or with ``in_size`` 1 a linear layer without bias.

    ``out_size`` is given where the padding does not follow from the kernel.
    """
    pixels = area(strided(in_size, stride) if out_size is None else out_size)
    weights = kernel_size**2 * in_channels * out_channels // groups
    return Kernel(
        dense_macs=pixels * weights,
        elements=area(in_size) * in_channels + pixels * out_channels,
        weights=weights,
        hswish_elements=pixels * out_channels if activation in SMOOTH_ACTIVATIONS else 0,
        norm_params=2 * out_channels if norm else 0,
    )


def depthwise_conv(
    channels: int,
    in_size: Size,
    kernel_size: int,
    stride: int = 1,
    activation: str = "",
    norm: bool = True,
) -> Kernel:
    pixels = area(strided(in_size, stride))
    weights = kernel_size**2 * channels
    macs, wide = pixels * weights, kernel_size >= WIDE_KERNEL_SIZE
    return Kernel(
        depthwise_macs=0 if wide else macs,
        wide_depthwise_macs=macs if wide else 0,
        elements=(area(in_size) + pixels) * channels,
        weights=weights,
        hswish_elements=pixels * channels if activation in SMOOTH_ACTIVATIONS else 0,
        norm_params=2 * channels if norm else 0,
    )


def conv_7x1_1x7(
    in_channels: int, out_channels: int, in_size: Size, out_size: Size
) -> list[Kernel]:
    """Return a 1x7 convolution that strides over the width, and a 7x1 one over the height."""
    weights, pixels = 7 * in_channels * out_channels, axes(in_size)[0] * axes(out_size)[1]
    return [
        Kernel(pixels * weights, elements=(area(in_size) + pixels) * in_channels, weights=weights),
        Kernel(
            area(out_size) * weights,
            elements=pixels * in_channels + area(out_size) * out_channels,
            weights=weights,
            norm_params=2 * out_channels,
        ),
    ]


def squeeze_excite(channels: int, squeezed: int, size: Size) -> list[Kernel]:
    """Return global pool, two linear layers with biases, and the scaling of ``channels``."""
    weights, elements = channels * squeezed, area(size) * channels
    return [
        Kernel(elements=elements, gate_elements=elements),
        Kernel(weights, weights=weights, norm_params=squeezed),
        Kernel(weights, weights=weights, norm_params=channels),
        Kernel(elements=2 * elements, gate_elements=elements),
    ]


def pool(channels: int, in_size: Size, out_size: Size, kernel_size: int) -> Kernel:
    outputs = area(out_size) * channels
    return Kernel(
        elements=area(in_size) * channels + outputs, window_elements=outputs * kernel_size**2
    )


def global_pool(channels: int, in_size: Size) -> Kernel:
    return Kernel(elements=area(in_size) * channels)


def elementwise(channels: int, size: Size, norm: bool = False) -> Kernel:
    """Return a kernel that reads and writes each element once: an activation, norm or copy."""
    return Kernel(elements=2 * area(size) * channels, norm_params=2 * channels if norm else 0)


def add(channels: int, size: Size, activation: str = "") -> Kernel:
    """Return the addition of two feature maps."""
    elements = area(size) * channels
    smooth = activation in SMOOTH_ACTIVATIONS
    return Kernel(elements=3 * elements, hswish_elements=elements if smooth else 0)
