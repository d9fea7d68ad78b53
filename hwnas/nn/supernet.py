"""The over-parameterised network: every candidate of every decision, one path at a time.

With ``share_weights`` the MBConv candidates of a decision are cut from one set of weights: the
first ``expand_ratio * in_channels`` channels, and the centre of the largest kernel, as in
Once-for-All (Cai et al., ICLR 2020, arXiv:1908.09791) and slimmable networks; each candidate has
its own batch norms. Without, each candidate owns all its weights, as in ProxylessNAS. Short
searches need the sharing: otherwise each path is trained too rarely to be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.architecture.architecture import Block, Genotype
from hwnas.architecture.graph import chained
from hwnas.nn.blocks.layers import ACTIVATIONS, ConvNorm, SqueezeExcite
from hwnas.nn.blocks.mobile import MBConv
from hwnas.nn.blocks.table import block_module
from hwnas.nn.build import Network, build, initialise
from hwnas.nn.depthwise import depthwise_conv2d
from hwnas.nn.network import run_wired, set_norm_eps
from hwnas.nn.padding import same_depthwise_conv2d
from hwnas.spaces.space import SearchSpace

Slices = tuple[slice, ...]
"""The part of a weight that a candidate uses, as an index."""
Mix = Callable[[int, "MixedOp", Tensor, int], Tensor]
"""Computes a decision's output from (decision, its candidates, input, active candidate)."""


class MixedOp(nn.Module):
    """All candidates of one decision; a forward pass runs one of them."""

    def __init__(self, blocks: Sequence[Block], share_weights: bool) -> None:
        super().__init__()
        mbconvs = [block for block in blocks if block.op == "mbconv"]
        share = share_weights and len(mbconvs) > 1
        self.shared = SharedMBConv(mbconvs) if share else None
        self.candidates = nn.ModuleList(
            SlicedMBConv(block) if share and block.op == "mbconv" else block_module(block)
            for block in blocks
        )

    def __len__(self) -> int:
        return len(self.candidates)

    def start_as_identity(self) -> None:
        """Set the last gain of sliced candidates with a shortcut to 0, as `initialise` does in a
        network, so that skips are compared fairly."""
        for candidate in self.candidates:
            if isinstance(candidate, SlicedMBConv) and candidate.block.residual:
                nn.init.zeros_(candidate.project_norm.weight)

    def forward(self, x: Tensor, choice: int) -> Tensor:
        candidate = self.candidates[choice]
        return candidate(x, self.shared) if isinstance(candidate, SlicedMBConv) else candidate(x)


class SharedMBConv(nn.Module):
    """The convolutions of the largest MBConv of a decision, from which the others are cut."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        super().__init__()
        first = blocks[0]
        mid = max(block.mid_channels for block in blocks)
        kernel_size = max(block.kernel_size for block in blocks)
        self.expand = nn.Conv2d(first.in_channels, mid, 1, bias=False)
        self.depthwise = nn.Conv2d(mid, mid, kernel_size, groups=mid, bias=False)
        self.project = nn.Conv2d(mid, first.out_channels, 1, bias=False)

    def slices(self, block: Block) -> dict[Tensor, Slices]:
        """Return which part of the expand, depthwise and project weights a candidate uses."""
        mid, kernel_size = slice(block.mid_channels), block.kernel_size
        edge = (self.depthwise.kernel_size[0] - kernel_size) // 2
        centre, whole = slice(edge, edge + kernel_size), slice(None)
        return {
            self.expand.weight: (mid,),
            self.depthwise.weight: (mid, whole, centre, centre),
            self.project.weight: (whole, mid),
        }

    def kernels(self, block: Block) -> tuple[Tensor, Tensor, Tensor]:
        """Return the expand, depthwise and project weights of one candidate, as views."""
        expand, depthwise, project = (weight[part] for weight, part in self.slices(block).items())
        return expand, depthwise, project


class SlicedMBConv(nn.Module):
    """One MBConv candidate on shared convolutions, with its own batch norms."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block
        mid = block.mid_channels
        self.expand_norm = nn.BatchNorm2d(mid)
        self.depthwise_norm = nn.BatchNorm2d(mid)
        self.project_norm = nn.BatchNorm2d(block.out_channels)
        self.act = ACTIVATIONS[block.activation]()
        self.se = (
            SqueezeExcite(mid, block.se_channels, block.activation, block.gate)
            if block.squeeze_excite
            else nn.Identity()
        )

    def forward(self, x: Tensor, shared: SharedMBConv) -> Tensor:
        block = self.block
        expand, depthwise, project = shared.kernels(block)
        y = self.act(self.expand_norm(F.conv2d(x, expand))) if block.expand_ratio != 1 else x
        convolve = same_depthwise_conv2d if block.padding == "same" else depthwise_conv2d
        y = convolve(y, depthwise, block.stride)
        y = self.se(self.act(self.depthwise_norm(y)))
        y = self.project_norm(F.conv2d(y, project))
        return x + y if block.residual else y

    @torch.no_grad()
    def copy_to(self, mbconv: MBConv, shared: SharedMBConv) -> None:
        """Write this candidate's weights and statistics into a stand-alone block."""
        convs = shared.kernels(self.block)
        norms = (self.expand_norm, self.depthwise_norm, self.project_norm)
        for name, weight, norm in zip(
            ("expand", "depthwise", "project"), convs, norms, strict=True
        ):
            if hasattr(mbconv.layers, name):
                layer: ConvNorm = getattr(mbconv.layers, name)
                layer.conv.weight.copy_(weight)
                layer.norm.load_state_dict(norm.state_dict())
        if self.block.squeeze_excite:
            mbconv.layers.get_submodule("se").load_state_dict(self.se.state_dict())


