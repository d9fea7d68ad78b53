"""EAS: architecture search by function-preserving network transformation, under a budget.

Cai, Chen, Zhang, Yu and Wang, AAAI 2018, arXiv:1707.04873. In each episode the meta-controller
(`hwnas.search.eas.controller`) grows a trained network several times over; every child inherits its
weights, is trained for a few epochs, and rewards the decisions that made it. After a quarter of the
episodes the best network so far becomes the one to grow from. Ours, beside the paper:

* a decision that would lead over the budget is masked, by the predicted latency of the whole
  network, and the reward weighs latency too (`hwnas.search.eas.reward`);
* a start network over the budget is first made smaller, filter by filter and layer by layer, and
  distilled from itself (`hwnas.nn.growth.shrink`);
* what is handed on is grown, without training, until it fills the budget: that is for free, as the
  function stays the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import ClassVar, Self

import msgspec
from torch import nn

from hwnas.architecture.architecture import Genotype
from hwnas.latency_models.cost import Costs
from hwnas.search.eas.controller import Controller, Trajectory, grow, sampling
from hwnas.search.eas.lineage import Family
from hwnas.search.eas.model_pool import Birth, Member, Nursery, best_of, handed_on
from hwnas.search.eas.reward import LATENCY_EXPONENT, Learner, reward
from hwnas.search.eas.schedule import Schedule, child_plan, shrinking
from hwnas.search.eas.worker_pool import workers_at
from hwnas.search.log import LogLine, OnLine, append_log, truncate_log
from hwnas.search.path_training import State, below
from hwnas.search.plan import SearchFiles, SearchPlan
from hwnas.search.strategy import SearchContext, StrategyTraits
from hwnas.spaces.grown.mobile import growable
from hwnas.spaces.grown.space import Layers
from hwnas.spaces.grown.steps import Growable, Step
from hwnas.spaces.space import SearchSpace
from hwnas.training.checkpoint import load_checkpoint, save_checkpoint
from hwnas.training.loader import Data, derived_seed, seeded

STATISTICS = 256
"""Training images that the batch norms of added layers are set by."""


class EasOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of strategies ``eas`` and ``eas-random``."""

    ray: str = ""
    """Address of a Ray cluster that trains the networks; empty: processes on this machine."""
    shrink: bool = True
    """Whether a start network that exceeds the budget may be made smaller."""


def trained_networks(plan: SearchPlan, rounds: int) -> int:
    """Return how many networks are trained up to the end of a round."""
    schedule = Schedule.of(plan)
    return 1 + schedule.children * schedule.end(rounds)


