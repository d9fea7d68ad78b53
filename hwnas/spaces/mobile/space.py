"""`mobile`: a chain of blocks, each an MBConv, a fused MBConv or a skip; any input size.

At 224 px it is the space of ProxylessNAS (Cai, Zhu and Han, ICLR 2019, arXiv:1812.00332): 21
decisions among MBConv with kernel 3, 5, 7 and expansion 3, 6, and skip where a shortcut exists.
For small images (up to 96 px) it has ten blocks; their candidates are the same MBConvs, fused ones
of expansion 1 and 2, and skip, whose relative latencies differ between runtimes.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from random import Random

import msgspec

from hwnas.architecture.architecture import Architecture, Block, Genotype, round_channels
from hwnas.architecture.size import Size, size_of, size_text, strided
from hwnas.errors import UsageError
from hwnas.spaces.space import Baseline, Decision, Site, check_genotype

MAX_SMALL_INPUT_PX = 96
"""Up to this input size `mobile_space` returns the small chain."""


class Candidate(msgspec.Struct, frozen=True):
    """An option of a decision, independent of channels and position."""

    op: str
    kernel_size: int = 3
    expand_ratio: float = 1
    activation: str = "relu6"
    squeeze_excite: bool = False

    @property
    def name(self) -> str:
        if self.op == "identity":
            return "skip"
        flags = (" se" if self.squeeze_excite else "") + (
            "" if self.activation == "relu6" else f" {self.activation}"
        )
        short = {"mbconv": "mb", "fused_mbconv": "fused"}[self.op]
        return f"{short} k{self.kernel_size} e{self.expand_ratio:g}{flags}"


class Stage(msgspec.Struct, frozen=True):
    """A run of blocks of one width; the first block has the stride."""

    width: int
    depth: int
    stride: int
    least_depth: int = 0
    """Number of blocks that can't be skipped; others can, where a shortcut exists."""
    candidates: tuple[Candidate, ...] = ()
    """Candidates of this stage; empty: those of the space."""


SKIP = Candidate("identity")
MBCONVS = tuple(Candidate("mbconv", k, e) for e in (3, 6) for k in (3, 5, 7))
FUSED = tuple(Candidate("fused_mbconv", 3, e) for e in (1, 2))

UNIFORM = (Candidate("mbconv", 3, 6), Candidate("mbconv", 3, 3))
"""The block of MobileNetV2, and one of half its expansion."""

WIDTH_MULTS = (0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0)
"""Width multipliers of the uniform networks that are measured as baselines."""


def mobile_space(input_shape: tuple[int, int, int], num_classes: int) -> MobileSpace:
    """Return the default chain for images of ``input_shape`` (channels, height, width)."""
    channels, height, width = input_shape
    size = size_of(height, width)
    if min(height, width) < 16:
        text = size_text(size)
        raise UsageError(f"the mobile space takes images of at least 16 px, got {text} px")
    if max(height, width) <= MAX_SMALL_INPUT_PX:
        return MobileSpace(
            name="mobile",
            input_shape=input_shape,
            num_classes=num_classes,
            stem=(Block("conv", channels, 16, 3, 2, 1, size),),
            stages=(Stage(16, 2, 1), Stage(24, 3, 2), Stage(40, 3, 2), Stage(64, 2, 1)),
            candidates=(*MBCONVS, *FUSED),
            head_width=128,
        )
    stem = Block("conv", channels, 32, 3, 2, 1, size)
    return MobileSpace(
        name="mobile",
        input_shape=input_shape,
        num_classes=num_classes,
        stem=(stem, Block("mbconv", 32, 16, 3, 1, 1, stem.out_size)),
        stages=(
            Stage(24, 4, 2),
            Stage(40, 4, 2),
            Stage(80, 4, 2),
            Stage(96, 4, 1),
            Stage(192, 4, 2),
            Stage(320, 1, 1),
        ),
        candidates=MBCONVS,
        head_width=1280,
    )


def mobilenet_v2_like(space: MobileSpace, candidate: Candidate, width_mult: float) -> Architecture:
    """Return the uniform net of one candidate on the space's stages, all widths multiplied.

    The hand-made baseline of every comparison; widths are rounded to 8 as in MobileNetV2.
    """
    wide = scaled(space, width_mult)
    plain = tuple(Stage(stage.width, stage.depth, stage.stride) for stage in wide.stages)
    uniform = msgspec.structs.replace(wide, name="uniform", stages=plain, candidates=(candidate,))
    return uniform.architecture(uniform.uniform(candidate))


def scaled(space: MobileSpace, width_mult: float) -> MobileSpace:
    """Return the space with all widths multiplied and rounded to 8; the head never shrinks."""
    head = max(1.0, width_mult)
    return msgspec.structs.replace(
        space,
        name=f"{space.name}-x{width_mult:g}",
        stem=_scaled_chain(space.stem, width_mult),
        stages=tuple(
            msgspec.structs.replace(stage, width=round_channels(stage.width * width_mult))
            for stage in space.stages
        ),
        head_width=round_channels(space.head_width * head),
        mix_width=space.mix_width and round_channels(space.mix_width * head),
    )


def _scaled_chain(blocks: tuple[Block, ...], width_mult: float) -> tuple[Block, ...]:
    scaled: list[Block] = []
    channels = blocks[0].in_channels
    for block in blocks:
        width = round_channels(block.out_channels * width_mult)
        scaled.append(msgspec.structs.replace(block, in_channels=channels, out_channels=width))
        channels = width
    return tuple(scaled)


