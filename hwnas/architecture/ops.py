"""Blocks, and the table of operations: all that the package knows about what a block computes.

To add an operation, add a row to `OPS`, its module to `hwnas.nn.blocks.MODULES`, and, where the
compiler does not know a layer of it, its lowering to `hwnas.export.lowering`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Literal, NamedTuple

import msgspec

from hwnas.architecture.kernels import (
    Kernel,
    add,
    conv,
    conv_7x1_1x7,
    depthwise_conv,
    elementwise,
    global_pool,
    pool,
    squeeze_excite,
)
from hwnas.architecture.size import Size, axes, size_of, size_text
from hwnas.errors import UnknownName, UsageError

ACTIVATIONS = ("relu6", "relu", "hswish", "silu")
"""All values of `Block.activation`."""
GROUPS = 2
"""Groups of channels in ``bn_relu_group_conv``."""

_KEY = re.compile(
    r"(\w+) k(\d+) s(\d+) e(\d+(?:\.\d+)?) (\d+)>(\d+) @(\d+)(?:x(\d+))?(?:( se)(\d*)( sigmoid)?)?"
    r"(?: (?!(?:same|int8)\b)(\w+))?( same)?( int8)?",
    re.ASCII,
)


class Block(msgspec.Struct, frozen=True):
    """An operation at one place of a network, with all shapes: what its latency depends on."""

    op: str
    """Name of the operation in `OPS`."""
    in_channels: int
    out_channels: int
    kernel_size: int
    stride: int
    expand_ratio: float
    """Inner over outer channels, to six digits. For ``add`` and ``concat``: the number of inputs,
    see `num_inputs`."""
    in_size: Size
    """Height and width of the input feature map, in pixels: one number where they are equal."""
    activation: str = "relu6"
    """One of `ACTIVATIONS`."""
    squeeze_excite: bool = False
    """Squeeze-excite after the depthwise convolution (``mbconv`` only)."""
    precision: Literal["fp32", "int8"] = "fp32"
    """Precision that the block runs in; only ``int8`` is part of the key."""
    padding: Literal["symmetric", "same"] = "symmetric"
    """Zeros around the input: ``kernel_size // 2`` on each side, or TensorFlow's SAME, see
    `same_padding`. It is ``symmetric`` where both are equal at every size."""
    gate: Literal["hardsigmoid", "sigmoid"] = "hardsigmoid"
    """Last function of the squeeze-excite."""
    squeezed: int = 0
    """Channels of the squeeze-excite bottleneck; 0 for the usual number, see `se_channels`."""

    def __post_init__(self) -> None:
        # blocks that compute the same are equal, and have the same key
        self._set("in_size", size_of(*axes(self.in_size)))
        self._set("expand_ratio", float(f"{self.expand_ratio:g}"))  # six digits, as in the key
        if self.padding == "same" and self.stride == 1 and self.kernel_size % 2:
            self._set("padding", "symmetric")
        if not self.squeeze_excite:
            self._set("gate", "hardsigmoid")
            self._set("squeezed", 0)
        elif self.squeezed and self.squeezed == _usual_se_channels(self):
            self._set("squeezed", 0)

    def _set(self, field: str, value: object) -> None:
        now = getattr(self, field)
        if now != value or type(now) is not type(value):  # 1 and 1.0 are different texts in JSON
            msgspec.structs.force_setattr(self, field, value)

    @property
    def key(self) -> str:
        """Name of the block's row in a latency table, e.g. ``mbconv k5 s2 e6 32>64 @56``."""
        return (
            f"{self.op} k{self.kernel_size} s{self.stride} e{self.expand_ratio:g} "
            f"{self.in_channels}>{self.out_channels} @{size_text(self.in_size)}{self._flags}"
        )

    @property
    def _flags(self) -> str:
        """Return what the key states only where it differs from the default."""
        flags = ""
        if self.squeeze_excite:
            flags += f" se{self.squeezed or ''}" + (" sigmoid" if self.gate == "sigmoid" else "")
        if self.activation != "relu6":
            flags += f" {self.activation}"
        if self.padding == "same":
            flags += " same"
        return flags + (" int8" if self.precision == "int8" else "")

    @classmethod
    def from_key(cls, key: str) -> Block:
        """Return the block that ``key`` names. Raises `UsageError` for what is not a block key."""
        match = _KEY.fullmatch(key)
        if match is None:
            raise UsageError(
                f"{key!r} is not a block key, expected e.g. 'mbconv k5 s2 e6 32>64 @56' "
                "(operation, kernel, stride, expansion, channels, input size)"
            )
        op, kernel, stride, expand, c_in, c_out, height, width, *flags = match.groups()
        se, squeezed, sigmoid, activation, same, int8 = flags
        return cls(
            op,
            int(c_in),
            int(c_out),
            int(kernel),
            int(stride),
            float(expand),
            size_of(int(height), int(width or height)),
            activation=activation or "relu6",
            squeeze_excite=se is not None,
            precision="fp32" if int8 is None else "int8",
            padding="symmetric" if same is None else "same",
            gate="hardsigmoid" if sigmoid is None else "sigmoid",
            squeezed=int(squeezed or 0),
        )

    @property
    def spec(self) -> Op:
        """The operation's row in the table. Raises `UnknownName`."""
        if self.op not in OPS:
            raise UnknownName("operation", self.op, OPS)
        return OPS[self.op]

    @property
    def is_free(self) -> bool:
        """Whether the block computes nothing: no row in a latency table, nothing in a file."""
        return not self.spec.layers

    @property
    def num_inputs(self) -> int:
        """How many feature maps the block takes."""
        return int(self.expand_ratio) if self.spec.joins_inputs else 1

    @property
    def in_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the input."""
        return (self.in_channels, *axes(self.in_size))

    @property
    def out_size(self) -> Size:
        """Height and width of the output feature map, in pixels; 1 after a global pool."""
        if self.spec.pools_globally:
            return 1
        height, width = axes(self.in_size)
        return size_of(self._out_pixels(height), self._out_pixels(width))

    def _out_pixels(self, pixels: int) -> int:
        """Return the length of the output along an axis."""
        if self.padding == "same":
            return -(-pixels // self.stride)
        unpadded = 1 - self.kernel_size % 2  # an even kernel has no symmetric padding
        return (pixels - 1 - unpadded * (self.kernel_size - 1)) // self.stride + 1

    @property
    def mid_channels(self) -> int:
        """Channels between the first and the last convolution."""
        outer = self.growth if self.spec.appends_channels else self.in_channels
        return int(outer * self.expand_ratio + 0.5)

    @property
    def growth(self) -> int:
        """Channels that a ``dense_layer`` appends to its input."""
        return self.out_channels - self.in_channels

    @property
    def se_channels(self) -> int:
        """Channels of the squeeze-excite bottleneck: unless ``squeezed`` is given, a quarter of its
        input, rounded to 8."""
        return self.squeezed or _usual_se_channels(self)

    @property
    def residual(self) -> bool:
        """Whether the block adds its input itself to its output."""
        same_shape = self.stride == 1 and self.in_channels == self.out_channels
        return same_shape and self.spec.has_shortcut

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """The kernels that a runtime starts for the block, in order."""
        return _kernels(self)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one image."""
        return sum(kernel.macs for kernel in self.kernels)

    @property
    def params(self) -> int:
        """Number of trained parameters."""
        return sum(kernel.params for kernel in self.kernels)


