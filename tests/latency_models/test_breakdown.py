"""A network's predicted latency, block by block, with the source of each figure."""

from __future__ import annotations

from collections.abc import Sequence

from hwnas.latency_models.breakdown import breakdown
from hwnas.latency_models.fitting.fit import fit_model
from hwnas.latency_models.model import LatencyModel
from hwnas.latency_models.observation import Observation
from tests.support.data.synthetic import BLOCKS, isolated, networks


def test_a_kernel_that_no_measured_network_has_is_told() -> None:
    """The cost of 7x7 blocks inside networks may differ from their isolated time, as it does in
    LiteRT."""
    without = [
        network
        for network in networks(60, 0, 0.01)
        if all(block.kernel_size != 7 for block in network.blocks)
    ]
    blocks = [block for block in BLOCKS if block.op == "mbconv"]
    assert len(without) >= 3 and {block.kernel_size for block in blocks} == {3, 5, 7}
    result = breakdown(fitted([*isolated(noise=0.01), *without]), blocks)
    assert result.only_isolated == ("mbconv kernel 7",)
    assert result.never_measured == ()
    for cost, block in zip(result.blocks, blocks, strict=True):
        assert bool(cost.only_isolated) == (block.kernel_size == 7)
    everywhere = fitted([*isolated(noise=0.01), *networks(60, 0, 0.01)])
    assert breakdown(everywhere, blocks).only_isolated == ()
    assert breakdown(fitted(isolated(noise=0.01)), blocks).only_isolated == ()


def fitted(observed: Sequence[Observation]) -> LatencyModel:
    return fit_model("phone", observed, source="a test", validate=False)
