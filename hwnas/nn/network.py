"""Networks of blocks: in a row, or with branches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor, nn

from hwnas.architecture.architecture import NORM_EPS, Block
from hwnas.architecture.graph import IMAGE, Inputs
from hwnas.nn.blocks.ends import Logits
from hwnas.nn.blocks.table import block_module


class Network(nn.Module):
    """Blocks in a row: images ``[N, C, H, W]`` to logits ``[N, classes]``."""

    def __init__(
        self, blocks: tuple[Block, ...], dropout: float = 0.0, norm_eps: float = NORM_EPS
    ) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(block_module(block) for block in blocks))
        for module in self.modules():
            if isinstance(module, Logits):
                module.dropout.p = dropout
        self.norm_eps = norm_eps
        set_norm_eps(self, norm_eps)

    def forward(self, images: Tensor) -> Tensor:
        return self.blocks(images)


class WiredNetwork(Network):
    """Blocks as ``inputs`` connects them: images ``[N, C, H, W]`` to logits ``[N, classes]``."""

    def __init__(
        self,
        blocks: tuple[Block, ...],
        inputs: Inputs,
        dropout: float = 0.0,
        norm_eps: float = NORM_EPS,
    ) -> None:
        super().__init__(blocks, dropout, norm_eps)
        self.inputs = inputs
        self.drop_path = 0.0
        """Probability that a branch of a sum is dropped for a training image, see `drop_path`."""
        self.branches = _branches(blocks, inputs)

    def forward(self, images: Tensor) -> Tensor:
        return self.outputs(images, ())[0]

    def outputs(self, images: Tensor, places: tuple[int, ...]) -> tuple[Tensor, ...]:
        """Return the outputs of the last block and of the blocks at ``places``."""

        def run(place: int, *given: Tensor) -> Tensor:
            value = self.blocks[place](*given)
            if self.training and self.drop_path and place in self.branches:
                value = drop_path(value, self.drop_path)
            return value

        return run_wired(self.inputs, images, run, places)


def set_norm_eps(network: nn.Module, eps: float) -> None:
    """Set the constant that all batch norms of ``network`` add to the variance."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = eps


def run_wired(
    inputs: Inputs,
    images: Tensor,
    run: Callable[..., Tensor],
    places: tuple[int, ...] = (),
) -> tuple[Tensor, ...]:
    """Call ``run(place, *inputs)`` for each block; return the last output and those at ``places``.

    An output is freed after its last use, unless its gradient needs it.
    """
    last_use = {source: place for place, sources in enumerate(inputs) for source in sources}
    values: dict[int, Tensor] = {IMAGE: images}
    for place, sources in enumerate(inputs):
        values[place] = run(place, *(values[source] for source in sources))
        for source in set(sources):
            if last_use[source] == place and source not in places:
                del values[source]
    return tuple(values[place] for place in (len(inputs) - 1, *places))


def drop_path(branch: Tensor, probability: float) -> Tensor:
    """Zero whole images of ``branch`` ``[N, C, H, W]``; scale the others to keep the expectation.

    As in FractalNet (Larsson et al., ICLR 2017, arXiv:1605.07648) and DARTS's final training.
    """
    keep_probability = 1.0 - probability
    return (
        branch
        * torch.bernoulli(branch.new_full((len(branch), 1, 1, 1), keep_probability))
        / keep_probability
    )


def _branches(blocks: tuple[Block, ...], inputs: Inputs) -> frozenset[int]:
    """Blocks whose output is a term of a sum and nothing else, except shortcuts.

    Shortcuts are never dropped, whether they keep, halve or widen their input: without its shortcut
    a residual block would lose the output of all earlier blocks.
    """
    uses = Counter(source for sources in inputs for source in sources)
    terms = {
        source
        for block, sources in zip(blocks, inputs, strict=True)
        if block.op == "add"
        for source in sources
    }
    return frozenset(
        place
        for place in terms
        if place != IMAGE and uses[place] == 1 and not _is_shortcut(blocks[place])
    )


def _is_shortcut(block: Block) -> bool:
    """Return whether a block only passes on its input; pooling of windows that do not overlap
    counts, too."""
    if block.op == "avg_pool":
        return block.kernel_size == block.stride
    return block.op in ("identity", "pad_channels")