def same_padding(size: int, kernel_size: int, stride: int) -> tuple[int, int]:
    """Return the pixels before and after an axis of ``size`` pixels in TensorFlow's SAME.

    As few as give ``ceil(size / stride)`` outputs; of an odd number, the extra pixel is after.
    """
    total = max((-(-size // stride) - 1) * stride + kernel_size - size, 0)
    return total // 2, total - total // 2


def _usual_se_channels(block: Block) -> int:
    return round_channels(block.mid_channels / 4)


def round_channels(channels: float, divisor: int = 8) -> int:
    """Round half up to a multiple of ``divisor``, never more than 10 % below ``channels``."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


Layer = Callable[[Block], list[Kernel]]
"""The kernels of one layer of a block, or of several layers."""


class Op(NamedTuple):
    """What an operation is, whatever its shapes."""

    label: str
    """Name in the legend of a drawing."""
    layers: tuple[Layer, ...]
    """Its layers in order; MACs, parameters and kernels of a block follow from them."""
    has_shortcut: bool = False
    """Adds its input to its output where both have the same shape, see `Block.residual`."""
    pools_globally: bool = False
    """Leaves a single pixel."""
    joins_inputs: bool = False
    """Takes several inputs, each of ``in_channels``."""
    appends_channels: bool = False
    """Returns its input followed by `Block.growth` new channels."""
    can_pad_same: bool = False
    """Computes blocks with the padding ``same``."""


@lru_cache(maxsize=1 << 16)
def _kernels(block: Block) -> tuple[Kernel, ...]:
    return tuple(kernel for layer in block.spec.layers for kernel in layer(block))


def _conv(block: Block, groups: int = 1, norm: bool = True) -> list[Kernel]:
    return [
        conv(
            block.in_channels,
            block.out_channels,
            block.in_size,
            block.kernel_size,
            block.stride,
            groups,
            block.activation,
            norm,
        )
    ]


def _bare_conv(block: Block) -> list[Kernel]:
    return _conv(block, norm=False)


def _group_conv(block: Block) -> list[Kernel]:
    return _conv(block, GROUPS, norm=False)


def _first_norm(block: Block) -> list[Kernel]:
    """Return a batch norm of the input, which no convolution precedes."""
    return [elementwise(block.in_channels, block.in_size, norm=True)]


def _relu(block: Block) -> list[Kernel]:
    """Return a ReLU of the input."""
    return [elementwise(block.in_channels, block.in_size)]


def _norm(block: Block) -> list[Kernel]:
    """Return a batch norm of the output, which no convolution precedes."""
    return [elementwise(block.out_channels, block.out_size, norm=True)]


def _copy(block: Block) -> list[Kernel]:
    return [elementwise(block.out_channels, block.out_size)]


def _pool(block: Block) -> list[Kernel]:
    return [pool(block.out_channels, block.in_size, block.out_size, block.kernel_size)]


def _global_pool(block: Block) -> list[Kernel]:
    return [global_pool(block.in_channels, block.in_size)]


def _pool_to_pixel(block: Block) -> list[Kernel]:
    """Return a global pool, which is left out where there is a single pixel already."""
    return _global_pool(block) if block.in_size != 1 else []


def _pointwise(block: Block, bias: bool = False) -> list[Kernel]:
    """Return a 1x1 convolution of a single pixel."""
    linear = conv(block.in_channels, block.out_channels, 1, activation=block.activation, norm=False)
    return [linear._replace(norm_params=block.out_channels if bias else 0)]


def _linear(block: Block) -> list[Kernel]:
    return _pointwise(block, bias=True)


def _add(block: Block) -> list[Kernel]:
    return [add(block.out_channels, block.out_size)] * (block.num_inputs - 1)


def _shortcut(block: Block) -> list[Kernel]:
    return [add(block.out_channels, block.out_size)] if block.residual else []


def _mbconv(block: Block) -> list[Kernel]:
    mid, act, size = block.mid_channels, block.activation, block.in_size
    kernels: list[Kernel] = []
    if block.expand_ratio != 1:
        kernels.append(conv(block.in_channels, mid, size, activation=act))
    kernels.append(depthwise_conv(mid, size, block.kernel_size, block.stride, act))
    if block.squeeze_excite:
        kernels += squeeze_excite(mid, block.se_channels, block.out_size)
    return [*kernels, conv(mid, block.out_channels, block.out_size)]


def _fused_mbconv(block: Block) -> list[Kernel]:
    if block.expand_ratio == 1:
        return _conv(block)
    c_in, mid, act = block.in_channels, block.mid_channels, block.activation
    return [
        conv(c_in, mid, block.in_size, block.kernel_size, block.stride, activation=act),
        conv(mid, block.out_channels, block.out_size),
    ]


def _basic(block: Block) -> list[Kernel]:
    c_in, mid, kernel_size, act = (
        block.in_channels,
        block.mid_channels,
        block.kernel_size,
        block.activation,
    )
    return [
        conv(c_in, mid, block.in_size, kernel_size, block.stride, activation=act),
        conv(mid, block.out_channels, block.out_size, kernel_size),
    ]


def _bottleneck(block: Block) -> list[Kernel]:
    mid, size, act = block.mid_channels, block.in_size, block.activation
    return [
        conv(block.in_channels, mid, size, activation=act),
        conv(mid, mid, size, block.kernel_size, block.stride, activation=act),
        conv(mid, block.out_channels, block.out_size),
    ]


def _sum(block: Block) -> list[Kernel]:
    """Return the addition of the input, behind a 1x1 convolution where the shapes differ."""
    total = add(block.out_channels, block.out_size, block.activation)
    if block.residual:
        return [total]
    shortcut = conv(block.in_channels, block.out_channels, block.in_size, 1, block.stride)
    return [shortcut, total]


def _separable(
    block: Block, stride: int, in_size: Size, out_channels: int, norm: bool = True
) -> list[Kernel]:
    """Return a depthwise and a 1x1 convolution."""
    c_in, act = block.in_channels, block.activation
    return [
        depthwise_conv(c_in, in_size, block.kernel_size, stride, act, norm=False),
        conv(c_in, out_channels, block.out_size, activation=act, norm=norm),
    ]


def _sep_conv(block: Block) -> list[Kernel]:
    return [
        *_separable(block, block.stride, block.in_size, block.in_channels),
        *_separable(block, 1, block.out_size, block.out_channels),
    ]


def _dil_conv(block: Block) -> list[Kernel]:
    return _separable(block, block.stride, block.in_size, block.out_channels)


def _bare_separable(block: Block) -> list[Kernel]:
    return _separable(block, block.stride, block.in_size, block.out_channels, norm=False)


def _conv_7x1_1x7(block: Block) -> list[Kernel]:
    return conv_7x1_1x7(block.in_channels, block.out_channels, block.in_size, block.out_size)


def _half_convs(block: Block) -> list[Kernel]:
    """Return two 1x1 convolutions, each to half of the channels."""
    half = block.out_channels // 2
    return [
        conv(block.in_channels, c_out, block.in_size, 1, block.stride, 1, block.activation)
        for c_out in (half, block.out_channels - half)
    ]


def _dense_bottleneck(block: Block) -> list[Kernel]:
    mid, size, act = block.mid_channels, block.in_size, block.activation
    return [
        conv(block.in_channels, mid, size, activation=act),
        conv(mid, block.growth, size, block.kernel_size, activation=act, norm=False),
    ]


def _narrowing(block: Block) -> list[Kernel]:
    """Return a 1x1 convolution at the size of the input."""
    c_out, act = block.out_channels, block.activation
    return [conv(block.in_channels, c_out, block.in_size, activation=act, norm=False)]


OPS: dict[str, Op] = {
    # mobile networks
    "conv": Op("convolution", (_conv,), can_pad_same=True),
    "mbconv": Op(
        "MBConv (expand, depthwise, project)",
        (_mbconv, _shortcut),
        has_shortcut=True,
        can_pad_same=True,
    ),
    "fused_mbconv": Op(
        "fused MBConv", (_fused_mbconv, _shortcut), has_shortcut=True, can_pad_same=True
    ),
    "identity": Op("skip", ()),
    # ResNet
    "basic": Op("basic residual block", (_basic, _sum), has_shortcut=True),
    "bottleneck": Op("bottleneck (1x1, kxk, 1x1)", (_bottleneck, _sum), has_shortcut=True),
    # before the classifier of MobileNetV3: of Once-for-all, and with a bias of torchvision
    "mix": Op("pool and 1x1 convolution", (_pool_to_pixel, _pointwise), pools_globally=True),
    "hidden": Op("pool and hidden linear layer", (_pool_to_pixel, _linear), pools_globally=True),
    "logits": Op("pool and linear", (_pool_to_pixel, _linear), pools_globally=True),
    # cells of DARTS: ReLU comes first; `none` is zeros in the shape of the output
    "conv_bn": Op("convolution", (_conv,)),
    "relu_conv_bn": Op("ReLU, convolution", (_relu, _conv)),
    # the skip with stride 2, also between cells of different size
    "factorized_reduce": Op("ReLU, two shifted 1x1 convolutions", (_relu, _half_convs, _copy)),
    "sep_conv": Op("separable convolution, twice", (_relu, _sep_conv)),
    "dil_conv": Op("separable convolution with dilation 2", (_relu, _dil_conv)),
    "conv_7x1_1x7": Op("ReLU, 1x7 and 7x1 convolution", (_relu, _conv_7x1_1x7)),
    "max_pool": Op("max pool", (_pool,), can_pad_same=True),
    "avg_pool": Op("average pool", (_pool,)),
    "max_pool_bn": Op("max pool, norm", (_pool, _norm)),
    "avg_pool_bn": Op("average pool, norm", (_pool, _norm)),
    "identity_bn": Op("norm only", (_norm,)),
    "none": Op("zeros", ()),
    "add": Op("add", (_add,), joins_inputs=True),
    "concat": Op("concatenate", (_copy,), joins_inputs=True),
    # plain and densely connected networks
    "bare_conv": Op("convolution only", (_bare_conv,)),
    "dense_layer": Op(
        "dense layer (concatenates its input)",
        (_first_norm, _relu, _dense_bottleneck, _copy),
        appends_channels=True,
    ),
    "transition": Op("transition (1x1 convolution, pool)", (_first_norm, _relu, _narrowing, _pool)),
    "global_pool": Op("global pool", (_global_pool,), pools_globally=True),
    "norm_logits": Op(
        "norm, pool and linear", (_first_norm, _relu, _pool_to_pixel, _linear), pools_globally=True
    ),
    # cells of trees (`hwnas.spaces.tree.space`): the name lists the layers in order
    "bn_conv": Op("norm, convolution", (_first_norm, _bare_conv)),
    "bn_relu_conv_bn": Op("norm, convolution, norm", (_first_norm, _relu, _conv)),
    # a shuffle of the groups' channels comes last
    "bn_relu_group_conv": Op("norm, group convolution", (_first_norm, _relu, _group_conv, _copy)),
    "bn_relu_sep_conv": Op("norm, separable convolution", (_first_norm, _relu, _bare_separable)),
    "bn_relu_dil_conv": Op(
        "norm, separable convolution with dilation 2", (_first_norm, _relu, _bare_separable)
    ),
    "first_half": Op("first half of the channels", (_copy,)),
    "second_half": Op("second half of the channels", (_copy,)),
    "pad_channels": Op("zero channels appended", (_copy,)),
}
"""All operations by name, the values of `Block.op`."""
