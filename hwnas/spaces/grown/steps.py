"""Steps from one network of a space that is grown to another, without weights.

`wider` and `deeper` are those of EAS (arXiv:1707.04873), `larger` gives an MBConv a larger kernel;
they preserve what a trained network computes. `narrower` and `shallower` take away, for a start
network that is over the budget.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Protocol

import msgspec

from hwnas.architecture.architecture import Architecture, Block, Genotype
from hwnas.errors import UsageError
from hwnas.spaces.grown.space import GrownStage, Layer, Layers, Place


class Growable(Protocol):
    """A space whose networks are grown: `GrownSpace` or `GrownMobile`."""

    @property
    def name(self) -> str: ...

    @property
    def family(self) -> Literal["plain", "dense", "mobile"]: ...

    @property
    def stem(self) -> tuple[Block, ...]: ...

    @property
    def stages(self) -> tuple[GrownStage, ...]: ...

    @property
    def start(self) -> Genotype:
        """Where growth begins."""
        ...

    @property
    def wider_actions(self) -> int: ...

    @property
    def larger_actions(self) -> int: ...

    @property
    def deeper_actions(self) -> int: ...

    def genotype(self, layers: Layers) -> Genotype: ...

    def layers(self, genotype: Genotype) -> Layers: ...

    def laid_out(self, layers: Layers) -> list[tuple[Block, Place | None]]:
        """Return all blocks in order, and the layer that each one is."""
        ...

    def architecture(self, genotype: Genotype) -> Architecture: ...


class Step(msgspec.Struct, frozen=True):
    """What is done to a network at one layer."""

    kind: Literal["wider", "larger", "deeper", "narrower", "shallower"]
    stage: int
    layer: int
    value: int = 0
    """The new width; of ``larger`` the new kernel size, of ``deeper`` that of the layer added after
    this one."""

    @property
    def preserves(self) -> bool:
        return self.kind in ("wider", "larger", "deeper")

    @property
    def said(self) -> str:
        """In a report, stages and layers counted from 1: ``wider 2.1 to 24``."""
        where = f"{self.kind} {self.stage + 1}.{self.layer + 1}"
        if self.kind == "shallower":
            return where
        if self.kind in ("larger", "deeper"):
            return f"{where} k{self.value}"
        return f"{where} to {self.value}"


def stepped(space: Growable, layers: Layers, step: Step) -> Layers:
    """Return the network after ``step``. Raises `UsageError` where there is no such layer."""
    try:
        row = layers[step.stage]
        old = row[step.layer]
    except IndexError:
        raise UsageError(f"{step.said}: there is no such layer in {space.name}") from None
    before, after = row[: step.layer], row[step.layer + 1 :]
    if step.kind == "deeper":
        new = (*before, old, Layer(old.width, step.value), *after)
    elif step.kind == "shallower":
        new = (*before, *after)
    elif step.kind == "larger":
        new = (*before, Layer(old.width, step.value), *after)
    else:
        new = (*before, Layer(step.value, old.kernel_size), *after)
    return (*layers[: step.stage], new, *layers[step.stage + 1 :])


def wider_step(space: Growable, layers: Layers, place: Place) -> Step | None:
    """Return the step to the next width; ``None`` at the widest."""
    now = layers[place.stage][place.layer].width
    wider = [width for width in space.stages[place.stage].widths if width > now]
    return Step("wider", place.stage, place.layer, wider[0]) if wider else None


def larger_step(space: Growable, layers: Layers, place: Place) -> Step | None:
    """Return the step to the next kernel size; ``None`` at the largest, in a space that gives none,
    and on a single pixel, of which a larger kernel sees no more."""
    now = layers[place.stage][place.layer].kernel_size
    larger = [kernel for kernel in space.stages[place.stage].kernels if kernel > now]
    if not larger or not space.larger_actions:
        return None
    block = next(block for block, at in space.laid_out(layers) if at == place)
    return Step("larger", place.stage, place.layer, larger[0]) if block.in_size > 1 else None


def deeper_steps(space: Growable, layers: Layers, place: Place) -> list[Step]:
    """Return the steps that add a layer after ``place``, one for each kernel; none in a full stage.

    On a single pixel only a kernel of 1 is one: of a larger one the middle alone would ever see it.
    """
    stage = space.stages[place.stage]
    if len(layers[place.stage]) >= stage.depth:
        return []
    block = next(block for block, at in space.laid_out(layers) if at == place)
    kernels = [one for one in stage.kernels if block.out_size > 1 or one == 1]
    return [Step("deeper", place.stage, place.layer, kernel) for kernel in kernels]


def smaller_steps(space: Growable, layers: Layers) -> Iterator[Step]:
    """Yield all steps to the next narrower width, and all that leave out a layer but the first of
    its stage: that one carries the stride."""
    for number, (stage, row) in enumerate(zip(space.stages, layers, strict=True)):
        for place, layer in enumerate(row):
            narrower = [width for width in stage.widths if width < layer.width]
            if narrower:
                yield Step("narrower", number, place, narrower[-1])
            if place and len(row) > stage.least:
                yield Step("shallower", number, place)


def sentence(space: Growable, layers: Layers) -> list[tuple[str, Place | None]]:
    """Return a network as the controller reads it: a word for each layer, pool and transition.

    Words are those of the EAS code: ``conv-16-3``, ``fc-64``, ``pool``; ``g12``, ``t``; and of an
    MBConv ``mb-6-3``. Strides, the first convolution of a dense network, stem and head of a mobile
    one, skips and the classifier have none.
    """
    found: list[tuple[str, Place | None]] = []
    for block, at in space.laid_out(layers):
        if at is not None:
            layer, stage = layers[at.stage][at.layer], space.stages[at.stage]
            found.append((word(space, stage.fully_connected, layer), at))
        elif block.op in ("max_pool", "global_pool") and block not in space.stem:
            found.append(("pool", None))
        elif block.op == "transition":
            found.append(("t", None))
    return found


def word(space: Growable, fully_connected: bool, layer: Layer) -> str:
    if space.family == "dense":
        return f"g{layer.width}"
    if space.family == "mobile":
        return f"mb-{layer.width}-{layer.kernel_size}"
    return f"fc-{layer.width}" if fully_connected else f"conv-{layer.width}-{layer.kernel_size}"


def vocabulary(space: Growable) -> dict[str, int]:
    """Return the number of each word that a network of the space may have; 0 is left for padding,
    as in the EAS code."""
    words = dict.fromkeys(
        word(space, stage.fully_connected, layer)
        for stage in space.stages
        for layer in stage.options
    )
    return {name: number for number, name in enumerate([*words, "pool", "t"], 1)}
