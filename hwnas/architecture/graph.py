"""The wiring of a network as plain data, checked when an `Architecture` is constructed.

``inputs[i]`` are the indices of the blocks (`IMAGE` for the image) whose outputs block ``i`` takes,
in order. They are smaller than ``i``, so the blocks can run in their order; the last block is the
output. An empty wiring, ``()``, is a chain: every block takes the output of the previous one.
"""

from __future__ import annotations

from collections.abc import Sequence

from hwnas.architecture.block import Block
from hwnas.architecture.size import axes
from hwnas.errors import UsageError

IMAGE = -1
"""The index that stands for the image."""

Inputs = tuple[tuple[int, ...], ...]


def check_wiring(
    blocks: Sequence[Block], inputs: Inputs, input_shape: tuple[int, int, int]
) -> None:
    """Raise a `UsageError` that names the first block with impossible inputs."""
    if len(inputs) != len(blocks):
        raise UsageError(f"the wiring has inputs of {len(inputs)} blocks, there are {len(blocks)}")
    for place, (block, sources) in enumerate(zip(blocks, inputs, strict=True)):
        name = f"block {place} ({block.label})"
        if len(sources) != block.num_inputs:
            raise UsageError(
                f"{name} takes {_counted(block.num_inputs)}, its wiring has {len(sources)}"
            )
        for source in sources:
            _check_place(name, source, place, len(blocks))
            _check_shape(name, block, source, blocks, input_shape)
    used = {source for sources in inputs for source in sources}
    for place, block in enumerate(blocks[:-1]):
        if place not in used:
            raise UsageError(f"block {place} ({block.label}): no block takes its output")


def chained(blocks: Sequence[Block]) -> Inputs:
    """Return the wiring of a chain, in which a block of several inputs takes the previous one for
    each."""
    return tuple((place - 1,) * block.num_inputs for place, block in enumerate(blocks))


def _check_place(name: str, source: int, place: int, count: int) -> None:
    if not IMAGE <= source < count:
        raise UsageError(
            f"{name} takes the output of block {source}, which does not exist; "
            f"there are blocks 0 to {count - 1}, and {IMAGE} is the image"
        )
    if source == place:
        raise UsageError(f"{name} takes its own output: a cycle")
    if source > place:
        raise UsageError(
            f"{name} takes the output of block {source}, which is not before it: "
            "a cycle, or blocks in an order in which they cannot run"
        )


def _check_shape(
    name: str,
    block: Block,
    source: int,
    blocks: Sequence[Block],
    input_shape: tuple[int, int, int],
) -> None:
    expected = block.in_shape
    if source == IMAGE:
        what, given = "the image", tuple(input_shape)
    else:
        before = blocks[source]
        what = f"block {source} ({before.label})"
        given = (before.out_channels, *axes(before.out_size))
    if given != expected:
        raise UsageError(f"{name} takes {_shape(expected)}, {what} gives {_shape(given)}")


def _shape(shape: tuple[int, ...]) -> str:
    channels, height, width = shape
    return f"{channels} channels of {height}x{width}"


def _counted(inputs: int) -> str:
    return f"{inputs} input{'s' if inputs != 1 else ''}"
