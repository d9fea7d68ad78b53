"""Wiring as plain data: what it means, and how a wrong one is refused."""

from __future__ import annotations

import msgspec
import pytest

from hwnas.architecture.architecture import Architecture, Block, Genotype
from hwnas.architecture.graph import IMAGE, chained
from hwnas.errors import UsageError

STEM = Block("conv_bn", 3, 8, 3, 1, 1, 8)
WIDE = Block("sep_conv", 8, 8, 3, 1, 1, 8, "relu")
POOL = Block("max_pool", 8, 8, 3, 1, 1, 8)
HALF = Block("max_pool", 8, 8, 3, 2, 1, 8)
ADD = Block("add", 8, 8, 1, 1, 2, 8)
CONCAT = Block("concat", 8, 16, 1, 1, 2, 8)
DIAMOND = (STEM, WIDE, POOL, ADD)


def network(blocks: tuple[Block, ...], *inputs: tuple[int, ...]) -> Architecture:
    return Architecture(Genotype("any", ()), blocks, (3, 8, 8), 10, inputs)


def test_a_diamond_is_accepted() -> None:
    network(DIAMOND, (IMAGE,), (0,), (0,), (1, 2))  # must not raise


def test_both_inputs_may_be_one_block() -> None:
    network((STEM, ADD), (IMAGE,), (0, 0))  # must not raise


@pytest.mark.parametrize(
    ("blocks", "inputs", "message"),
    [
        (DIAMOND, ((-1,), (0,), (0,), (1, 4)), r"block 3 \(add .*\) takes .* 4, which does not ex"),
        (DIAMOND, ((-1,), (0,), (0,), (1, -2)), r"-2, which does not exist; .* 0 to 3, and -1 is"),
        (DIAMOND, ((-1,), (3,), (0,), (1, 2)), r"block 1 \(sep_conv .* 3, which is not before it"),
        (DIAMOND, ((-1,), (1,), (0,), (1, 2)), r"block 1 \(sep_conv .*\) takes its own output: a"),
        (DIAMOND, ((-1,), (0,), (0,), (1,)), r"block 3 \(add .*\) takes 2 inputs, its wiring has"),
        (DIAMOND, ((-1,), (0, 0), (0,), (1, 2)), r"block 1 .* takes 1 input, its wiring has 2"),
        (DIAMOND, ((-1,), (0,), (1,), (2, 2), (3,)), "inputs of 5 blocks, there are 4"),
        (DIAMOND, ((-1,), (0,), (0,), (1, 1)), r"block 2 \(max_pool .*\): no block takes its out"),
        (
            (STEM, WIDE, HALF, ADD), ((-1,), (0,), (0,), (1, 2)),
            r"block 3 \(add .*\) takes 8 channels of 8x8, block 2 \(max_pool .*\) gives 8 .* 4x4",
        ),
        (
            (STEM, CONCAT, ADD), ((-1,), (0, 0), (0, 1)),
            r"block 2 .* takes 8 channels of 8x8, block 1 \(concat .*\) gives 16 channels of 8x8",
        ),
        ((WIDE,), ((-1,),), r"block 0 .* takes 8 channels of 8x8, the image gives 3 channels of"),
    ],
)  # fmt: skip
def test_wrong_wiring_names_the_block(
    blocks: tuple[Block, ...], inputs: tuple[tuple[int, ...], ...], message: str
) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        network(blocks, *inputs)
    assert "\n" not in str(raised.value)


def test_wrong_wiring_in_a_file_is_refused_too() -> None:
    good = msgspec.json.encode(network(DIAMOND, (IMAGE,), (0,), (0,), (1, 2)))
    with pytest.raises(UsageError, match="does not exist"):
        msgspec.json.decode(good.replace(b"[1,2]", b"[1,9]"), type=Architecture)


def test_the_digest_tells_networks_apart_that_differ_in_wiring_only() -> None:
    blocks = (STEM, POOL, POOL, CONCAT)
    parallel = network(blocks, (IMAGE,), (0,), (0,), (1, 2))
    in_turn = network(blocks, (IMAGE,), (0,), (1,), (1, 2))
    assert parallel.digest != in_turn.digest
    read = msgspec.json.decode(msgspec.json.encode(parallel), type=Architecture)
    assert read == parallel and read.digest == parallel.digest


def test_a_chain_that_is_written_out_has_the_digest_of_the_chain() -> None:
    blocks = (STEM, ADD, POOL)
    assert chained(blocks) == ((IMAGE,), (0, 0), (1,))
    assert network(blocks, *chained(blocks)).digest == network(blocks).digest


def test_the_digests_of_chains_are_those_before_there_was_wiring() -> None:
    blocks = (Block("conv", 1, 8, 3, 2, 1, 28), Block("mbconv", 8, 8, 3, 1, 3, 14))
    chain = Architecture(Genotype("some", (1,)), blocks, (1, 28, 28), 10)
    assert chain.digest == "6e5022ef7c2d954a"
