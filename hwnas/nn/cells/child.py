"""The network selected by a cell supernet, with its gates folded into batch norms.

Yang et al., "ISTA-NAS", NeurIPS 2020, arXiv:2010.06176, section 3.3: the gate of an operation is
folded into its last batch norm, ``gate * (gain * x + shift) = (gate * gain) * x + gate * shift``.
The network then computes the same function as the search net, and training continues from there.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from hwnas.architecture.architecture import Genotype
from hwnas.errors import UsageError
from hwnas.nn.build import build
from hwnas.nn.cells.supernet import CellSupernet
from hwnas.nn.network import WiredNetwork
from hwnas.spaces.cells.layout import lay_out


@torch.no_grad()
def absorb_gates(
    supernet: CellSupernet, genotype: Genotype, normal: Tensor, reduction: Tensor
) -> WiredNetwork:
    """Return the network of ``genotype`` with a copy of the search net's weights, on its device.

    ``normal`` and ``reduction`` are gates ``[E, K]``; a gate of 0 was not learnt and counts as 1.
    Raises `UsageError` if the space has operations that do not end in a batch norm.
    """
    space = supernet.space
    if space.norm != "pool and skip":
        raise UsageError(
            f"networks of the space {space.name!r} have operations without a batch norm, so "
            "a gate cannot be folded into them"
        )
    network = cast(WiredNetwork, build(space.architecture(genotype)))
    network.to(next(supernet.parameters()).device)
    layout = lay_out(space.stack, space.cells(genotype))
    for name, target in zip(layout.names, network.blocks, strict=True):
        if not name:
            continue
        # without gain and shift in the search net, those of the network stay 1 and 0
        target.load_state_dict(supernet.get_submodule(name).state_dict(), strict=False)
        _, number, part, *rest = [*name.split("."), "", ""]
        if part == "edges":
            reduces = supernet.mixed[int(number)].reduction
            column = supernet.ops.index(rest[2])
            gate = (reduction if reduces else normal)[int(rest[0]), column]
            if gate != 0:
                norm = last_norm(target)
                norm.weight.mul_(gate)
                norm.bias.mul_(gate)
    return network


def last_norm(op: nn.Module) -> nn.BatchNorm2d:
    """Return the batch norm that ends an operation."""
    return [module for module in op.modules() if isinstance(module, nn.BatchNorm2d)][-1]
