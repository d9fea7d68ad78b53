"""Steps from one network of a space that is grown to another, without weights.

`wider` and `deeper` are those of EAS (arXiv:1707.04873) and preserve what a trained network
computes; `narrower` and `shallower` take away, for a start network that is over the budget.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

from hwnas.errors import UsageError
from hwnas.spaces.grown import GrownSpace, Layer, Layers, Place


class Step(msgspec.Struct, frozen=True):
    """What is done to a network at one layer."""

    kind: Literal["wider", "deeper", "narrower", "shallower"]
    stage: int
    layer: int
    value: int = 0
    """The new width; of ``deeper`` the kernel size of the layer added after this one."""

    @property
    def preserves(self) -> bool:
        return self.kind in ("wider", "deeper")

    @property
    def said(self) -> str:
        """In a report, stages and layers counted from 1: ``wider 2.1 to 24``."""
        where = f"{self.kind} {self.stage + 1}.{self.layer + 1}"
        if self.kind == "shallower":
            return where
        return f"{where} k{self.value}" if self.kind == "deeper" else f"{where} to {self.value}"


def stepped(space: GrownSpace, layers: Layers, step: Step) -> Layers:
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
    else:
        new = (*before, Layer(step.value, old.kernel_size), *after)
    return (*layers[: step.stage], new, *layers[step.stage + 1 :])


def wider_step(space: GrownSpace, layers: Layers, place: Place) -> Step | None:
    """Return the step to the next width; ``None`` at the widest."""
    now = layers[place.stage][place.layer].width
    wider = [width for width in space.stages[place.stage].widths if width > now]
    return Step("wider", place.stage, place.layer, wider[0]) if wider else None


def deeper_steps(space: GrownSpace, layers: Layers, place: Place) -> list[Step]:
    """Return the steps that add a layer after ``place``, one for each kernel; none in a full stage.

    On a single pixel only a kernel of 1 is one: of a larger one the middle alone would ever see it.
    """
    stage = space.stages[place.stage]
    if len(layers[place.stage]) >= stage.depth:
        return []
    block = next(block for block, at in space.laid_out(layers) if at == place)
    kernels = [one for one in stage.kernels if block.out_size > 1 or one == 1]
    return [Step("deeper", place.stage, place.layer, kernel) for kernel in kernels]


def smaller_steps(space: GrownSpace, layers: Layers) -> Iterator[Step]:
    """Yield all steps to the next narrower width, and all that leave out a layer but the first of
    its stage: that one carries the stride."""
    for number, (stage, row) in enumerate(zip(space.stages, layers, strict=True)):
        for place, layer in enumerate(row):
            narrower = [width for width in stage.widths if width < layer.width]
            if narrower:
                yield Step("narrower", number, place, narrower[-1])
            if place:
                yield Step("shallower", number, place)


def sentence(space: GrownSpace, layers: Layers) -> list[tuple[str, Place | None]]:
    """Return a network as the controller reads it: a word for each layer, pool and transition.

    Words are those of the EAS code: ``conv-16-3``, ``fc-64``, ``pool``; ``g12``, ``t``. Strides,
    the first convolution of a dense network and the classifier have none.
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


def word(space: GrownSpace, fully_connected: bool, layer: Layer) -> str:
    if space.family == "dense":
        return f"g{layer.width}"
    return f"fc-{layer.width}" if fully_connected else f"conv-{layer.width}-{layer.kernel_size}"


def vocabulary(space: GrownSpace) -> dict[str, int]:
    """Return the number of each word that a network of the space may have; 0 is left for padding,
    as in the EAS code."""
    words = dict.fromkeys(
        word(space, stage.fully_connected, layer)
        for stage in space.stages
        for layer in stage.options
    )
    return {name: number for number, name in enumerate([*words, "pool", "t"], 1)}
