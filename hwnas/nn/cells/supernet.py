"""The search net of DARTS: every edge of a cell computes a weighted sum of all operations.

Liu, Simonyan and Yang, ICLR 2019, arXiv:1806.09055, section 2.2. All cells of a kind (normal,
reduction) share their weights; the strategy decides how these are computed, e.g. as a softmax or
as sparse gates. Batch norms of the cells have no gain and shift, which could undo the weights;
pools end in a batch norm.

With ``partial=k`` only 1/k of an edge's channels go through the operations, the others bypass
them, and the edges of a node have weights too: PC-DARTS, Xu et al., ICLR 2020, arXiv:1907.05737.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.errors import UsageError
from hwnas.nn.blocks.table import block_module
from hwnas.nn.cells.ops import cell_op
from hwnas.spaces.cells.genotype import CELL_INPUTS, DARTS_OPS, Edge
from hwnas.spaces.cells.layout import (
    CellPlace,
    Norm,
    cell_places,
    edge_block,
    logits_block,
    stem_blocks,
)
from hwnas.spaces.cells.space import CellSpace

Mask = Sequence[Sequence[bool]]
"""``[E, K]``: which operations to compute."""


class CellSupernet(nn.Module):
    """All networks of a cell space in one: images ``[N, C, H, W]`` to logits ``[N, classes]``."""

    def __init__(
        self,
        space: CellSpace,
        ops: Sequence[str] = DARTS_OPS,
        affine: bool = False,
        partial: int = 1,
    ) -> None:
        """``affine``: whether batch norms have gain and shift, like those of the networks.

        Raises `UsageError` if the channels cannot be split into ``partial`` parts, see
        `check_partial`.
        """
        super().__init__()
        self.space = space
        self.ops = tuple(ops)
        """The columns of the weights."""
        self.stem = nn.ModuleList(block_module(block) for block in stem_blocks(space.stack))
        # skips end in a batch norm only if those of the networks do
        norm: Norm = "pool and skip" if space.norm == "pool and skip" else "pool"
        places = cell_places(space.stack, space.nodes, space.nodes)
        check_partial(space, partial)
        self.cells = nn.ModuleList(
            MixedCell(place, space.nodes, self.ops, norm, affine, partial) for place in places
        )
        last = places[-1]
        head = logits_block(space.nodes * last.channels, last.out_size, space.num_classes)
        self.head = block_module(head)

    def forward(
        self,
        images: Tensor,
        normal: Tensor,
        reduction: Tensor,
        computed: tuple[Mask, Mask] | None = None,
        edges: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Sum with weights ``[E, K]``, edges in the order node 2 from 0, from 1, node 3 from 0, ….

        ``computed`` (normal, reduction) masks the operations to run; by default all are run.
        ``edges [E]`` are weights of whole edges, including the channels that bypass operations.
        Weights on the host are copied to the device of ``images``, and their gradients back, once
        for all operations.
        """
        device = images.device
        normal, reduction = normal.to(device), reduction.to(device)
        if edges is not None:
            edges = edges[0].to(device), edges[1].to(device)
        s0, s1 = self.begin(images)
        for cell in self.mixed:
            kind = int(cell.reduction)
            mask = None if computed is None else computed[kind]
            edge_weights = None if edges is None else edges[kind]
            s0, s1 = s1, cell(s0, s1, (normal, reduction)[kind], mask, edge_weights)
        return self.head(s1)

    def begin(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the inputs of the first cell."""
        outputs = [images]
        for block in self.stem:
            outputs.append(block(outputs[-1]))
        return (outputs[-1] if self.space.stem == "cifar" else outputs[-2]), outputs[-1]

    @property
    def mixed(self) -> list[MixedCell]:
        """The cells, in order."""
        return cast(list[MixedCell], list(self.cells))


def check_partial(space: CellSpace, partial: int) -> None:
    """Raise `UsageError` unless ``partial`` equal parts have at least two channels each."""
    if partial > 1 and (space.channels % partial or space.channels < 2 * partial):
        raise UsageError(
            f"cells of {space.channels} channels cannot be split into {partial} equal parts of at "
            f"least 2; expected a multiple of {partial}, at least {2 * partial}"
        )


class MixedCell(nn.Module):
    """A cell in which every node sums all operations on all nodes before it."""

    def __init__(
        self,
        place: CellPlace,
        nodes: int,
        ops: Sequence[str],
        norm: Norm,
        affine: bool,
        partial: int,
    ) -> None:
        super().__init__()
        self.reduction = place.reduction
        self.preprocess = nn.ModuleList(cell_op(block, affine) for block in place.preprocess)
        self.edges = nn.ModuleList(
            MixedEdge(place, source, ops, norm, affine, partial)
            for node in range(CELL_INPUTS, CELL_INPUTS + nodes)
            for source in range(node)
        )
        self.nodes = range(CELL_INPUTS, CELL_INPUTS + nodes)

    def forward(
        self,
        s0: Tensor,
        s1: Tensor,
        weights: Tensor,
        mask: Mask | None,
        edge_weights: Tensor | None,
    ) -> Tensor:
        first, second = self.preprocess
        states = [first(s0), second(s1)]
        edge = 0
        for node in self.nodes:
            total = None
            for source in range(node):
                row = None if mask is None else mask[edge]
                idle = row is not None and not any(row)
                if not idle or (
                    total is None and source == node - 1
                ):  # a node without edges is zero
                    term = self.edges[edge](states[source], weights[edge], row)
                    if edge_weights is not None:
                        term = edge_weights[edge] * term
                    total = term if total is None else total + term
                edge += 1
            states.append(total)
        return torch.cat(states[CELL_INPUTS:], dim=1)


class MixedEdge(nn.Module):
    """All operations on one source; ``none`` has a weight but adds nothing."""

    def __init__(
        self,
        place: CellPlace,
        source: int,
        ops: Sequence[str],
        norm: Norm,
        affine: bool,
        partial: int,
    ) -> None:
        super().__init__()
        self.stride = 2 if place.reduction and source < CELL_INPUTS else 1
        self.partial = partial
        narrow = place._replace(channels=place.channels // partial)
        self.ops = nn.ModuleDict(
            {
                op: cell_op(edge_block(Edge(op, source), narrow, norm), affine)
                for op in ops
                if op != "none"
            }
        )
        self.columns = {op: column for column, op in enumerate(ops)}

    def forward(self, x: Tensor, weights: Tensor, mask: Sequence[bool] | None) -> Tensor:
        if mask is not None and not any(mask):
            return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])
        if self.partial == 1:
            return self._mixed(x, weights, mask)
        num_active = x.shape[1] // self.partial
        bypass = x[:, num_active:]
        if self.stride == 2:
            bypass = F.max_pool2d(bypass, 2, 2)
        return _channel_shuffle(
            torch.cat((self._mixed(x[:, :num_active], weights, mask), bypass), 1), self.partial
        )

    def _mixed(self, x: Tensor, weights: Tensor, mask: Sequence[bool] | None) -> Tensor:
        total = None
        for name, op in self.ops.items():
            column = self.columns[name]
            if mask is None or mask[column]:
                term = weights[column] * op(x)
                total = term if total is None else total + term
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride]) if total is None else total


def _channel_shuffle(x: Tensor, groups: int) -> Tensor:
    """Interleave ``groups`` parts of the channels, so that the next edge processes other ones."""
    count, channels, height, width = x.shape
    split = x.reshape(count, groups, channels // groups, height, width)
    return split.transpose(1, 2).reshape(count, channels, height, width)


class CellPath(nn.Module):
    """A copy of a search net with fixed weights, without the operations whose weight is 0."""

    def __init__(self, supernet: CellSupernet, normal: Tensor, reduction: Tensor) -> None:
        super().__init__()
        device = next(supernet.parameters()).device
        self.register_buffer("normal", normal.detach().to(device, copy=True))
        self.register_buffer("reduction", reduction.detach().to(device, copy=True))
        self.computed: tuple[Mask, Mask] = ((normal != 0).tolist(), (reduction != 0).tolist())
        self.supernet = deepcopy(supernet, _left_out(supernet, self.computed))

    def forward(self, images: Tensor) -> Tensor:
        normal, reduction = cast(Tensor, self.normal), cast(Tensor, self.reduction)
        return self.supernet(images, normal, reduction, self.computed)


def _left_out(supernet: CellSupernet, computed: tuple[Mask, Mask]) -> dict[int, Any]:
    """Return what takes the place of each operation that is not run, by the operation's id: a
    supernet is mostly these, and copying them takes most of the time."""
    nothing = nn.Identity()
    return {
        id(op): nothing
        for cell in supernet.mixed
        for edge, row in zip(
            cast(list[MixedEdge], list(cell.edges)), computed[int(cell.reduction)], strict=True
        )
        for name, op in edge.ops.items()
        if not row[edge.columns[name]]
    }
