"""Conformance test of search spaces (`hwnas.spaces.space.SearchSpace`)."""

from __future__ import annotations

from itertools import islice
from math import prod
from random import Random

import msgspec

from hwnas.architecture.architecture import Architecture
from hwnas.spaces.grown.space import GrownSpace, Place
from hwnas.spaces.grown.steps import apply_step, deeper_steps, wider_step
from hwnas.spaces.space import SearchSpace
from hwnas.testing.contract import require

SAMPLES = 20
"""Random genotypes, and neighbours, that are checked."""


def check_space(space: SearchSpace) -> None:
    """Check the genotypes, networks and sites of a space.

    Networks must be repeatable, have the space's input shape and classes, and consist of the blocks
    of ``sites()`` and ``fixed``. In a `GrownSpace` decisions depend on each other, so several
    genotypes may give the same network, and sites are a sample. Raises `ContractBroken`.
    """
    sizes = [len(decision.candidates) for decision in space.decisions]
    grown = isinstance(space, GrownSpace)
    require(sizes and min(sizes) > 0, "there is a decision, and every decision has a candidate")
    if grown:
        require(1 < space.size <= prod(sizes), "there are at most as many networks as genotypes")
        _check_growth(space)
    else:
        require(space.size == prod(sizes), "the size is the product of the candidates")
    draws = [space.random(Random(seed)) for seed in range(SAMPLES)]
    require(draws[0] == space.random(Random(0)), "the same seed draws the same genotype")
    for genotype in (space.default, *draws):
        _check_network(space, genotype.choices)
        network = space.architecture(genotype)
        require(network.input_shape == space.input_shape, "networks have the space's input shape")
        require(network.num_classes == space.num_classes, "networks have the space's classes")
        text = msgspec.json.encode(network)
        require(msgspec.json.decode(text, type=Architecture) == network, "a network survives JSON")
        require(
            space.architecture(genotype).digest == network.digest,
            "a genotype always gives the same network",
        )
        decided = space.block_decisions(network)
        require(len(decided) == len(network.blocks), "block_decisions() has every block")
    for neighbour in islice(space.neighbours(draws[0]), SAMPLES):
        space.architecture(neighbour)
        pairs = zip(neighbour.choices, draws[0].choices, strict=True)
        require(sum(a != b for a, b in pairs) == 1, "a neighbour differs in one decision")
    _check_sites(space, sizes, grown)


def _check_growth(space: GrownSpace) -> None:
    """Check that layers and genotypes correspond, and that growth steps enlarge a network."""
    ends = space.smallest, space.start, space.default, space.largest
    for genotype in (*ends, *(space.random(Random(seed)) for seed in range(SAMPLES))):
        layers = space.layers(genotype)
        require(space.genotype(layers) == genotype, "layers() and genotype() undo each other")
        blocks = tuple(block for block, _ in space.placed_blocks(layers))
        require(blocks == space.architecture(genotype).blocks, "placed_blocks() is the network")
        places = [place for _, place in space.placed_blocks(layers) if place is not None]
        every = [(stage, layer) for stage, row in enumerate(layers) for layer in range(len(row))]
        require(places == every, "placed_blocks() names every layer once, in order")
    macs = [space.architecture(genotype).macs for genotype in ends]
    require(
        macs[0] == min(macs) and macs[-1] == max(macs),
        "no network computes less than the smallest or more than the largest",
    )
    layers = space.layers(space.smallest)
    places = [Place(stage, n) for stage, row in enumerate(layers) for n in range(len(row))]
    wider = (wider_step(space, layers, place) for place in places)
    steps = [step for step in wider if step is not None]
    steps += [step for place in places for step in deeper_steps(space, layers, place)]
    require(steps, "the smallest network can be grown")
    for step in steps:
        more = space.architecture(space.genotype(apply_step(space, layers, step))).macs
        require(
            more > macs[0],
            "a growth step gives a network of the space with more multiply-accumulates",
        )


def _check_network(space: SearchSpace, choices: tuple[int, ...]) -> None:
    require(len(choices) == len(space.decisions), "a genotype has a choice for each decision")
    require(
        all(
            0 <= choice < len(decision.candidates)
            for choice, decision in zip(choices, space.decisions, strict=True)
        ),
        "every choice is the index of a candidate",
    )


def _check_sites(space: SearchSpace, sizes: list[int], grown: bool) -> None:
    sites = list(space.sites())
    named = {(site.decision, site.candidate) for site in sites}
    every = {(place, n) for place, count in enumerate(sizes) for n in range(count)}
    require(all(site.multiplicity > 0 for site in sites), "a block of a site occurs at least once")
    if grown:
        require(named and named <= every, "sites() names existing candidates")
        return
    require(named == every, "sites() names the blocks of every candidate of every decision")
    known = {site.block for site in sites} | set(space.fixed)
    network = space.architecture(space.default).blocks
    require(
        all(block in known for block in network), "every block of a network is a site's or fixed"
    )