class Supernet(nn.Module):
    """All networks of a space in one: images ``[N, C, H, W]`` to logits ``[N, classes]``.

    All networks of the space must have the same wiring, and each block at most one decision.
    """

    def __init__(self, space: SearchSpace, share_weights: bool = True) -> None:
        super().__init__()
        self.space = space
        default = space.architecture(space.default)
        self.inputs = default.inputs or chained(default.blocks)
        self.block_decisions = space.block_decisions(default)
        """Decision of each block, None for fixed blocks."""
        rows: list[list[Block]] = [[] for _ in space.decisions]
        for site in space.sites():
            rows[site.decision].append(site.block)
        first = self.block_decisions.index(0)
        fixed = [
            block
            for block, decision in zip(default.blocks, self.block_decisions, strict=True)
            if decision is None
        ]
        self.stem = nn.Sequential(*(block_module(block) for block in fixed[:first]))
        self.mixed = nn.ModuleList(MixedOp(row, share_weights) for row in rows)
        self.head = nn.Sequential(*(block_module(block) for block in fixed[first:]))
        """The fixed blocks after the first decision."""
        set_norm_eps(self, default.norm_eps)
        if not default.inputs:
            initialise(self)
            for op in self.ops:
                op.start_as_identity()

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all modules, unless this one has it already: there are thousands of
        modules."""
        return self if self.training == mode else super().train(mode)

    def forward(self, images: Tensor, choices: Sequence[int], mix: Mix | None = None) -> Tensor:
        """Run the path of ``choices``; ``mix`` may replace how a decision's output is computed."""
        fixed, ops = iter(self.fixed), self.ops

        def run(place: int, *given: Tensor) -> Tensor:
            decision = self.block_decisions[place]
            if decision is None:
                return next(fixed)(*given)
            op, [x], choice = ops[decision], given, choices[decision]
            return mix(decision, op, x, choice) if mix is not None else op(x, choice)

        return run_wired(self.inputs, images, run)[0]

    @property
    def ops(self) -> list[MixedOp]:
        """The decisions' candidates, in the order of the space."""
        return cast(list[MixedOp], list(self.mixed))

    @property
    def fixed(self) -> list[nn.Module]:
        """The blocks that all networks have, in their order."""
        return [*self.stem, *self.head]

    def slices(self, choices: Sequence[int]) -> dict[Tensor, Slices]:
        """Return the parts of the shared weights that the path of ``choices`` uses."""
        used: dict[Tensor, Slices] = {}
        for op, choice in zip(self.ops, choices, strict=True):
            candidate = op.candidates[choice]
            if isinstance(candidate, SlicedMBConv):
                used |= cast(SharedMBConv, op.shared).slices(candidate.block)
        return used

    @torch.no_grad()
    def extract(self, genotype: Genotype) -> Network:
        """Return the stand-alone network of a genotype with a copy of this supernet's weights.

        It is on the device of the supernet.
        """
        network = build(self.space.architecture(genotype)).to(next(self.parameters()).device)
        fixed, ops = iter(self.fixed), self.ops
        for target, decision in zip(network.blocks, self.block_decisions, strict=True):
            if decision is None:
                target.load_state_dict(next(fixed).state_dict())
                continue
            op = ops[decision]
            candidate = op.candidates[genotype.choices[decision]]
            if isinstance(candidate, SlicedMBConv):
                candidate.copy_to(cast(MBConv, target), cast(SharedMBConv, op.shared))
            else:
                target.load_state_dict(candidate.state_dict())
        return network