class MobileSpace(msgspec.Struct, frozen=True, dict=True):
    """A stem, stages of blocks to choose, and a head; widths are fixed, depths vary by skips."""

    name: str
    input_shape: tuple[int, int, int]
    num_classes: int
    stem: tuple[Block, ...]
    """Fixed blocks before the first decision."""
    stages: tuple[Stage, ...]
    candidates: tuple[Candidate, ...]
    head_width: int
    head_activation: str = "relu6"
    mix_width: int | None = None
    """Width of MobileNetV3's second 1x1 convolution, after the pool; None: there is none."""

    @cached_property
    def places(self) -> tuple[tuple[str, int, int, int, Size], ...]:
        """Name, in channels, out channels, stride and input size of each decision's block."""
        channels, size = self.stem[-1].out_channels, self.stem[-1].out_size
        places: list[tuple[str, int, int, int, Size]] = []
        for number, stage in enumerate(self.stages, 1):
            for depth in range(stage.depth):
                stride = stage.stride if depth == 0 else 1
                name = f"stage {number} block {depth + 1}"
                places.append((name, channels, stage.width, stride, size))
                channels, size = stage.width, strided(size, stride)
        return tuple(places)

    @cached_property
    def options(self) -> tuple[tuple[Candidate, ...], ...]:
        """The candidates of each decision; skip only where input and output have the same shape."""
        rows: list[tuple[Candidate, ...]] = []
        places = iter(self.places)
        for stage in self.stages:
            own = stage.candidates or self.candidates
            for depth in range(stage.depth):
                _, c_in, c_out, stride, _ = next(places)
                skippable = stride == 1 and c_in == c_out and depth >= stage.least_depth
                rows.append((*own, SKIP) if skippable else own)
        return tuple(rows)

    @property
    def decisions(self) -> tuple[Decision, ...]:
        return self._decisions

    @cached_property
    def _decisions(self) -> tuple[Decision, ...]:
        return tuple(
            Decision(place[0], tuple(option.name for option in options))
            for place, options in zip(self.places, self.options, strict=True)
        )

    @property
    def size(self) -> int:
        """Number of genotypes."""
        product = 1
        for decision in self.decisions:
            product *= len(decision.candidates)
        return product

    @property
    def default(self) -> Genotype:
        """The block of MobileNetV2 everywhere, or the most similar candidate of each decision."""
        reference = UNIFORM[0]
        choices = (
            min(
                range(len(row)),
                key=lambda number: (
                    row[number].op != reference.op,
                    abs(row[number].kernel_size - reference.kernel_size),
                    abs(row[number].expand_ratio - reference.expand_ratio),
                ),
            )
            for row in self.options
        )
        return Genotype(self.name, tuple(choices))

    @property
    def fixed(self) -> tuple[Block, ...]:
        return (*self.stem, *self._head_blocks)

    @cached_property
    def blocks(self) -> tuple[tuple[Block, ...], ...]:
        """The block of every candidate: ``blocks[decision][candidate]``."""
        return tuple(
            tuple(_block(option, *place[1:]) for option in options)
            for place, options in zip(self.places, self.options, strict=True)
        )

    def sites(self) -> Iterable[Site]:
        for decision, blocks in enumerate(self.blocks):
            for candidate, block in enumerate(blocks):
                yield Site(decision, candidate, block)

    def architecture(self, genotype: Genotype) -> Architecture:
        """Return the network of a genotype. Raises `UsageError` for one of another space."""
        check_genotype(genotype, self.name, self.decisions)
        chosen = (row[choice] for row, choice in zip(self.blocks, genotype.choices, strict=True))
        blocks = (*self.stem, *chosen, *self._head_blocks)
        return Architecture(genotype, blocks, self.input_shape, self.num_classes)

    def block_decisions(self, architecture: Architecture) -> tuple[int | None, ...]:
        first, decisions = len(self.stem), len(self.places)
        places = (number - first for number in range(len(architecture.blocks)))
        return tuple(place if 0 <= place < decisions else None for place in places)

    def baselines(self) -> Iterable[Baseline]:
        """Yield uniform networks in all `WIDTH_MULTS`."""
        for candidate in UNIFORM:
            for width_mult in WIDTH_MULTS:
                network = mobilenet_v2_like(self, candidate, width_mult)
                yield Baseline(f"uniform {candidate.name} x{width_mult:g}", "uniform", network)

    def random(self, rng: Random) -> Genotype:
        return Genotype(self.name, tuple(rng.randrange(len(row)) for row in self.options))

    def neighbours(self, genotype: Genotype) -> Iterable[Genotype]:
        choices = genotype.choices
        for place, options in enumerate(self.options):
            for candidate in range(len(options)):
                if candidate != choices[place]:
                    changed = (*choices[:place], candidate, *choices[place + 1 :])
                    yield Genotype(self.name, changed)

    def uniform(self, candidate: Candidate) -> Genotype:
        """Return the genotype with the same candidate everywhere."""
        return Genotype(self.name, tuple(row.index(candidate) for row in self.options))

    @cached_property
    def _head_blocks(self) -> tuple[Block, ...]:
        _, _, channels, stride, size = self.places[-1]
        size = strided(size, stride)
        act = self.head_activation
        conv = Block("conv", channels, self.head_width, 1, 1, 1, size, act)
        if self.mix_width is None:
            return (conv, Block("logits", self.head_width, self.num_classes, 1, 1, 1, size))
        return (
            conv,
            Block("mix", self.head_width, self.mix_width, 1, 1, 1, size, act),
            Block("logits", self.mix_width, self.num_classes, 1, 1, 1, 1),
        )


def _block(option: Candidate, c_in: int, c_out: int, stride: int, size: Size) -> Block:
    if option.op == "identity":
        return Block("identity", c_in, c_out, 1, 1, 1, size)
    return Block(
        option.op,
        c_in,
        c_out,
        option.kernel_size,
        stride,
        option.expand_ratio,
        size,
        option.activation,
        option.squeeze_excite,
    )