class Eas:
    """Grows networks, and learns how."""

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
        """``convention`` is that of the moving baseline (`growth_reward.CONVENTIONS`), ``noise``
        that of `Family`."""
        self.space, self.options, self.warn = space, options or EasOptions(), warn
        self.family = Family(space, costs, budget_ms, noise)
        self.controller = Controller(space)
        if not self.learns:
            self.controller.indifferent()
        self.learner = Learner(self.controller, convention)
        self.latency_exponent = latency_exponent
        self.start = ""
        self.settled = 0
        """Members that were there at the end of the last episode: a choice after a resume, or in a
        search that runs again from its start, knows no others either."""

    @staticmethod
    def check(space: SearchSpace) -> None:
        """Raise `UsageError` for a space whose networks are not grown."""
        growable(space)

    @classmethod
    def begin(cls, context: SearchContext) -> Self:
        options = context.options_as(EasOptions)
        space = growable(context.space)
        return cls(space, context.costs, context.budget_ms, options, context.warn)

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
        """Train the start network, then run the episodes that ``files`` does not say were run."""
        folder, images = files.log.parent / "children", train.drawn(STATISTICS, seed)
        nursery = Nursery(
            folder, train, valid, seed, lambda: workers_at(self.options.ray), self.warn
        )
        self.family.open(nursery, plan, seed, images.normalised(images.images))
        done = self._resume(files)
        schedule = Schedule.of(plan)
        for episode in range(done, schedule.end(rounds)):
            lines: list[LogLine] = []
            if not self.start:
                lines.append(_line(self._begin(), 0, 0, "warm-up", None))
            elif episode % schedule.phase == 0 or not self._keeps(self.start):
                best = self._best(nursery.members[: self.settled])
                over = not self.family.inside(best)  # by corrected costs all that were trained are
                self.start = (self._smaller(best) if over and self.options.shrink else best).name
            lines += self._episode(episode, schedule.children)
            for line in lines:
                if on_line is not None:
                    on_line(line)
            append_log(files.log, lines)
            self.settled = max(self.settled, nursery.reached)
            notes = {
                "episodes": str(episode + 1),
                "start": self.start,
                "members": str(self.settled),
            }
            save_checkpoint(files.checkpoint, self.state_dict(), notes)

    def network(self, genotype: Genotype) -> nn.Module:
        """Return the network with the weights that it has in the family."""
        return self.family.net(handed_on(self.family.nursery.members, genotype.choices)).network()

    def candidates(self, count: int, low_ms: float, high_ms: float, seed: int) -> list[Genotype]:
        """Return the most accurate networks, those that leave room grown into the window.

        Where none keeps ``high_ms`` it is the fastest one, and where even a grown one stays below
        ``low_ms`` (it is the largest of the space) it is taken as it is.
        """
        family, trained = self.family, self.family.trained()
        inside = [one for one in trained if family.ms(one) <= high_ms]
        if not inside:
            return [family.genotype(min(trained, key=family.ms))]
        inside.sort(key=lambda one: -(one.accuracy or 0.0))
        tries = [(turn, one) for turn in range(8) for one in inside[: max(2, count // 2)]]
        found: dict[str, Genotype] = {}
        for least_ms in (low_ms, 0.0):
            for turn, one in tries:
                rng = Random(derived_seed(seed, "fill", one.name, turn))
                if len(found) < count and (
                    filled := family.filled(one, least_ms, low_ms, high_ms, rng)
                ):
                    found.setdefault(filled.digest, family.genotype(filled))
            if found:
                break
        return list(found.values())

    def inherits(self, genotype: Genotype) -> bool:
        """Whether a network of `network` is trained on from its weights, not from fresh ones."""
        return True

    def preferences(self) -> None:
        return None

    def state_dict(self) -> State:
        return {
            **{f"controller.{k}": v for k, v in self.controller.state_dict().items()},
            **self.learner.state_dict(),
        }

    def load_state_dict(self, state: State) -> None:
        self.controller.load_state_dict(below("controller.", state))
        self.learner.load_state_dict(state)

    def _begin(self) -> Member:
        """Train the start network; where it is over the budget make it smaller, and distil it.

        Raises `BudgetError` where that is not allowed, or where nothing smaller is enough.
        """
        family, genotype = self.family, self.space.start
        layers = self.space.layers(genotype)
        if over := not family.allows(layers):
            self._shrinking(layers)  # what cannot be is said before any training
        plan = child_plan(family.plan, max(1, family.plan.warmup_epochs))
        architecture = self.space.architecture(genotype)
        root = Birth(architecture, None, "", (), family.layers_ms(layers), plan)
        member = self._evaluated(root)
        if over:
            member = self._smaller(member)
        self.start = member.name
        return member

    def _smaller(self, member: Member) -> Member:
        """Return the network that a member becomes with room to grow, taught by the member."""
        family = self.family
        steps = self._shrinking(family.layers(member))
        plan = child_plan(family.plan, max(1, family.plan.warmup_epochs))
        birth = family.birth(member, steps, plan)
        return self._evaluated(birth._replace(teacher=family.net(member)))

    def _shrinking(self, layers: Layers) -> list[Step]:
        family = self.family
        return shrinking(
            self.space, layers, family.layers_ms, family.budget_ms, self.options.shrink
        )

    def _evaluated(self, birth: Birth) -> Member:
        """Train one network. Raises where it failed."""
        return best_of(self.family.nursery.evaluate([birth]), lambda one: 0.0)

    def _episode(self, number: int, children: int) -> list[LogLine]:
        """Grow and train ``children`` networks, learn from them, and return a line for each."""
        family, space = self.family, self.space
        parent = family.member(self.start)
        layers = family.layers(parent)
        choose = sampling(seeded(family.seed, "episode", number))
        trajectories = [
            grow(
                self.controller, space, layers, family.allows, choose,
                space.wider_actions, space.deeper_actions, space.larger_actions,
            )
            for _ in range(children)
        ]  # fmt: skip
        plan = child_plan(family.plan, family.plan.child_epochs)
        births = [family.birth(parent, one.steps, plan) for one in trajectories]
        members = family.nursery.evaluate(births)
        best_of(members, lambda one: 0.0)  # not all failed
        through = [
            (path, one)
            for path, one in zip(trajectories, members, strict=True)
            if one.state == "trained"
        ]
        if self.learns:
            self.learner.update([path for path, _ in through], [self._worth(m) for _, m in through])
        first = 1 + number * children
        return [
            _line(member, number, first + place, "search", path)
            for place, (path, member) in enumerate(through)
        ]

    def _best(self, members: Sequence[Member]) -> Member:
        """Return the most rewarded of those that can be grown."""
        return best_of(self.family.to_grow_from(members), self._worth)

    def _keeps(self, name: str) -> bool:
        return self.family.inside(self.family.member(name))

    def _worth(self, member: Member) -> float:
        family = self.family
        accuracy, ms = member.accuracy or 0.0, family.ms(member)
        return reward(accuracy, ms, family.budget_ms, self.latency_exponent)

    def _resume(self, files: SearchFiles) -> int:
        """Load the checkpoint if there is one; drop log lines of the episode that was cut off."""
        episodes = 0
        if files.checkpoint.exists():
            state, notes = load_checkpoint(files.checkpoint)
            self.load_state_dict(state)
            self.start, self.settled = notes["start"], int(notes["members"])
            episodes = int(notes["episodes"])
        truncate_log(files.log, episodes)
        return episodes


class EasRandom(Eas):
    """EAS with random actions, at the same cost: what the controller is to be compared with."""

    learns = False


def _line(member: Member, episode: int, step: int, phase: str, path: Trajectory | None) -> LogLine:
    return LogLine(
        epoch=episode,
        step=step,
        phase=phase,
        loss=member.loss or 0.0,
        accuracy=member.accuracy or 0.0,
        entropy=None if path is None else path.relative_entropy,
        expected_ms=member.latency_ms,
    )
