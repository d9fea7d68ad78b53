"""Chains of MBConv as networks that grow: `mobile`, `ofa` and user-defined chains.

A stage has at least the blocks that cannot be skipped, and another one for each skip that is
filled; skips come after the blocks of a stage. The width of a layer is its expansion. Only MBConvs
of integer expansions above 1 grow: others have no expansion layer to widen, and fused ones of
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
    """Return a space in the form that strategy ``eas`` grows, or raise `UsageError`."""
    if isinstance(space, MobileSpace):
        grown = GrownMobile(space)
        _ = grown.stages  # raises where a stage has nothing to grow
        return grown
    if not isinstance(space, GrownSpace):
        raise UsageError(
            f"strategy 'eas' grows networks layer by layer, which the space {space.name!r} doesn't "
            "support; spaces that do: chain, chain-large, densenet, mobile, ofa, proxyless, "
            'TOML files of such chains and those with family = "plain"'
        )
    return space


class GrownMobile(msgspec.Struct, frozen=True, dict=True):
    """The networks of a chain between its smallest and its largest MBConvs."""

    space: MobileSpace
    family: Literal["mobile"] = "mobile"
    wider_actions: int = 2
    larger_actions: int = 2
    deeper_actions: int = 5
    """Numbers of actions in an episode; they are not from a paper."""

    @property
    def name(self) -> str:
        return self.space.name

    @property
    def stem(self) -> tuple[Block, ...]:
        return self.space.stem

    @property
    def stages(self) -> tuple[GrownStage, ...]:
        """The stages. Raises `UsageError` for a stage without an MBConv that can grow."""
        return self._stages

    @cached_property
    def _stages(self) -> tuple[GrownStage, ...]:
        stages: list[GrownStage] = []
        for number, stage in enumerate(self.space.stages):
            known = self._candidates[number]
            widths = tuple(sorted({layer.width for layer in known}))
            kernels = tuple(sorted({layer.kernel_size for layer in known}))
            if not known or len(known) < len(widths) * len(kernels):
                raise UsageError(
                    f"strategy 'eas' grows MBConvs, but stage {number + 1} of {self.name!r} doesn't"
                    " have every kernel size with every integer expansion above 1"
                )
            first = self._first(number)
            options = self.space.options[first : first + stage.depth]
            min_depth = max(1, sum(SKIP not in row for row in options))
            stages.append(
                GrownStage(
                    widths=widths,
                    kernels=kernels,
                    depth=stage.depth,
                    start=(Layer(widths[0], kernels[0]),) * min_depth,
                    default=(Layer(widths[-1], kernels[0]),) * stage.depth,
                    stride=stage.stride,
                    min_depth=min_depth,
                )
            )
        return tuple(stages)

    @property
    def start(self) -> Genotype:
        return self.genotype(tuple(stage.start for stage in self.stages))

    def genotype(self, layers: Layers) -> Genotype:
        """Return the choices for these layers. Raises `UsageError` for layers outside the space."""
        choices: list[int] = []
        for number, (stage, row) in enumerate(zip(self.stages, layers, strict=True)):
            if not stage.min_depth <= len(row) <= stage.depth:
                raise UsageError(
                    f"stage {number + 1} has {stage.min_depth} to {stage.depth} blocks in "
                    f"{self.name}, got {len(row)}"
                )
            for slot in range(stage.depth):
                options = self.space.options[self._first(number) + slot]
                candidate = self._candidate(number, row[slot]) if slot < len(row) else SKIP
                choices.append(options.index(candidate))
        return Genotype(self.name, tuple(choices))

    def layers(self, genotype: Genotype) -> Layers:
        """Return the layers of the choices. Raises `UsageError` for blocks that can't grow."""
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
                    raise UsageError(f"{where} of {self.name}: {candidate.name} can't grow")
                row += [named[candidate]] if candidate != SKIP else []
            rows.append(tuple(row))
        return tuple(rows)

    def placed_blocks(self, layers: Layers) -> list[tuple[Block, Place | None]]:
        """Return all blocks in order, each with the layer it belongs to; None for skips."""
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
        """The candidates of each stage by their layer. Of candidates that differ only in activation
        or squeeze-excite, the first is used.
        """
        rows: list[dict[Layer, Candidate]] = []
        for stage in self.space.stages:
            row: dict[Layer, Candidate] = {}
            for candidate in stage.candidates or self.space.candidates:
                ratio = candidate.expand_ratio
                if candidate.op == "mbconv" and ratio > 1 and ratio % 1 == 0:
                    row.setdefault(Layer(int(ratio), candidate.kernel_size), candidate)
            rows.append(row)
        return tuple(rows)

    def _candidate(self, stage: int, layer: Layer) -> Candidate:
        known = self._candidates[stage]
        if layer not in known:
            names = ", ".join(candidate.name for candidate in known.values())
            raise UsageError(
                f"stage {stage + 1} of {self.name} has no expansion {layer.width} with kernel "
                f"{layer.kernel_size}; those that grow are {names}"
            )
        return known[layer]

    def _first(self, stage: int) -> int:
        """Return the first decision of a stage."""
        return sum(before.depth for before in self.space.stages[:stage])
