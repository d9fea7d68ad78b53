"""The data that the network correction is fitted to: observations of networks, and their blocks.

`hwnas.latency_models.fitting.design_matrix` makes these arrays from observations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from hwnas.architecture.architecture import Block
from hwnas.latency_models.features import Floats
from hwnas.latency_models.fitting.block_prior import BlockCosts, BlockPrior, Index


class NetworkData(NamedTuple):
    """Observations of networks, and of blocks inside networks, over a list of ``B`` blocks."""

    counts: Floats
    """Number of times that an observation has each block, ``[N, B]``."""
    ms: Floats
    relative_error: Floats
    """Standard error of each latency, relative to it."""
    is_network: Floats
    """1 for a whole network, 0 for a block inside one."""
    session: Sequence[int]
    process: Sequence[int]


class BlockFeatures(NamedTuple):
    """The features of ``B`` blocks that the covariance terms use."""

    regressors: Floats
    """``[B, J]``, see `block_prior.cost_regressors`."""
    coordinates: Floats
    """``[B, D]`` of the shape kernel, see `features.shapes`."""
    groups: Index
    """Length scale of each coordinate."""
    params: Floats


class BlockGrid(NamedTuple):
    """The blocks that the correction covers: their prior costs and features."""

    blocks: Sequence[Block]
    costs: BlockCosts
    features: BlockFeatures
    prior: BlockPrior
    null_ms: float
