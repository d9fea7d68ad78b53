"""Steps from one network of a growing space to another, without weights.

`wider` and `deeper` are those of EAS (arXiv:1707.04873), `larger` gives an MBConv a larger kernel;
they preserve the function of a trained network. `narrower` and `shallower` shrink a start network
that is over the budget.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Protocol

import msgspec

from hwnas.architecture.architecture import Architecture, Block, Genotype
from hwnas.errors import UsageError
from hwnas.spaces.grown.space import GrownStage, Layer, Layers, Place


class Growable(Protocol):
    """A space whose networks can grow: `GrownSpace` or `GrownMobile`."""

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
        """The network with which growth begins."""
        ...

    @property
    def wider_actions(self) -> int: ...

    @property
    def larger_actions(self) -> int: ...

    @property
    def deeper_actions(self) -> int: ...

    def genotype(self, layers: Layers) -> Genotype: ...

    def layers(self, genotype: Genotype) -> Layers: ...

    def placed_blocks(self, layers: Layers) -> list[tuple[Block, Place | None]]:
        """Return all blocks in order, each with the layer it belongs to."""
        ...

    def architecture(self, genotype: Genotype) -> Architecture: ...


class Step(msgspec.Struct, frozen=True):
    """A change of a network at one layer."""

    kind: Literal["wider", "larger", "deeper", "narrower", "shallower"]
    stage: int
    layer: int
    value: int = 0
    """The new width; for ``larger`` the new kernel size, for ``deeper`` that of the layer that is
    added after this one."""

    @property
    def description(self) -> str:
        """For reports, with stages and layers counted from 1: ``wider 2.1 to 24``."""
        where = f"{self.kind} {self.stage + 1}.{self.layer + 1}"
        if self.kind == "shallower":
            return where
        if self.kind in ("larger", "deeper"):
            return f"{where} k{self.value}"
        return f"{where} to {self.value}"


def apply_step(space: Growable, layers: Layers, step: Step) -> Layers:
    """Return the layers after ``step``. Raises `UsageError` if its layer does not exist."""
    try:
        row = layers[step.stage]
        old = row[step.layer]
    except IndexError:
        raise UsageError(f"{step.description}: the space {space.name} has no such layer") from None
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
    """Return the step to the next width; None at the widest."""
    now = layers[place.stage][place.layer].width
    wider = [width for width in space.stages[place.stage].widths if width > now]
    return Step("wider", place.stage, place.layer, wider[0]) if wider else None


def larger_step(space: Growable, layers: Layers, place: Place) -> Step | None:
    """Return the step to the next kernel size.

    None at the largest, in a space without such steps, and on a single pixel, where a larger kernel
    has no effect.
    """
    now = layers[place.stage][place.layer].kernel_size
    larger = [kernel for kernel in space.stages[place.stage].kernels if kernel > now]
    if not larger or not space.larger_actions:
        return None
    block = next(block for block, at in space.placed_blocks(layers) if at == place)
    return Step("larger", place.stage, place.layer, larger[0]) if block.in_size != 1 else None


def deeper_steps(space: Growable, layers: Layers, place: Place) -> list[Step]:
    """Return the steps that add a layer after ``place``, one for each kernel; none in a full stage.

    On a single pixel only a kernel of 1 is added, as a larger kernel has no effect.
    """
    stage = space.stages[place.stage]
    if len(layers[place.stage]) >= stage.depth:
        return []
    block = next(block for block, at in space.placed_blocks(layers) if at == place)
    kernels = [kernel for kernel in stage.kernels if block.out_size != 1 or kernel == 1]
    return [Step("deeper", place.stage, place.layer, kernel) for kernel in kernels]


def smaller_steps(space: Growable, layers: Layers) -> Iterator[Step]:
    """Yield all steps to the next narrower width, and all that remove a layer other than the first
    of its stage, which has the stride."""
    for number, (stage, row) in enumerate(zip(space.stages, layers, strict=True)):
        for place, layer in enumerate(row):
            narrower = [width for width in stage.widths if width < layer.width]
            if narrower:
                yield Step("narrower", number, place, narrower[-1])
            if place and len(row) > stage.min_depth:
                yield Step("shallower", number, place)


def sentence(space: Growable, layers: Layers) -> list[tuple[str, Place | None]]:
    """Return a network as the controller reads it: a word for each layer, pool and transition.

    The words are those of the EAS code: ``conv-16-3``, ``fc-64``, ``pool``; ``g12``, ``t``; and
    ``mb-6-3`` for an MBConv. Strides, the first convolution of a dense network, stem and head of a
    mobile network, skips and the classifier have no word.
    """
    words: list[tuple[str, Place | None]] = []
    for block, at in space.placed_blocks(layers):
        if at is not None:
            layer, stage = layers[at.stage][at.layer], space.stages[at.stage]
            words.append((word(space, stage.fully_connected, layer), at))
        elif block.op in ("max_pool", "global_pool") and block not in space.stem:
            words.append(("pool", None))
        elif block.op == "transition":
            words.append(("t", None))
    return words


def word(space: Growable, fully_connected: bool, layer: Layer) -> str:
    if space.family == "dense":
        return f"g{layer.width}"
    if space.family == "mobile":
        return f"mb-{layer.width}-{layer.kernel_size}"
    return f"fc-{layer.width}" if fully_connected else f"conv-{layer.width}-{layer.kernel_size}"


def vocabulary(space: Growable) -> dict[str, int]:
    """Return the number of each word that a network of the space may have.

    Number 0 is for padding, as in the EAS code.
    """
    words = dict.fromkeys(
        word(space, stage.fully_connected, layer)
        for stage in space.stages
        for layer in stage.options
    )
    return {name: number for number, name in enumerate([*words, "pool", "t"], 1)}
