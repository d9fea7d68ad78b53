"""A random forest for each kind of block, as nn-Meter predicts kernels.

Zhang et al., "nn-Meter: Towards Accurate Latency Prediction of Deep-Learning Model Inference on
Diverse Edge Devices", MobiSys 2021: a forest for each kind of kernel, on its shapes, MACs and
parameters; a network takes the sum of its kernels. The published tables time whole blocks, so a
block is a kernel here. Trees and depth are those of nn-Meter's code for kinds of kernels that it
lists no others for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self, cast

import numpy as np

from hwnas.architecture.architecture import Block
from hwnas.latency_models.observation import Observation
from tools.lib.latency.bench import Floats

TREES, DEPTH = 370, 50


class BlockForests:
    """Predicts the latency of blocks by the forest of their operation."""

    def __init__(self, by_op: dict[str, Any]) -> None:
        self.by_op = by_op

    @classmethod
    def fitted(cls, observations: Sequence[Observation]) -> Self:
        """Return forests fitted to timings of single blocks."""
        from sklearn.ensemble import RandomForestRegressor  # pyright: ignore

        new_forest: Any = cast(Any, RandomForestRegressor)
        by_op: dict[str, Any] = {}
        for op in dict.fromkeys(each.blocks[0].op for each in observations):
            same = [each for each in observations if each.blocks[0].op == op]
            forest = new_forest(TREES, max_depth=DEPTH, random_state=0)
            by_op[op] = forest.fit(
                _features([each.blocks[0] for each in same]), [each.ms for each in same]
            )
        return cls(by_op)

    def blocks_ms(self, blocks: Sequence[Block]) -> Floats:
        """Return the latency of each block ``[B]``."""
        ms = np.zeros(len(blocks))
        for op, forest in self.by_op.items():
            rows = [row for row, block in enumerate(blocks) if block.op == op]
            if rows:
                ms[rows] = forest.predict(_features([blocks[row] for row in rows]))
        return ms

    def network_ms(self, blocks: Sequence[Block]) -> float:
        """Return the sum over the blocks of a network."""
        return float(self.blocks_ms(blocks).sum())


def _features(blocks: Sequence[Block]) -> Floats:
    return np.array(
        [
            [
                *block.in_shape,
                block.out_channels,
                block.kernel_size,
                block.stride,
                block.expand_ratio,
                block.squeeze_excite,
                block.macs,
                block.params,
            ]
            for block in blocks
        ],
        dtype=float,
    )
