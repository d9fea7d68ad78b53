"""Networks that grow out of one another: their layers and weights, what they cost, their births."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from torch import Tensor

from hwnas.architecture.architecture import Genotype
from hwnas.latency_models.cost import Costs
from hwnas.nn.growth.apply import grown_net
from hwnas.nn.growth.transforms import Net
from hwnas.search.eas.model_pool import Birth, Member, Nursery
from hwnas.search.eas.schedule import GROWABLE, WITHIN, child_plan, filling
from hwnas.search.plan import SearchPlan
from hwnas.spaces.grown.space import Layers
from hwnas.spaces.grown.steps import Growable, Step, stepped
from hwnas.training.loader import seeded
from hwnas.training.loop import TrainingPlan


class Family:
    """The members of a nursery, by today's costs: those of the day they were made may be others."""

    nursery: Nursery
    plan: SearchPlan
    seed: int
    images: Tensor
    """``[N, C, H, W]``, normalised: what the batch norms of added layers are set by."""

    def __init__(self, space: Growable, costs: Costs, budget_ms: float, noise: float) -> None:
        """``noise`` times that of the EAS code breaks the symmetry of copies."""
        self.space, self.costs, self.budget_ms, self.noise = space, costs, budget_ms, noise

    def open(self, nursery: Nursery, plan: SearchPlan, seed: int, images: Tensor) -> None:
        """Live in ``nursery`` from now on; before, only `layers_ms` and `allows` can be asked."""
        self.nursery, self.plan, self.seed, self.images = nursery, plan, seed, images

    def layers_ms(self, layers: Layers) -> float:
        """Return the predicted latency of the whole network."""
        return self.costs.network_ms(self.space.genotype(layers).choices)

    def allows(self, layers: Layers) -> bool:
        """Say whether a network keeps the budget, with the margin of a prediction."""
        return self.layers_ms(layers) <= WITHIN * self.budget_ms

    def ms(self, member: Member) -> float:
        return self.costs.network_ms(member.choices)

    def inside(self, member: Member) -> bool:
        return member.state == "trained" and self.ms(member) <= WITHIN * self.budget_ms

    def trained(self) -> list[Member]:
        return [one for one in self.nursery.members if one.state == "trained"]

    def to_grow_from(self, members: Sequence[Member]) -> list[Member]:
        """Return those that leave room to grow, else those inside the budget, else the fastest."""
        trained = [one for one in members if one.state == "trained"]
        inside = [one for one in trained if self.inside(one)]
        roomy = [one for one in inside if self.ms(one) <= GROWABLE * self.budget_ms]
        return roomy or inside or [min(trained, key=self.ms)]

    def member(self, name: str) -> Member:
        return next(one for one in self.nursery.members if one.name == name)

    def genotype(self, member: Member) -> Genotype:
        return Genotype(self.space.name, member.choices)

    def layers(self, member: Member) -> Layers:
        return self.space.layers(self.genotype(member))

    def net(self, member: Member) -> Net:
        """Return the network with its weights."""
        return self.nursery.net(member, self.space.architecture(self.genotype(member)))

    def birth(self, parent: Member, steps: Sequence[Step], plan: TrainingPlan) -> Birth:
        """Return what grows out of ``parent`` by ``steps``, with the weights that it inherits."""
        layers = self.layers(parent)
        said = tuple(step.said for step in steps)
        generator = seeded(self.seed, "grown", parent.name, *said)
        net = grown_net(
            self.space, layers, self.net(parent), steps, self.images, generator, self.noise
        )
        grown = self._stepped(layers, steps)
        architecture = self.space.architecture(self.space.genotype(grown))
        return Birth(architecture, net, parent.name, said, self.layers_ms(grown), plan)

    def filled(
        self, member: Member, least_ms: float, low_ms: float, high_ms: float, rng: Random
    ) -> Member | None:
        """Return the member, or one that is grown from it, untrained, up to ``low_ms``; ``None``
        where that one takes less than ``least_ms``."""
        layers = self.layers(member)
        steps = filling(self.space, layers, self.layers_ms, low_ms, high_ms, rng)
        if self.layers_ms(self._stepped(layers, steps)) < least_ms:
            return None
        if not steps:
            return member
        return self.nursery.derive(
            self.birth(member, steps, child_plan(self.plan, 0)), member.accuracy
        )

    def _stepped(self, layers: Layers, steps: Sequence[Step]) -> Layers:
        for step in steps:
            layers = stepped(self.space, layers, step)
        return layers
