"""EAS: architecture search by function-preserving network transformation, under a budget.

Cai, Chen, Zhang, Yu and Wang, AAAI 2018, arXiv:1707.04873. In each episode the meta-controller
(`hwnas.search.eas.controller`) grows a trained network into several children; each child inherits
its weights, is trained for a few epochs, and rewards the decisions that led to it. After each
quarter of the episodes the best network so far becomes the new parent. Additions to the paper:

* decisions that lead over the budget are masked, by the predicted latency of the whole network, and
  the reward includes latency (`hwnas.search.eas.reward`);
* a start network over the budget is first shrunk, filter by filter and layer by layer, and
  distilled from itself (`hwnas.nn.growth.shrink`);
* candidates grow without training until they fill the budget, which does not change their function.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import ClassVar, Self

import msgspec
from torch import nn

from hwnas.architecture.architecture import Genotype
from hwnas.latency_models.cost import Costs
from hwnas.nn.memory import image_bytes
from hwnas.processes import check_cluster
from hwnas.search.eas.controller import Controller, Trajectory, grow, sampling
from hwnas.search.eas.lineage import Family
from hwnas.search.eas.model_pool import Member, ModelPool, TrainRequest, best_member, best_trained
from hwnas.search.eas.reward import LATENCY_EXPONENT, Learner, reward
from hwnas.search.eas.schedule import Schedule, child_plan, shrink_steps
from hwnas.search.eas.worker_pool import RAY_OPTION, Workers, workers_at
from hwnas.search.log import LogLine, OnLine, append_log, truncate_log
from hwnas.search.path_training import State
from hwnas.search.plan import SearchFiles, SearchPlan
from hwnas.search.strategy import SearchContext, StrategyOptions, StrategyTraits
from hwnas.spaces.grown.mobile import growable
from hwnas.spaces.grown.space import Layers
from hwnas.spaces.grown.steps import Growable, Step
from hwnas.spaces.space import SearchSpace
from hwnas.training.checkpoint import load_checkpoint, save_checkpoint, strip_prefix
from hwnas.training.compute import CPU, free_bytes
from hwnas.training.images.loader import Data
from hwnas.training.pool import trainings_per_gpu
from hwnas.training.seeds import derived_seed, seeded

STATISTICS_IMAGES = 256
"""Training images that set the batch norms of added layers."""


class EasOptions(StrategyOptions, frozen=True):
    """Options of strategies ``eas`` and ``eas-random``."""

    without_effect: ClassVar[frozenset[str]] = frozenset({"ray"})

    ray: str = ""
    """Address of a Ray cluster that trains the networks; empty: processes on this machine."""
    shrink: bool = True
    """Whether a start network that exceeds the budget may be made smaller."""

    def check(self) -> None:
        if self.ray:
            check_cluster(self.ray, RAY_OPTION)


def trained_networks(plan: SearchPlan, rounds: int) -> int:
    """Return the number of networks that are trained up to the end of a round."""
    schedule = Schedule.of(plan)
    return 1 + schedule.children * schedule.end(rounds)


class Eas:
    """Grows networks by a controller that learns from their rewards."""

    # networks grow within the budget, so a search for another budget shares nothing
    traits: ClassVar = StrategyTraits(
        own_loop=True, warm_up_uses_costs=True, total_steps=trained_networks
    )
    Options: ClassVar[type[msgspec.Struct]] = EasOptions
    learns = True

    def __init__(
        self,
        space: Growable,
        costs: Costs,
        budget_ms: float,
        options: EasOptions | None = None,
        warn: Callable[[str], None] = print,
        convention: str = "code",
        latency_exponent: float = LATENCY_EXPONENT,
        noise: float = 1.0,
    ) -> None:
        """``convention`` selects the moving baseline (`hwnas.search.eas.reward.CONVENTIONS`);
        ``noise`` is that of `Family`."""
        self.space, self.options, self.warn = space, options or EasOptions(), warn
        self.family = Family(space, costs, budget_ms, noise)
        self.controller = Controller(space)
        if not self.learns:
            self.controller.make_uniform()
        self.learner = Learner(self.controller, convention)
        self.latency_exponent = latency_exponent
        self.compute, self.gpus = CPU, tuple[str, ...]()
        self.data, self.group_by = "", ""
        """The data set and its groups, for trainings in other processes, as in `SearchContext`."""
        self.parent = ""
        """Name of the member to grow from."""
        self.known_members = 0
        """Members at the end of the last episode. The choice of a parent ignores later members, so
        that a resumed search makes the same choices."""

    @staticmethod
    def check(space: SearchSpace) -> None:
        """Raise `UsageError` for a space whose networks cannot grow."""
        growable(space)

    @classmethod
    def begin(cls, context: SearchContext) -> Self:
        options = context.options_as(EasOptions)
        space = growable(context.space)
        search = cls(space, context.costs, context.budget_ms, options, context.warn)
        search.compute, search.gpus = context.compute, context.gpus
        search.data, search.group_by = context.data, context.group_by
        return search

    def set_costs(self, costs: Costs, budget_ms: float) -> None:
        self.family.costs, self.family.budget_ms = costs, budget_ms

    @property
    def costs(self) -> Costs:
        return self.family.costs

    def search(
        self,
        train: Data,
        valid: Data,
        plan: SearchPlan,
        seed: int,
        files: SearchFiles,
        rounds: int = 1,
        on_line: OnLine | None = None,
    ) -> None:
        """Train the start network, then run the episodes that are not in ``files``."""
        folder = files.log.parent / "children"
        images = train.sample(STATISTICS_IMAGES, seed).placed(CPU)  # where networks grow
        pool = ModelPool(
            folder,
            train,
            valid,
            seed,
            lambda: self._workers(plan),
            self.warn,
            self.data,
            self.group_by,
        )
        self.family.open(pool, plan, seed, next(images.in_order(len(images.labels)))[0])
        done = self._resume(files)
        schedule = Schedule.of(plan)
        for episode in range(done, schedule.end(rounds)):
            lines: list[LogLine] = []
            if not self.parent:
                lines.append(_line(self._begin(), 0, 0, "warm-up", None))
            elif episode % schedule.phase == 0 or not self._within_budget(self.parent):
                best = self._best(pool.members[: self.known_members])
                over = not self.family.inside(best)  # with corrected costs all members may be over
                self.parent = (self._shrunk(best) if over and self.options.shrink else best).name
            lines += self._episode(episode, schedule.children)
            for line in lines:
                if on_line is not None:
                    on_line(line)
            append_log(files.log, lines)
            self.known_members = max(self.known_members, pool.used)
            notes = {
                "episodes": str(episode + 1),
                "start": self.parent,
                "members": str(self.known_members),
            }
            save_checkpoint(files.checkpoint, self.state_dict(), notes, keep_previous=True)

    def _workers(self, plan: SearchPlan) -> Workers:
        if not self.gpus:
            return workers_at(self.options.ray)
        start = self.space.architecture(self.space.start)
        step_bytes = image_bytes(start) * plan.batch_size / plan.accumulate
        children, free = Schedule.of(plan).children, free_bytes(self.compute.device)
        count = trainings_per_gpu(start.input_shape[1], children, step_bytes, free)
        return workers_at(self.options.ray, self.gpus, count)

    def network(self, genotype: Genotype) -> nn.Module:
        """Return the network with its weights in the pool."""
        member = best_member(self.family.pool.members, genotype.choices)
        return self.compute.place(self.family.net(member).network())

    def candidates(self, count: int, low_ms: float, high_ms: float, seed: int) -> list[Genotype]:
        """Return the most accurate networks, grown into the window where they are below it.

        If all exceed ``high_ms``, return the fastest. If none reaches ``low_ms`` (the largest
        network of the space is faster), return them as large as they get.
        """
        family, trained = self.family, self.family.trained()
        inside = [member for member in trained if family.ms(member) <= high_ms]
        if not inside:
            return [family.genotype(min(trained, key=family.ms))]
        inside.sort(key=lambda member: -(member.accuracy or 0.0))
        best = inside[: max(2, count // 2)]
        tries = [(turn, member) for turn in range(8) for member in best]
        genotypes: dict[str, Genotype] = {}
        for min_ms in (low_ms, 0.0):
            for turn, member in tries:
                rng = Random(derived_seed(seed, "fill", member.name, turn))
                if len(genotypes) < count and (
                    grown := family.grown(member, min_ms, low_ms, high_ms, rng)
                ):
                    genotypes.setdefault(grown.digest, family.genotype(grown))
            if genotypes:
                break
        return list(genotypes.values())

    def inherits(self, genotype: Genotype) -> bool:
        """Return true: all networks are trained further from their weights."""
        return True

    def preferences(self) -> None:
        return None

    def state_dict(self) -> State:
        return {
            **{f"controller.{k}": v for k, v in self.controller.state_dict().items()},
            **self.learner.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        self.controller.load_state_dict(strip_prefix("controller.", state))
        self.learner.load_state_dict(state)

    def _begin(self) -> Member:
        """Train the start network; shrink and distil it if it exceeds the budget.

        Raises `BudgetError` if this is not allowed, or cannot reach the budget.
        """
        family, genotype = self.family, self.space.start
        layers = self.space.layers(genotype)
        if over := not family.allows(layers):
            self._shrink_steps(layers)  # raises before any training
        plan = child_plan(family.plan, max(1, family.plan.warmup_epochs))
        architecture = self.space.architecture(genotype)
        root = TrainRequest(architecture, None, "", (), family.layers_ms(layers), plan)
        member = self._evaluated(root)
        if over:
            member = self._shrunk(member)
        self.parent = member.name
        return member

    def _shrunk(self, member: Member) -> Member:
        """Return the member, shrunk to leave room to grow and distilled from itself."""
        family = self.family
        steps = self._shrink_steps(family.layers(member))
        plan = child_plan(family.plan, max(1, family.plan.warmup_epochs))
        request = family.request(member, steps, plan)
        return self._evaluated(request._replace(teacher=family.net(member)))

    def _shrink_steps(self, layers: Layers) -> list[Step]:
        family = self.family
        return shrink_steps(
            self.space, layers, family.layers_ms, family.budget_ms, self.options.shrink
        )

    def _evaluated(self, request: TrainRequest) -> Member:
        """Train a network. Raises `HwnasError` if that fails."""
        return best_trained(self.family.pool.evaluate([request]), lambda member: 0.0)

    def _episode(self, number: int, children: int) -> list[LogLine]:
        """Grow and train ``children`` networks, learn from them, and return a line for each."""
        family, space = self.family, self.space
        parent = family.member(self.parent)
        layers = family.layers(parent)
        choose = sampling(seeded(family.seed, "episode", number))
        actions = space.wider_actions, space.deeper_actions, space.larger_actions
        trajectories = [
            grow(self.controller, space, layers, family.allows, choose, *actions)
            for _ in range(children)
        ]
        plan = child_plan(family.plan, family.plan.child_epochs)
        requests = [family.request(parent, trajectory.steps, plan) for trajectory in trajectories]
        members = family.pool.evaluate(requests)
        best_trained(members, lambda member: 0.0)  # raises if all failed
        trained = [
            (trajectory, member)
            for trajectory, member in zip(trajectories, members, strict=True)
            if member.state == "trained"
        ]
        if self.learns:
            rewards = [self._reward(member) for _, member in trained]
            self.learner.update([trajectory for trajectory, _ in trained], rewards)
        first = 1 + number * children
        return [
            _line(member, number, first + place, "search", trajectory)
            for place, (trajectory, member) in enumerate(trained)
        ]

    def _best(self, members: Sequence[Member]) -> Member:
        """Return the parent of the greatest reward."""
        return best_trained(self.family.parents(members), self._reward)

    def _within_budget(self, name: str) -> bool:
        return self.family.inside(self.family.member(name))

    def _reward(self, member: Member) -> float:
        family = self.family
        accuracy, ms = member.accuracy or 0.0, family.ms(member)
        return reward(accuracy, ms, family.budget_ms, self.latency_exponent)

    def _resume(self, files: SearchFiles) -> int:
        """Load the checkpoint if there is one, and return the number of its episodes."""
        episodes = 0
        if files.checkpoint.exists():
            state, notes = load_checkpoint(files.checkpoint)
            self.load_state_dict(state)
            self.parent, self.known_members = notes["start"], int(notes["members"])
            episodes = int(notes["episodes"])
        truncate_log(files.log, lambda line: line.epoch < episodes)
        return episodes


class EasRandom(Eas):
    """EAS with random actions, at the same cost: the baseline of the controller."""

    learns = False


def _line(
    member: Member, episode: int, step: int, phase: str, trajectory: Trajectory | None
) -> LogLine:
    return LogLine(
        epoch=episode,
        step=step,
        phase=phase,
        loss=member.loss or 0.0,
        accuracy=member.accuracy or 0.0,
        entropy=None if trajectory is None else trajectory.relative_entropy,
        expected_ms=member.latency_ms,
    )
