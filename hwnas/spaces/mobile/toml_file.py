"""Chain spaces in TOML files, one space a file (fields: `hwnas/spaces/chains`).

The file has stem, stages and head; image size and classes come from the data. A wrong or unknown
field is an error with the file, the field and what was expected.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import product
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from hwnas.architecture.architecture import Block, round_channels
from hwnas.architecture.size import Size, size_of
from hwnas.errors import InvalidFile, UnknownName, UsageError
from hwnas.files import decode_toml, read_bytes
from hwnas.spaces.mobile.space import Candidate, MobileSpace, Stage

Positive = Annotated[int, msgspec.Meta(ge=1)]
Kernel = Literal[1, 3, 5, 7, 9]
Activation = Literal["relu6", "relu", "hswish", "silu"]
Ratios = Annotated[tuple[Annotated[float, msgspec.Meta(gt=0)], ...], msgspec.Meta(min_length=1)]


class Options(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Candidates of one operation and activation: every kernel size with every expansion."""

    op: Literal["mbconv", "fused_mbconv"] = "mbconv"
    kernel_size: Annotated[tuple[Kernel, ...], msgspec.Meta(min_length=1)]
    expand_ratio: Ratios
    activation: Activation = "relu6"
    squeeze_excite: bool = False

    @property
    def candidates(self) -> tuple[Candidate, ...]:
        pairs = product(self.expand_ratio, self.kernel_size)
        return tuple(
            Candidate(self.op, kernel, ratio, self.activation, self.squeeze_excite)
            for ratio, kernel in pairs
        )


class StageRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A run of blocks of one width."""

    width: Positive
    depth: Positive
    least_depth: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Number of blocks that can't be skipped; those without a shortcut never can."""
    stride: Literal[1, 2] = 1
    options: tuple[Options, ...] = ()
    """Candidates of this stage; empty: those of the space."""


class Stem(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The first convolution, 3x3, and optionally a fixed MBConv of expansion 1 after it."""

    width: Positive
    stride: Literal[1, 2] = 2
    activation: Activation = "relu6"
    first_width: Positive | None = None
    """Width of the fixed MBConv; None: there is none."""
    first_activation: Activation = "relu6"


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    width: Positive
    activation: Activation = "relu6"
    mix_width: Positive | None = None
    """Width of MobileNetV3's 1x1 convolution after the pool; None: there is none."""


class Sizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Image sizes in pixels that the space supports."""

    least: Positive
    most: Positive
    step: Positive = 1

    def check(self, name: str, input_shape: tuple[int, int, int]) -> None:
        """Raise `UsageError` for images of another size; ``name`` is that of the space."""
        _, height, width = input_shape
        allowed = range(self.least, self.most + 1, self.step)
        if height not in allowed or width not in allowed:
            step = f" in steps of {self.step}" if self.step > 1 else ""
            raise UsageError(
                f"{name}: resolution is {self.least} to {self.most} px{step}, the images have "
                f"{height}x{width}"
            )


class ChainFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The content of a TOML file."""

    name: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_.-]*$")]
    title: str
    source: str = ""
    width_mult: Annotated[float, msgspec.Meta(gt=0)] = 1.0
    """Factor of all widths, rounded to multiples of 8; below 1 the head keeps its width."""
    resolution: Sizes
    stem: Stem
    head: Head
    options: tuple[Options, ...] = ()
    stages: Annotated[tuple[StageRow, ...], msgspec.Meta(min_length=1)]


def find_chain(name: str) -> tuple[ChainFile, str]:
    """Return the content of a ``.toml`` path or of a shipped file by name, and its digest.

    Raises `UnknownName` or `InvalidFile`.
    """
    if name.endswith(".toml"):
        return _read(Path(name))
    shipped = chain_names()
    if name not in shipped:
        raise UnknownName("space", name, shipped)
    return _read(files("hwnas.spaces") / "chains" / f"{name}.toml")


def chain_names() -> list[str]:
    """Return the names of the chains that come with hwnas."""
    folder = files("hwnas.spaces") / "chains"
    return sorted(
        file.name.removesuffix(".toml") for file in folder.iterdir() if file.name.endswith(".toml")
    )


def chain_space(name: str, input_shape: tuple[int, int, int], num_classes: int) -> MobileSpace:
    """Return the space of a file or shipped name for images of ``input_shape``.

    Its name has the digest of the file, so that no measurement of another version is used for it.
    Raises `UsageError` for an image size that the file does not allow.
    """
    chain, digest = find_chain(name)
    chain.resolution.check(name, input_shape)
    channels, height, width = input_shape
    return MobileSpace(
        name=f"{chain.name}-{digest[:6]}",
        input_shape=input_shape,
        num_classes=num_classes,
        stem=_stem(chain, channels, size_of(height, width)),
        stages=tuple(_stage(row, chain.width_mult) for row in chain.stages),
        candidates=_candidates(chain.options),
        head_width=_width(chain.head.width, max(1.0, chain.width_mult)),
        head_activation=chain.head.activation,
        mix_width=chain.head.mix_width and _width(chain.head.mix_width, max(1.0, chain.width_mult)),
    )


def _read(file: Traversable | Path) -> tuple[ChainFile, str]:
    text = read_bytes(file)
    chain = decode_toml(text, ChainFile, str(file))
    for number, row in enumerate(chain.stages):
        at = f"`$.stages[{number}]`"
        if not (row.options or chain.options):
            raise InvalidFile(str(file), f"expected `options` here or for the space - at {at}")
        if row.least_depth > row.depth:
            raise InvalidFile(
                str(file),
                f"expected at most the depth, {row.depth}, got {row.least_depth} - at "
                f"`$.stages[{number}].least_depth`",
            )
        if len(set(_candidates(row.options))) < len(_candidates(row.options)):
            raise InvalidFile(str(file), f"expected each candidate once - at {at}")
    if len(set(_candidates(chain.options))) < len(_candidates(chain.options)):
        raise InvalidFile(str(file), "expected each candidate once - at `$.options`")
    if chain.resolution.least > chain.resolution.most:
        raise InvalidFile(str(file), "expected least <= most - at `$.resolution`")
    return chain, hashlib.sha256(text).hexdigest()


def _candidates(options: tuple[Options, ...]) -> tuple[Candidate, ...]:
    return tuple(candidate for row in options for candidate in row.candidates)


def _stage(row: StageRow, width_mult: float) -> Stage:
    return Stage(
        _width(row.width, width_mult),
        row.depth,
        row.stride,
        row.least_depth,
        _candidates(row.options),
    )


def _stem(chain: ChainFile, channels: int, size: Size) -> tuple[Block, ...]:
    stem = chain.stem
    width = _width(stem.width, chain.width_mult)
    conv = Block("conv", channels, width, 3, stem.stride, 1, size, stem.activation)
    if stem.first_width is None:
        return (conv,)
    first = _width(stem.first_width, chain.width_mult)
    return conv, Block("mbconv", width, first, 3, 1, 1, conv.out_size, stem.first_activation)


def _width(width: int, width_mult: float) -> int:
    return width if width_mult == 1 else round_channels(width * width_mult)
