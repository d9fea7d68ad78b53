"""The squeeze-excite of a block."""

from __future__ import annotations

import msgspec

from hwnas.architecture.architecture import Block
from hwnas.pretrained.recognise.groups import Gate
from hwnas.pretrained.recognise.reading import Match, ModulePairs, Reading


def gated_match(rest: Reading, block: Block, pairs: ModulePairs, gate: Gate | None) -> Match | None:
    """Return ``block`` with the squeeze-excite that was read, if both have the form of ours."""
    gated = with_gate(block, gate)
    return None if gated is None else rest.match(gated[0], pairs | gated[1])


def with_gate(
    block: Block, gate: Gate | None, ours: str = "layers.se"
) -> tuple[Block, ModulePairs] | None:
    """Return ``block`` with a squeeze-excite, which is ``ours`` in it, and the module pairs.

    None if the squeeze-excite is not one of ours: with biases, and the same activation.
    """
    if gate is None:
        return block, {}
    squeeze, excite = gate.squeeze, gate.excite
    activation = "silu" if block.activation == "silu" else "relu"
    has_biases = squeeze.module.bias is not None and excite.module.bias is not None
    if squeeze.activation != activation or not has_biases:
        return None
    gated = msgspec.structs.replace(
        block,
        squeeze_excite=True,
        gate="sigmoid" if gate.sigmoid else "hardsigmoid",
        squeezed=squeeze.out_channels,
    )
    return gated, {f"{ours}.squeeze": squeeze.path, f"{ours}.excite": excite.path}
