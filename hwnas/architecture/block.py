"""Blocks as plain data: an operation at one place with all shapes, the row of a latency table."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from hwnas.architecture.op_counts import COUNTS
from hwnas.errors import UsageError

_KEY = re.compile(
    r"(\w+) k(\d+) s(\d+) e(\d+(?:\.\d+)?) (\d+)>(\d+) @(\d+)( se)?"
    r"(?: (?!int8\b)(\w+))?( int8)?",
    re.ASCII,
)


class Block(msgspec.Struct, frozen=True):
    """One block at one place of a network; everything its latency may depend on.

    ``op`` is ``conv`` (convolution, batch norm, activation), ``mbconv``, ``fused_mbconv``,
    ``identity`` (a skipped block: nothing is computed), ``mix`` (global average pool, convolution
    1x1 and activation: MobileNetV3 has it before the classifier), ``logits`` (global average
    pool and linear layer; ``out_channels`` is the number of classes), or one of a DARTS cell.
    There ReLU comes first, which ``activation="relu"`` says:

    * ``sep_conv``, ``dil_conv``, ``conv_7x1_1x7``, ``max_pool``, ``avg_pool`` as in the papers
      (dilation is 2; nothing comes after a pool, only ``max_pool_bn``, ``avg_pool_bn`` and
      ``identity_bn`` end in a batch norm, as in ISTA-NAS);
    * ``none``: zeros in the shape of the output;
    * ``factorized_reduce``: the skip of stride 2, also between cells of different size;
    * ``relu_conv_bn``: the preprocessing of a cell's input; ``conv_bn``: the same without ReLU;
    * ``add``, ``concat``: of ``expand_ratio`` inputs, each of ``in_channels``;

    or one of a plain or a densely connected network (EAS):

    * ``max_pool`` and ``avg_pool`` of an even kernel have no padding; ``global_pool``;
    * ``dense_layer``: a bottleneck layer of DenseNet-BC, its input included in its output: batch
      norm, ReLU, convolution 1x1 to ``expand_ratio`` times the growth, and again, with
      ``kernel_size``, to the growth, which is ``out_channels - in_channels``;
    * ``transition``: batch norm, ReLU, convolution 1x1, average pool of ``kernel_size``;
    * ``bare_conv``: a convolution alone; ``norm_logits``: batch norm, ReLU, ``logits``;

    or one of a tree (`hwnas.spaces.tree.space`), which say what they are made of, in order:

    * ``bn_conv``, ``bn_relu_conv_bn``; ``bn_relu_group_conv`` in two groups of channels, which are
      shuffled after it; ``bn_relu_sep_conv`` and ``bn_relu_dil_conv`` (dilation 2) depthwise,
      then 1x1;
    * ``first_half``, ``second_half`` of the channels; ``pad_channels``: with zeros after them.
    """

    op: str
    in_channels: int
    out_channels: int
    kernel_size: int
    stride: int
    expand_ratio: float
    in_size: int
    """Height and width of the input feature map, in pixels."""
    activation: str = "relu6"
    """``relu6``, ``relu`` or ``hswish``."""
    squeeze_excite: bool = False
    """Squeeze-excite after the depthwise convolution (``mbconv`` only)."""
    precision: Literal["fp32", "int8"] = "fp32"
    """That it runs in; the key of ``fp32`` does not say it."""

    def __post_init__(self) -> None:
        # six digits, as in the key, so that a block that is read from a key is the same block
        if self.expand_ratio != (rounded := float(f"{self.expand_ratio:g}")):
            msgspec.structs.force_setattr(self, "expand_ratio", rounded)

    @property
    def key(self) -> str:
        """Stable row name in a latency table, e.g. ``mbconv k5 s2 e6 32>64 @56``."""
        flags = (" se" if self.squeeze_excite else "") + (
            "" if self.activation == "relu6" else f" {self.activation}"
        )
        flags += " int8" if self.precision == "int8" else ""
        return (
            f"{self.op} k{self.kernel_size} s{self.stride} e{self.expand_ratio:g} "
            f"{self.in_channels}>{self.out_channels} @{self.in_size}{flags}"
        )

    @classmethod
    def from_key(cls, key: str) -> Block:
        """Return the block that ``key`` names. Raises `UsageError` for what is not a block key."""
        found = _KEY.fullmatch(key)
        if found is None:
            raise UsageError(
                f"{key!r} is not a block key, expected e.g. 'mbconv k5 s2 e6 32>64 @56' "
                "(operation, kernel, stride, expansion, channels, input size)"
            )
        op, kernel, stride, expand, c_in, c_out, size, se, activation, int8 = found.groups()
        return cls(
            op, int(c_in), int(c_out), int(kernel), int(stride), float(expand), int(size),
            activation or "relu6", se is not None, "fp32" if int8 is None else "int8",
        )  # fmt: skip

    @property
    def out_size(self) -> int:
        """Height and width of the output feature map, in pixels; 1 after a global pool."""
        if self.op in POOLED:
            return 1
        unpadded = 1 - self.kernel_size % 2  # an even kernel loses a pixel
        return (self.in_size - 1 - unpadded * (self.kernel_size - 1)) // self.stride + 1

    @property
    def is_free(self) -> bool:
        """Whether the block computes nothing: no row in a latency table, nothing in a file."""
        return self.op in FREE_OPS

    @property
    def arity(self) -> int:
        """How many inputs the block takes."""
        return int(self.expand_ratio) if self.op in ("add", "concat") else 1

    @property
    def mid_channels(self) -> int:
        """Channels between expansion and projection; of a ``dense_layer``'s bottleneck."""
        widened = self.growth if self.op == "dense_layer" else self.in_channels
        return int(widened * self.expand_ratio + 0.5)

    @property
    def growth(self) -> int:
        """Channels that a ``dense_layer`` adds to its input."""
        return self.out_channels - self.in_channels

    @property
    def se_channels(self) -> int:
        """Channels of the squeeze-excite bottleneck: a quarter of its input, rounded to 8."""
        return round_channels(self.mid_channels / 4)

    @property
    def residual(self) -> bool:
        """Whether the block adds its input to its output."""
        return (
            self.op in ("mbconv", "fused_mbconv")
            and self.stride == 1
            and self.in_channels == self.out_channels
        )

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image, by the rules of `hwnas.architecture.op_counts`."""
        return COUNTS[self.op][0](self)

    @property
    def params(self) -> int:
        """Trained numbers, by the rules of `hwnas.architecture.op_counts`."""
        return COUNTS[self.op][1](self)


def round_channels(channels: float, divisor: int = 8) -> int:
    """Round half up to a multiple of ``divisor``, never more than 10 % below ``channels``."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


OPS = tuple(COUNTS)
"""All values of `Block.op`."""
POOLED = ("mix", "logits", "norm_logits", "global_pool")
"""Those that begin with a global pool: one pixel is left."""
FREE_OPS = ("identity", "none")
"""Those that compute nothing: no row in a latency table, and nothing in a file."""
ACTIVATIONS = ("relu6", "relu", "hswish")
"""All values of `Block.activation`."""
