"""What every search space promises (`hwnas.spaces.space.SearchSpace`)."""

from __future__ import annotations

from itertools import islice
from math import prod
from random import Random

import msgspec

from hwnas.architecture import Architecture
from hwnas.spaces.space import SearchSpace
from hwnas.testing.contract import holds

TRIED = 20


def check_space(space: SearchSpace) -> None:
    """Check a space: its genotypes, its networks, and that its sites are what it chooses from."""
    sizes = [len(decision.candidates) for decision in space.decisions]
    holds(sizes and min(sizes) > 0, "every decision has a candidate, and there is a decision")
    holds(space.size == prod(sizes), "the size is the product of the candidates")
    draws = [space.random(Random(seed)) for seed in range(TRIED)]
    holds(draws[0] == space.random(Random(0)), "the same seed draws the same genotype")
    for genotype in (space.usual, *draws):
        _check_network(space, genotype.choices)
        made = space.architecture(genotype)
        holds(made.input_shape == space.input_shape, "networks take the space's input")
        holds(made.num_classes == space.num_classes, "networks have the space's classes")
        text = msgspec.json.encode(made)
        holds(msgspec.json.decode(text, type=Architecture) == made, "JSON gives it back")
        holds(space.architecture(genotype).digest == made.digest, "a genotype is one network")
        decided = space.decided(made)
        holds(len(decided) == len(made.blocks), "decided() says of every block where it is from")
    for near in islice(space.neighbours(draws[0]), TRIED):
        pairs = zip(near.choices, draws[0].choices, strict=True)
        holds(sum(a != b for a, b in pairs) == 1, "a neighbour differs in one decision")
    _check_sites(space, sizes)


def _check_network(space: SearchSpace, choices: tuple[int, ...]) -> None:
    holds(len(choices) == len(space.decisions), "a genotype has a choice for each decision")
    holds(
        all(
            0 <= choice < len(decision.candidates)
            for choice, decision in zip(choices, space.decisions, strict=True)
        ),
        "every choice is the number of a candidate",
    )


def _check_sites(space: SearchSpace, sizes: list[int]) -> None:
    sites = list(space.sites())
    named = {(site.decision, site.candidate) for site in sites}
    every = {(place, one) for place, count in enumerate(sizes) for one in range(count)}
    holds(named == every, "sites() names the blocks of every candidate of every decision")
    holds(all(site.multiplicity > 0 for site in sites), "a block of a site occurs at least once")
    known = {site.block for site in sites} | set(space.fixed)
    made = space.architecture(space.usual).blocks
    holds(all(block in known for block in made), "every block of a network is a site's or fixed")
