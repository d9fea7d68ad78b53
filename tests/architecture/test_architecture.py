"""Architectures as plain data: JSON, digests and counts."""

from __future__ import annotations

import msgspec

from hwnas.architecture.architecture import Architecture, Block, Genotype


def architecture(ratio: float = 3, choices: tuple[int, ...] = (1,)) -> Architecture:
    blocks = (Block("conv", 1, 8, 3, 2, 1, 28), Block("mbconv", 8, 8, 3, 1, ratio, 14))
    return Architecture(Genotype("some", choices), blocks, (1, 28, 28), 10)


def test_json_keeps_equality_and_digest() -> None:
    for ratio in (3, 3.0, 2.5):
        before = architecture(ratio)
        after = msgspec.json.decode(msgspec.json.encode(before), type=Architecture)
        assert after == before and hash(after) == hash(before)
        assert after.digest == before.digest


def test_the_digest_names_what_is_computed_and_not_how_it_was_found() -> None:
    network = architecture()
    assert network.digest == architecture(3.0).digest == architecture(choices=(4, 2)).digest
    assert network.digest != architecture(6).digest
    assert network.digest != msgspec.structs.replace(network, num_classes=11).digest
    assert network.digest != msgspec.structs.replace(network, input_shape=(3, 28, 28)).digest


def test_the_epsilon_of_batch_norms_is_part_of_the_digest_unless_it_is_the_default() -> None:
    network = architecture()
    assert network.norm_eps == 1e-5 and network.digest == "6e5022ef7c2d954a"
    other = msgspec.structs.replace(network, norm_eps=1e-3)
    assert other.digest != network.digest
    assert msgspec.json.decode(msgspec.json.encode(other), type=Architecture) == other
    old = b"""{"genotype": {"space": "", "choices": []}, "blocks": [],
        "input_shape": [1, 28, 28], "num_classes": 9}"""
    assert msgspec.json.decode(old, type=Architecture).norm_eps == 1e-5


def test_the_counts_of_an_architecture_are_the_sums_of_its_blocks() -> None:
    network = architecture()
    assert network.macs == sum(block.macs for block in network.blocks) > 0
    assert network.params == sum(block.params for block in network.blocks) > 0


def test_a_block_is_the_same_json_after_it_was_read() -> None:
    block = Block("conv", 3, 8, 3, 2, 1, 32)
    encoded = msgspec.json.encode(block)
    assert msgspec.json.encode(msgspec.json.decode(encoded, type=Block)) == encoded
