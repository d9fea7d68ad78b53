"""What every search space promises (`hwnas.spaces.space.SearchSpace`)."""

from __future__ import annotations

from itertools import islice
from math import prod
from random import Random

import msgspec

from hwnas.architecture.architecture import Architecture
from hwnas.spaces.grown.space import GrownSpace, Place
from hwnas.spaces.grown.steps import deeper_steps, stepped, wider_step
from hwnas.spaces.space import SearchSpace
from hwnas.testing.contract import holds

TRIED = 20


def check_space(space: SearchSpace) -> None:
    """Check a space: its genotypes, its networks, and that its sites are what it chooses from.

    Where networks are grown layer by layer (`hwnas.spaces.grown.space`), decisions depend on each
    other: several genotypes are one network, and sites are a sample.
    """
    sizes = [len(decision.candidates) for decision in space.decisions]
    grown = isinstance(space, GrownSpace)
    holds(sizes and min(sizes) > 0, "every decision has a candidate, and there is a decision")
    if grown:
        holds(1 < space.size <= prod(sizes), "there are at most as many networks as genotypes")
        _check_growth(space)
    else:
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
        space.architecture(near)
        pairs = zip(near.choices, draws[0].choices, strict=True)
        holds(sum(a != b for a, b in pairs) == 1, "a neighbour differs in one decision")
    _check_sites(space, sizes, grown)


def _check_growth(space: GrownSpace) -> None:
    """Check that layers and genotypes are the same, and that growth leads up from the smallest."""
    ends = space.smallest, space.start, space.usual, space.largest
    for genotype in (*ends, *(space.random(Random(seed)) for seed in range(TRIED))):
        layers = space.layers(genotype)
        holds(space.genotype(layers) == genotype, "layers() and genotype() undo each other")
        blocks = tuple(block for block, _ in space.laid_out(layers))
        holds(blocks == space.architecture(genotype).blocks, "laid_out() is the network")
        at = [place for _, place in space.laid_out(layers) if place is not None]
        every = [(stage, one) for stage, row in enumerate(layers) for one in range(len(row))]
        holds(at == every, "laid_out() names every layer once, in order")
    macs = [space.architecture(one).macs for one in ends]
    holds(
        macs[0] == min(macs) and macs[-1] == max(macs),
        "no network computes less than the smallest or more than the largest",
    )
    layers = space.layers(space.smallest)
    places = [Place(stage, one) for stage, row in enumerate(layers) for one in range(len(row))]
    wider = (wider_step(space, layers, place) for place in places)
    steps = [step for step in wider if step is not None]
    steps += [step for place in places for step in deeper_steps(space, layers, place)]
    holds(steps, "the smallest network can be grown")
    for step in steps:
        more = space.architecture(space.genotype(stepped(space, layers, step))).macs
        holds(more > macs[0], "a step of growth gives a network of the space that computes more")


def _check_network(space: SearchSpace, choices: tuple[int, ...]) -> None:
    holds(len(choices) == len(space.decisions), "a genotype has a choice for each decision")
    holds(
        all(
            0 <= choice < len(decision.candidates)
            for choice, decision in zip(choices, space.decisions, strict=True)
        ),
        "every choice is the number of a candidate",
    )


def _check_sites(space: SearchSpace, sizes: list[int], grown: bool) -> None:
    sites = list(space.sites())
    named = {(site.decision, site.candidate) for site in sites}
    every = {(place, one) for place, count in enumerate(sizes) for one in range(count)}
    holds(all(site.multiplicity > 0 for site in sites), "a block of a site occurs at least once")
    if grown:
        holds(named and named <= every, "sites() names candidates that there are")
        return
    holds(named == every, "sites() names the blocks of every candidate of every decision")
    known = {site.block for site in sites} | set(space.fixed)
    made = space.architecture(space.usual).blocks
    holds(all(block in known for block in made), "every block of a network is a site's or fixed")
