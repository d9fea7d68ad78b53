"""The lineage of networks that grow from one another: layers, weights, latencies, children."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from torch import Tensor

from hwnas.architecture.architecture import Genotype
from hwnas.latency_models.cost import Costs
from hwnas.nn.growth.apply import grown_net
from hwnas.nn.growth.transforms import Net
from hwnas.search.eas.model_pool import Member, ModelPool, TrainRequest
from hwnas.search.eas.schedule import MAX_PARENT_SHARE, USABLE_SHARE, child_plan, growth_steps
from hwnas.search.plan import SearchPlan
from hwnas.spaces.grown.space import Layers
from hwnas.spaces.grown.steps import Growable, Step, apply_step
from hwnas.training.plan import TrainingPlan
from hwnas.training.seeds import seeded


class Family:
    """The members of a pool under the current costs, which corrections change."""

    pool: ModelPool
    plan: SearchPlan
    seed: int
    images: Tensor
    """``[N, C, H, W]``, normalised: they set the batch norms of added layers."""

    def __init__(self, space: Growable, costs: Costs, budget_ms: float, noise: float) -> None:
        """``noise`` scales the noise that breaks the symmetry of copies; it is 1 in the EAS
        code."""
        self.space, self.costs, self.budget_ms, self.noise = space, costs, budget_ms, noise

    def open(self, pool: ModelPool, plan: SearchPlan, seed: int, images: Tensor) -> None:
        """Use ``pool``; before, only `layers_ms` and `allows` work."""
        self.pool, self.plan, self.seed, self.images = pool, plan, seed, images

    def layers_ms(self, layers: Layers) -> float:
        """Return the predicted latency of the whole network."""
        return self.costs.network_ms(self.space.genotype(layers).choices)

    def allows(self, layers: Layers) -> bool:
        """Whether a network keeps the budget, with a margin for the error of the prediction."""
        return self.layers_ms(layers) <= USABLE_SHARE * self.budget_ms

    def ms(self, member: Member) -> float:
        return self.costs.network_ms(member.choices)

    def inside(self, member: Member) -> bool:
        return member.state == "trained" and self.ms(member) <= USABLE_SHARE * self.budget_ms

    def trained(self) -> list[Member]:
        return [member for member in self.pool.members if member.state == "trained"]

    def parents(self, members: Sequence[Member]) -> list[Member]:
        """Return the members with room to grow, else those within the budget, else the fastest."""
        trained = [member for member in members if member.state == "trained"]
        inside = [member for member in trained if self.inside(member)]
        limit_ms = MAX_PARENT_SHARE * self.budget_ms
        growable = [member for member in inside if self.ms(member) <= limit_ms]
        return growable or inside or [min(trained, key=self.ms)]

    def member(self, name: str) -> Member:
        return next(member for member in self.pool.members if member.name == name)

    def genotype(self, member: Member) -> Genotype:
        return Genotype(self.space.name, member.choices)

    def layers(self, member: Member) -> Layers:
        return self.space.layers(self.genotype(member))

    def net(self, member: Member) -> Net:
        """Return the network with its weights."""
        return self.pool.net(member, self.space.architecture(self.genotype(member)))

    def request(self, parent: Member, steps: Sequence[Step], plan: TrainingPlan) -> TrainRequest:
        """Return the request to train the network that ``steps`` make from ``parent``, with
        inherited weights."""
        layers = self.layers(parent)
        descriptions = tuple(step.description for step in steps)
        generator = seeded(self.seed, "grown", parent.name, *descriptions)
        net = grown_net(
            self.space, layers, self.net(parent), steps, self.images, generator, self.noise
        )
        layers = self._stepped(layers, steps)
        architecture = self.space.architecture(self.space.genotype(layers))
        return TrainRequest(
            architecture, net, parent.name, descriptions, self.layers_ms(layers), plan
        )

    def grown(
        self, member: Member, min_ms: float, low_ms: float, high_ms: float, rng: Random
    ) -> Member | None:
        """Return the member, grown up to ``low_ms`` without training if it is faster.

        Return ``None`` if even the grown network takes less than ``min_ms``.
        """
        layers = self.layers(member)
        steps = growth_steps(self.space, layers, self.layers_ms, low_ms, high_ms, rng)
        if self.layers_ms(self._stepped(layers, steps)) < min_ms:
            return None
        if not steps:
            return member
        return self.pool.add_untrained(
            self.request(member, steps, child_plan(self.plan, 0)), member.accuracy
        )

    def _stepped(self, layers: Layers, steps: Sequence[Step]) -> Layers:
        for step in steps:
            layers = apply_step(self.space, layers, step)
        return layers
