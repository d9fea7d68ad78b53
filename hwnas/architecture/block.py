"""Blocks: an operation with all its shapes, and the key of its row in a latency table."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal

import msgspec

from hwnas.architecture.kernels import Kernel
from hwnas.architecture.ops import OPS, Op
from hwnas.architecture.piece.shapes import ends_in_shortcut, value_shapes
from hwnas.architecture.piece.steps import SEPARATOR, steps_of
from hwnas.architecture.size import Size, axes, size_of, size_text
from hwnas.errors import UnknownName, UsageError

ACTIVATIONS = ("relu6", "relu", "hswish", "silu", "gelu")
"""All values of `Block.activation`."""

PIECE_SIGN = " = "
_KEY = re.compile(
    r"(\w+) k(\d+) s(\d+) e(\d+(?:\.\d+)?) (\d+)>(\d+) @(\d+)(?:x(\d+))?(?: g(\d+))?"
    r"(?: a(\d+))?(?:( se)(\d*)( sigmoid)?)?"
    r"(?: (?!(?:same|pad\d+|int8)\b)(\w+))?(?:( same)| pad(\d+))?( int8)?",
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
    """Squeeze-excite after the kxk convolution of operations that have one, see `Op.can_gate`, or
    at the end of the branch, see `Op.gates_output`."""
    precision: Literal["fp32", "int8"] = "fp32"
    """Precision that the block runs in; only ``int8`` is part of the key."""
    padding: Literal["symmetric", "same"] | int = "symmetric"
    """Zeros around the input: ``kernel_size // 2`` on each side (none for an even kernel),
    TensorFlow's SAME, see `same_padding`, or a number of pixels on each side. It is ``symmetric``
    where that is equal at every size."""
    gate: Literal["hardsigmoid", "sigmoid"] = "hardsigmoid"
    """Last function of the squeeze-excite."""
    squeezed: int = 0
    """Channels of the squeeze-excite bottleneck; 0 for the usual number, see `se_channels`."""
    group_width: int = 0
    """Channels of a group of the kxk convolution (``bottleneck`` only); 0 for a single group."""
    start_kernel_size: int = 0
    """Kernel of the depthwise convolution before the expansion (``uib`` only, where
    ``kernel_size`` 1 stands for no depthwise convolution after it)."""
    piece: str = ""
    """The layers of a fixed piece (``piece`` only), see `hwnas.architecture.piece.steps`. Such a
    block has no kernel size, stride, activation and the like of its own: they are the defaults."""

    def __post_init__(self) -> None:
        # blocks that compute the same are equal, and have the same key
        if self.op == "piece" or self.piece:
            self._check_piece()
        self._set("in_size", size_of(*axes(self.in_size)))
        self._set("expand_ratio", float(f"{self.expand_ratio:g}"))  # six digits, as in the key
        if self.padding == "same" and self.stride == 1 and self.kernel_size % 2:
            self._set("padding", "symmetric")
        if self.padding == symmetric_padding_px(self.kernel_size):
            self._set("padding", "symmetric")
        if not self.squeeze_excite:
            self._set("gate", "hardsigmoid")
            self._set("squeezed", 0)
        elif self.squeezed and self.squeezed == _usual_se_channels(self):
            self._set("squeezed", 0)
        if self.group_width and self.group_width == self.mid_channels:
            self._set("group_width", 0)

    def _check_piece(self) -> None:
        """Raise `UsageError` for layers that are no piece, or of another operation."""
        if self.op != "piece":
            raise UsageError(f"{self.op!r} lists layers, {self.piece!r}; only 'piece' has them")
        steps_of(self.piece)
        for field, value in _OF_A_PIECE.items():
            self._set(field, value)

    def _set(self, field: str, value: object) -> None:
        now = getattr(self, field)
        if now != value or type(now) is not type(value):  # 1 and 1.0 are different texts in JSON
            msgspec.structs.force_setattr(self, field, value)

    @property
    def key(self) -> str:
        """Name of the block's row in a latency table, e.g. ``mbconv k5 s2 e6 32>64 @56``.

        The layers of a fixed piece follow behind an equals sign.
        """
        return self._shapes + (f"{PIECE_SIGN}{self.piece}" if self.piece else "")

    @property
    def label(self) -> str:
        """What people are shown: the key, with the number of layers of a fixed piece instead."""
        if not self.piece:
            return self.key
        count = self.piece.count(SEPARATOR) + 1
        return f"{self._shapes} ({count} layer{'s' if count > 1 else ''})"

    @property
    def _shapes(self) -> str:
        return (
            f"{self.op} k{self.kernel_size} s{self.stride} e{self.expand_ratio:g} "
            f"{self.in_channels}>{self.out_channels} @{size_text(self.in_size)}{self._flags}"
        )

    @property
    def _flags(self) -> str:
        """Return the parts of the key that are stated only where they differ from the default."""
        flags = f" g{self.group_width}" if self.group_width else ""
        if self.start_kernel_size:
            flags += f" a{self.start_kernel_size}"
        if self.squeeze_excite:
            flags += f" se{self.squeezed or ''}" + (" sigmoid" if self.gate == "sigmoid" else "")
        if self.activation != "relu6":
            flags += f" {self.activation}"
        if self.padding == "same":
            flags += " same"
        elif self.padding != "symmetric":
            flags += f" pad{self.padding}"
        return flags + (" int8" if self.precision == "int8" else "")

    @classmethod
    def from_key(cls, key: str) -> Block:
        """Return the block of a key. Raises `UsageError` for a text that is not a block key."""
        shapes, _, piece = key.partition(PIECE_SIGN)
        match = _KEY.fullmatch(shapes)
        if match is None:
            raise UsageError(
                f"{key!r} is not a block key, expected e.g. 'mbconv k5 s2 e6 32>64 @56' "
                "(operation, kernel, stride, expansion, channels, input size)"
            )
        op, kernel, stride, expand, c_in, c_out, height, width, *flags = match.groups()
        group, start, se, squeezed, sigmoid, activation, same, padding_px, int8 = flags
        padding = "symmetric" if same is None else "same"
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
            padding=padding if padding_px is None else int(padding_px),
            gate="hardsigmoid" if sigmoid is None else "sigmoid",
            squeezed=int(squeezed or 0),
            group_width=int(group or 0),
            start_kernel_size=int(start or 0),
            piece=piece,
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
        """Number of feature maps that the block takes."""
        return int(self.expand_ratio) if self.spec.joins_inputs else 1

    @property
    def in_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the input."""
        return (self.in_channels, *axes(self.in_size))

    @property
    def out_size(self) -> Size:
        """Height and width of the output feature map, in pixels; 1 after a global pool.

        Raises `UsageError` where a fixed piece cannot take maps of this size.
        """
        if self.spec.pools_globally:
            return 1
        if self.piece:
            return value_shapes(self.piece, self.in_channels, self.in_size)[-1].size
        height, width = axes(self.in_size)
        return size_of(self._out_pixels(height), self._out_pixels(width))

    def _out_pixels(self, pixels: int) -> int:
        """Return the length of the output along an axis."""
        if self.padding == "same":
            return -(-pixels // self.stride)
        return (pixels + 2 * self.padding_px - self.kernel_size) // self.stride + 1

    @property
    def padding_px(self) -> int:
        """Zeros on each side of the input, where all sides have the same number."""
        if isinstance(self.padding, int):
            return self.padding
        return symmetric_padding_px(self.kernel_size)

    @property
    def mid_channels(self) -> int:
        """Channels between the first and the last convolution."""
        outer = self.growth if self.spec.appends_channels else self.in_channels
        return int(outer * self.expand_ratio + 0.5)

    @property
    def groups(self) -> int:
        """Groups of channels of the kxk convolution."""
        return self.mid_channels // self.group_width if self.group_width else 1

    @property
    def has_inner_channels(self) -> bool:
        """Whether a layer of the block makes channels that no other block sees."""
        inner = self.spec.inner_channels
        return inner == "always" or (inner == "expanded" and self.expand_ratio != 1)

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
        if self.piece:
            same_shape = (self.in_channels, self.in_size) == (self.out_channels, self.out_size)
            return same_shape and ends_in_shortcut(self.piece)
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


_OF_A_PIECE: dict[str, object] = {
    **{"kernel_size": 1, "stride": 1, "expand_ratio": 1.0, "start_kernel_size": 0},
    **{"activation": "relu6", "padding": "symmetric", "squeeze_excite": False, "group_width": 0},
}


def same_padding(size: int, kernel_size: int, stride: int) -> tuple[int, int]:
    """Return the pixels before and after an axis of ``size`` pixels in TensorFlow's SAME.

    They are the fewest that give ``ceil(size / stride)`` outputs; an odd pixel is put after the
    axis.
    """
    total = max((-(-size // stride) - 1) * stride + kernel_size - size, 0)
    return total // 2, total - total // 2


def symmetric_padding_px(kernel_size: int) -> int:
    """Return the zeros on each side with which an odd kernel keeps the size; 0 for an even one."""
    return kernel_size // 2 if kernel_size % 2 else 0


def _usual_se_channels(block: Block) -> int:
    gated = block.out_channels if block.spec.gates_output else block.mid_channels
    return round_channels(gated / 4)


def round_channels(channels: float, divisor: int = 8) -> int:
    """Round half up to a multiple of ``divisor``, never more than 10 % below ``channels``."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


@lru_cache(maxsize=1 << 16)
def _kernels(block: Block) -> tuple[Kernel, ...]:
    return tuple(kernel for layer in block.spec.layers for kernel in layer(block))
