"""Chains of MBConv as networks that are grown: `mobile`, `ofa` and chains of your own.

A stage has at least the blocks that cannot be skipped, and one more for each skip that is filled. A
layer's width is its expansion; the skips of a stage are kept behind its blocks. Grown are MBConvs
of whole expansions above 1: there is no expansion layer to widen in others, and fused ones of
expansion 1 end in an activation (`hwnas.nn.growth.mobile`).
"""

from __future__ import annotations

from functools import cached_property
from typing import Literal

import msgspec

from hwnas.architecture.architecture import Architecture, Block, Genotype
from hwnas.errors import UsageError
from hwnas.spaces.grown.space import GrownSpace, GrownStage, Layer, Layers, Place
from hwnas.spaces.grown.steps import Growable
from hwnas.spaces.mobile.space import SKIP, Candidate, MobileSpace
from hwnas.spaces.space import SearchSpace


def growable(space: SearchSpace) -> Growable:
    """Return a space as strategy ``eas`` grows its networks. Raises `UsageError` for others."""
    if isinstance(space, MobileSpace):
        grown = GrownMobile(space)
        _ = grown.stages  # raises where a stage has nothing to grow
        return grown
    if not isinstance(space, GrownSpace):
        raise UsageError(
            f"strategy 'eas' grows networks layer by layer, which the space {space.name!r} is "
            "not made for; spaces that are: chain, chain-large, densenet, mobile, ofa, proxyless, "
            'TOML files of such chains and those with family = "plain"'
        )
    return space


class GrownMobile(msgspec.Struct, frozen=True, dict=True):
    """Networks of a chain of blocks between its smallest and its largest MBConvs."""

    space: MobileSpace
    family: Literal["mobile"] = "mobile"
    wider_actions: int = 2
    larger_actions: int = 2
    deeper_actions: int = 5
    """Of an episode; no paper gives them."""

    @property
    def name(self) -> str:
        return self.space.name

    @property
    def stem(self) -> tuple[Block, ...]:
        return self.space.stem

    @property
    def stages(self) -> tuple[GrownStage, ...]:
        """What each stage may be. Raises `UsageError` where it has no MBConv to grow."""
        return self._stages

    @cached_property
    def _stages(self) -> tuple[GrownStage, ...]:
        found: list[GrownStage] = []
        for number, stage in enumerate(self.space.stages):
            known = self._candidates[number]
            widths = tuple(sorted({layer.width for layer in known}))
            kernels = tuple(sorted({layer.kernel_size for layer in known}))
            if not known or len(known) < len(widths) * len(kernels):
                raise UsageError(
                    f"strategy 'eas' grows MBConvs, and stage {number + 1} of {self.name!r} has "
                    "not every kernel with every whole expansion above 1"
                )
            first = self._first(number)
            options = self.space.options[first : first + stage.depth]
            least = max(1, sum(SKIP not in row for row in options))
            found.append(
                GrownStage(
                    widths=widths,
                    kernels=kernels,
                    depth=stage.depth,
                    start=(Layer(widths[0], kernels[0]),) * least,
                    usual=(Layer(widths[-1], kernels[0]),) * stage.depth,
                    stride=stage.stride,
                    least=least,
                )
            )
        return tuple(found)

    @property
    def start(self) -> Genotype:
        return self.genotype(tuple(stage.start for stage in self.stages))

    def genotype(self, layers: Layers) -> Genotype:
        """Return the choices that mean these layers. Raises `UsageError` for what is outside."""
        choices: list[int] = []
        for number, (stage, row) in enumerate(zip(self.stages, layers, strict=True)):
            if not stage.least <= len(row) <= stage.depth:
                raise UsageError(
                    f"stage {number + 1} has {stage.least} to {stage.depth} blocks in "
                    f"{self.name}, got {len(row)}"
                )
            for slot in range(stage.depth):
                options = self.space.options[self._first(number) + slot]
                taken = self._candidate(number, row[slot]) if slot < len(row) else SKIP
                choices.append(options.index(taken))
        return Genotype(self.name, tuple(choices))

    def layers(self, genotype: Genotype) -> Layers:
        """Return the layers that the choices mean. Raises `UsageError` for blocks of other kinds
        than are grown."""
        self.space.architecture(genotype)  # raises for choices of another space
        rows: list[tuple[Layer, ...]] = []
        for number, stage in enumerate(self.space.stages):
            first = self._first(number)
            named = {candidate: layer for layer, candidate in self._candidates[number].items()}
            row: list[Layer] = []
            for place in range(first, first + stage.depth):
                candidate = self.space.options[place][genotype.choices[place]]
                if candidate != SKIP and candidate not in named:
                    where = self.space.decisions[place].name
                    raise UsageError(f"{where} of {self.name}: {candidate.name} is not grown")
                row += [named[candidate]] if candidate != SKIP else []
            rows.append(tuple(row))
        return tuple(rows)

    def laid_out(self, layers: Layers) -> list[tuple[Block, Place | None]]:
        """Return all blocks in order, and the layer that each one is; skips are none."""
        places: list[Place | None] = [None] * len(self.space.stem)
        for number, (stage, row) in enumerate(zip(self.stages, layers, strict=True)):
            places += [Place(number, layer) for layer in range(len(row))]
            places += [None] * (stage.depth - len(row))
        blocks = self.architecture(self.genotype(layers)).blocks
        places += [None] * (len(blocks) - len(places))
        return list(zip(blocks, places, strict=True))

    def architecture(self, genotype: Genotype) -> Architecture:
        return self.space.architecture(genotype)

    @cached_property
    def _candidates(self) -> tuple[dict[Layer, Candidate], ...]:
        """Of each stage what its layers are; of several alike the first: they differ in the
        activation or the squeeze-excite."""
        rows: list[dict[Layer, Candidate]] = []
        for stage in self.space.stages:
            row: dict[Layer, Candidate] = {}
            for one in stage.candidates or self.space.candidates:
                if one.op == "mbconv" and one.expand_ratio > 1 and one.expand_ratio % 1 == 0:
                    row.setdefault(Layer(int(one.expand_ratio), one.kernel_size), one)
            rows.append(row)
        return tuple(rows)

    def _candidate(self, stage: int, layer: Layer) -> Candidate:
        known = self._candidates[stage]
        if layer not in known:
            names = ", ".join(one.name for one in known.values())
            raise UsageError(
                f"stage {stage + 1} of {self.name} has no expansion {layer.width} with kernel "
                f"{layer.kernel_size}; grown are {names}"
            )
        return known[layer]

    def _first(self, stage: int) -> int:
        """Return the first decision of a stage."""
        return sum(one.depth for one in self.space.stages[:stage])
