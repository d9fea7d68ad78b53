"""Conversion of layer names in the tables of ProxylessNAS and Once-for-all to blocks.

ProxylessNAS (Cai, Zhu and Han, ICLR 2019, arXiv:1812.00332), activation ReLU6; ``expand`` is the
**ratio** of the expansion::

    Conv-input:224x224x3-output:112x112x32            conv k3 s2 e1 3>32 @224
    expanded_conv-input:112x112x16-output:56x56x24-expand:3-kernel:5-stride:2-idskip:0
                                                      mbconv k5 s2 e3 16>24 @112
    Conv_1-input:7x7x320-output:7x7x1280              conv k1 s1 e1 320>1280 @7
    Logits-input:7x7x1280-output:1000                 logits k1 s1 e1 1280>1000 @7

Once-for-all (Cai, Gan, Wang, Zhang and Han, ICLR 2020, arXiv:1908.09791), MobileNetV3; ``expand``
is the **number of channels** between expansion and projection, and the head has two parts::

    Conv-input:224x224x3-output:112x112x24            conv k3 s2 e1 3>24 @224 hswish
    expanded_conv-…x32-output:…x48-expand:96-kernel:3-stride:2-idskip:0-se:1-hs:0
                                                      mbconv k3 s2 e3 32>48 @56 se relu
    Conv_1-input:7x7x192-output:7x7x1152              conv k1 s1 e1 192>1152 @7 hswish
    AvgPool2D-input:7x7x1152-output:1x1x1152    and
    Conv_2-input:1x1x1152-output:1x1x1536             mix k1 s1 e1 1152>1536 @7 hswish (the sum)
    Logits-input:1x1x1536-output:1000                 logits k1 s1 e1 1536>1000 @1

``idskip`` is 1 if the input is added to the output. Our blocks always do so if the shapes allow it.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from hwnas.architecture.architecture import Block
from hwnas.latency_models.importers.rows import WrongRow, check_block

LayerDialect = Literal["proxylessnas", "ofa"]

MAX_RATIO = 16
"""A larger ``expand`` is a number of channels, not a ratio."""

_N = r"(\d{1,5})"
_SHAPE = f"{_N}x{_N}x{_N}"
_NAME = re.compile(rf"(\w+)-input:{_SHAPE}-output:(?:{_SHAPE}|{_N})(-expand:.*)?", re.ASCII)
_MBCONV = f"-expand:{_N}-kernel:{_N}-stride:{_N}-idskip:([01])"
_EXPANDED: dict[LayerDialect, re.Pattern[str]] = {
    "proxylessnas": re.compile(_MBCONV, re.ASCII),
    "ofa": re.compile(_MBCONV + "-se:([01])-hs:([01])", re.ASCII),
}
_EXPECTED: dict[LayerDialect, str] = {
    "proxylessnas": "-expand:RATIO-kernel:K-stride:S-idskip:0|1",
    "ofa": "-expand:CHANNELS-kernel:K-stride:S-idskip:0|1-se:0|1-hs:0|1",
}
_LAYERS: dict[LayerDialect, tuple[str, ...]] = {
    "proxylessnas": ("Conv", "expanded_conv", "Conv_1", "Logits"),
    "ofa": ("Conv", "expanded_conv", "Conv_1", "AvgPool2D", "Conv_2", "Logits"),
}


class Layer(NamedTuple):
    """A parsed layer name."""

    kind: str
    in_size: int
    in_channels: int
    out_size: int
    out_channels: int
    expanded: str
    """The part of the name after the shapes."""


def parse(name: str, dialect: LayerDialect) -> Layer:
    """Parse ``name``. Raises `WrongRow` for a name that is not of the dialect."""
    match = _NAME.fullmatch(name)
    if match is None or match[1] not in _LAYERS[dialect]:
        raise WrongRow(
            f"{name!r} is not a layer name of {dialect}, expected a name like "
            "'Conv_1-input:7x7x320-output:7x7x1280' that begins with "
            f"{', '.join(_LAYERS[dialect])}"
        )
    kind, height, width, c_in, out_height, out_width, c_out, flat, expanded = match.groups()
    if height != width or out_height != out_width:
        raise WrongRow(f"{name!r} is not square, expected height = width")
    if (flat is not None) != (kind == "Logits") or bool(expanded) != (kind == "expanded_conv"):
        raise WrongRow(f"{name!r} is not a valid name of a layer {kind}")
    layer = Layer(
        kind, int(height), int(c_in), int(out_height or 1), int(c_out or flat), expanded or ""
    )
    if min(layer[1:5]) < 1:
        raise WrongRow(f"{name!r} has a size or a number of channels of 0")
    return layer


def block_of(name: str, layer: Layer, dialect: LayerDialect) -> Block:
    """Return the block of a layer; ``AvgPool2D`` and ``Conv_2`` together are one block, see `mix`.

    Raises `WrongRow` where the name contradicts itself or the dialect.
    """
    kind, size, c_in, out_size, c_out, _ = layer
    act = "relu6" if dialect == "proxylessnas" else "hswish"
    if kind == "expanded_conv":
        block = _expanded(name, layer, dialect)
    elif kind == "Logits":
        block = Block("logits", c_in, c_out, 1, 1, 1, size)
    else:
        # names do not state stride and kernel; the stem halves the size
        stride = 1 if out_size == size else 2
        block = Block("conv", c_in, c_out, 3 if kind == "Conv" else 1, stride, 1, size, act)
    if block.out_size != out_size:
        raise WrongRow(
            f"{name!r}: stride {block.stride} maps {size} px to {block.out_size} px, "
            f"but the output has {out_size} px"
        )
    return check_block(block)


def mix(pool: Layer, conv: Layer) -> Block:
    """Return the block of an ``AvgPool2D`` and the ``Conv_2`` after it."""
    return Block("mix", pool.in_channels, conv.out_channels, 1, 1, 1, pool.in_size, "hswish")


def shortcut_differs(layer: Layer, block: Block) -> bool:
    """Whether a name says that nothing is added where our block adds its input."""
    return block.residual and "-idskip:0" in layer.expanded


def _expanded(name: str, layer: Layer, dialect: LayerDialect) -> Block:
    match = _EXPANDED[dialect].fullmatch(layer.expanded)
    if match is None:
        raise WrongRow(
            f"{name!r} ends in {layer.expanded!r}, expected {_EXPECTED[dialect]} in {dialect}"
        )
    expand, kernel, stride, skip, *flags = map(int, match.groups())
    if min(expand, kernel, stride) < 1:
        raise WrongRow(f"{name!r}: expansion, kernel and stride must be at least 1")
    c_in, size = layer.in_channels, layer.in_size
    if dialect == "proxylessnas":
        if expand > MAX_RATIO:
            raise WrongRow(f"{name!r}: expand:{expand} looks like channels, expected a ratio")
        block = Block("mbconv", c_in, layer.out_channels, kernel, stride, expand, size)
    else:
        if expand < c_in and expand <= MAX_RATIO:
            raise WrongRow(f"{name!r}: expand:{expand} looks like a ratio, expected channels")
        se, hs = flags
        block = Block(
            "mbconv",
            c_in,
            layer.out_channels,
            kernel,
            stride,
            expand / c_in,
            size,
            "hswish" if hs else "relu",
            bool(se),
        )
    if skip and not block.residual:
        raise WrongRow(f"{name!r}: idskip:1 needs stride 1 and equal channels")
    return block
