"""EAS: architecture search by function-preserving network transformation, under a budget.

Cai, Chen, Zhang, Yu and Wang, AAAI 2018, arXiv:1707.04873. In each episode the meta-controller
(`hwnas.search.controller`) grows a trained network several times over; every child inherits its
weights, is trained for a few epochs, and rewards the decisions that made it. After a quarter of the
episodes the best network so far becomes the one to grow from. Ours, beside the paper:

* a decision that would lead over the budget is masked, by the predicted latency of the whole
  network, and the reward weighs latency too (`hwnas.search.growth_reward`);
* a start network over the budget is first made smaller, filter by filter and layer by layer, and
  distilled from itself (`hwnas.nn.shrink`);
* what is handed on is grown, without training, until it fills the budget: that is for free, as the
  function stays the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Self

import msgspec
import torch
from torch import nn

from hwnas.architecture import Genotype
from hwnas.batches import Data, derived_seed, seeded
from hwnas.checkpoint import load_checkpoint, save_checkpoint
from hwnas.files import read_lines, write_atomic
from hwnas.latency_models.cost import Costs
from hwnas.nn.grow import Net
from hwnas.nn.growing import grown_net
from hwnas.search.controller import Controller, Trajectory, grow, sampling
from hwnas.search.growth_plan import GROWABLE, WITHIN, Schedule, child_plan, filling, shrinking
from hwnas.search.growth_reward import LATENCY_EXPONENT, Learner, reward
from hwnas.search.loop import LogLine, SearchFiles, SearchPlan
from hwnas.search.nursery import Birth, Member, Nursery, best_of, handed_on
from hwnas.search.strategy import Setting
from hwnas.search.weights import State, below
from hwnas.search.workers import workers_at
from hwnas.spaces.grown import Layers
from hwnas.spaces.grown_mobile import growable
from hwnas.spaces.growth import Growable, Step, stepped
from hwnas.spaces.space import SearchSpace
from hwnas.training import TrainingPlan

STATISTICS = 256
"""Training images that the batch norms of added layers are set by."""


class Eas:
    """Grows networks, and learns how."""

    learns = True
    warm_up_knows_costs = True
    """What is grown is what the budget lets through: nothing is shared with another budget."""
    grows = True
    """It has a network to start from, and trains networks of their own."""

    def __init__(
        self,
        space: Growable,
        costs: Costs,
        budget_ms: float,
        setting: Setting | None = None,
        convention: str = "code",
        latency_exponent: float = LATENCY_EXPONENT,
        noise: float = 1.0,
    ) -> None:
        """``convention`` is that of the moving baseline (`growth_reward.CONVENTIONS`); ``noise``
        times that of the EAS code breaks the symmetry of copies."""
        self.space, self.setting = space, setting
        self.controller = Controller(space)
        if not self.learns:
            self.controller.indifferent()
        self.learner = Learner(self.controller, convention)
        self.latency_exponent, self.noise = latency_exponent, noise
        self.may_shrink = setting is None or setting.shrink
        self.start = ""
        self.settled = 0
        """Members that were there at the end of the last episode: a choice after a resume knows no
        others either."""
        self.set_costs(costs, budget_ms)

    @staticmethod
    def check(space: SearchSpace) -> None:
        """Raise `UsageError` for a space whose networks are not grown."""
        growable(space)

    @classmethod
    def begin(cls, setting: Setting) -> Self:
        return cls(growable(setting.space), setting.costs, setting.budget_ms, setting)

    def set_costs(self, costs: Costs, budget_ms: float) -> None:
        self.costs, self.budget_ms = costs, budget_ms

    @staticmethod
    def steps(plan: SearchPlan, rounds: int) -> int:
        """Return the networks that are trained up to the end of a round."""
        schedule = Schedule.of(plan)
        return 1 + schedule.children * schedule.end(rounds)

    def search(
        self,
        train: Data,
        valid: Data,
        plan: SearchPlan,
        seed: int,
        files: SearchFiles,
        rounds: int = 1,
        on_line: Callable[[LogLine], None] | None = None,
    ) -> None:
        """Train the start network, then run the episodes that ``files`` does not say were run."""
        setting = self.setting
        address, say = ("", print) if setting is None else (setting.workers, setting.say)
        self.seed, self.plan = seed, plan
        self.nursery = Nursery(
            files.log.parent / "children", train, valid, seed, lambda: workers_at(address), say
        )
        images = train.drawn(STATISTICS, seed)
        self.images = images.normalised(images.images)
        done = self._resume(files)
        schedule = Schedule.of(plan)
        for episode in range(done, schedule.end(rounds)):
            lines: list[LogLine] = []
            if not self.start:
                lines.append(_line(self._begin(), 0, 0, "warm-up", None))
            elif episode % schedule.phase == 0 or not self._inside(self._member(self.start)):
                best = self._best()
                over = not self._inside(best)  # by corrected costs all that were trained are
                self.start = (self._smaller(best) if over and self.may_shrink else best).name
            lines += self._episode(episode, schedule.children)
            for line in lines:
                if on_line is not None:
                    on_line(line)
            with open(files.log, "ab") as file:
                file.write(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
            self.settled = len(self.nursery.members)
            notes = {
                "episodes": str(episode + 1),
                "start": self.start,
                "members": str(self.settled),
            }
            save_checkpoint(files.checkpoint, self.state_dict(), notes)

    def network(self, genotype: Genotype) -> nn.Module:
        """Return the network with the weights that it has in the family."""
        member = handed_on(self.nursery.members, genotype.choices)
        return self._net(member).network()

    def candidates(self, count: int, low_ms: float, high_ms: float, seed: int) -> list[Genotype]:
        """Return the most accurate networks, those that leave room grown into the window.

        Where none keeps ``high_ms`` it is the fastest one, and where even a grown one stays below
        ``low_ms`` (it is the largest of the space) it is taken as it is.
        """
        trained = [one for one in self.nursery.members if one.state == "trained"]
        inside = [one for one in trained if self._ms(one) <= high_ms]
        if not inside:
            return [self._genotype(min(trained, key=self._ms))]
        inside.sort(key=lambda one: -(one.accuracy or 0.0))
        tries = [(turn, one) for turn in range(8) for one in inside[: max(2, count // 2)]]
        found: dict[str, Genotype] = {}
        for least_ms in (low_ms, 0.0):
            for turn, one in tries:
                rng = Random(derived_seed(seed, "fill", one.name, turn))
                if len(found) < count and (
                    filled := self._filled(one, least_ms, low_ms, high_ms, rng)
                ):
                    found.setdefault(filled.digest, self._genotype(filled))
            if found:
                break
        return list(found.values())

    def inherits(self, genotype: Genotype) -> bool:
        """Whether a network of `network` is trained on from its weights, not from fresh ones."""
        return True

    def preferences(self) -> None:
        return None

    def state_dict(self) -> State:
        state = {f"controller.{k}": v for k, v in self.controller.state_dict().items()}
        for number, values in self.learner.optimizer.state_dict()["state"].items():
            state |= {f"adam.{number}.{name}": value for name, value in values.items()}
        if self.learner.baseline.value is not None:
            state["baseline"] = torch.tensor(self.learner.baseline.value, dtype=torch.float64)
        return state

    def load_state_dict(self, state: State) -> None:
        self.controller.load_state_dict(below("controller.", state))
        optimizer = self.learner.optimizer.state_dict()
        moments: dict[int, State] = {}
        for name, value in below("adam.", state).items():
            number, field = name.split(".", 1)
            moments.setdefault(int(number), {})[field] = value
        self.learner.optimizer.load_state_dict({**optimizer, "state": moments})
        if "baseline" in state:
            self.learner.baseline.value = state["baseline"].item()

    def _begin(self) -> Member:
        """Train the start network; where it is over the budget make it smaller, and distil it.

        Raises `BudgetError` where that is not allowed, or where nothing smaller is enough.
        """
        genotype = self.space.start
        layers = self.space.layers(genotype)
        if over := self._layers_ms(layers) > WITHIN * self.budget_ms:
            self._shrinking(layers)  # what cannot be is said before any training
        plan = child_plan(self.plan, max(1, self.plan.warmup_epochs))
        architecture = self.space.architecture(genotype)
        root = Birth(architecture, None, "", (), self._layers_ms(layers), plan)
        [member] = self.nursery.evaluate([root])
        best_of([member], lambda one: 0.0)  # raises where it failed
        if over:
            member = self._smaller(member)
        self.start = member.name
        return member

    def _smaller(self, member: Member) -> Member:
        """Return the network that a member becomes with room to grow, taught by the member."""
        layers, net = self._layers(member), self._net(member)
        steps = self._shrinking(layers)
        small = self._grown(layers, net, steps, member.name)
        for step in steps:
            layers = stepped(self.space, layers, step)
        plan = child_plan(self.plan, max(1, self.plan.warmup_epochs))
        birth = self._birth(member, layers, steps, small, plan)
        [taught] = self.nursery.evaluate([birth._replace(teacher=net)])
        return best_of([taught], lambda one: 0.0)

    def _shrinking(self, layers: Layers) -> list[Step]:
        return shrinking(self.space, layers, self._layers_ms, self.budget_ms, self.may_shrink)

    def _episode(self, number: int, children: int) -> list[LogLine]:
        """Grow and train ``children`` networks, learn from them, and return a line for each."""
        parent = self._member(self.start)
        layers, net = self._layers(parent), self._net(parent)
        choose = sampling(seeded(self.seed, "episode", number))
        limit_ms = WITHIN * self.budget_ms
        trajectories = [
            grow(
                self.controller, self.space, layers,
                lambda one: self._layers_ms(one) <= limit_ms,
                choose, self.space.wider_actions, self.space.deeper_actions,
                self.space.larger_actions,
            )
            for _ in range(children)
        ]  # fmt: skip
        plan = child_plan(self.plan, self.plan.child_epochs)
        births = [
            self._birth(
                parent, one.layers, one.steps,
                self._grown(layers, net, one.steps, parent.name), plan,
            )
            for one in trajectories
        ]  # fmt: skip
        members = self.nursery.evaluate(births)
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

    def _filled(
        self, member: Member, least_ms: float, low_ms: float, high_ms: float, rng: Random
    ) -> Member | None:
        """Return the member, or one that is grown from it, untrained, up to ``low_ms``; ``None``
        where that one takes less than ``least_ms``."""
        layers = self._layers(member)
        steps = filling(self.space, layers, self._layers_ms, low_ms, high_ms, rng)
        for step in steps:
            layers = stepped(self.space, layers, step)
        if self._layers_ms(layers) < least_ms:
            return None
        if not steps:
            return member
        net = self._grown(self._layers(member), self._net(member), steps, member.name)
        plan = child_plan(self.plan, 0)
        return self.nursery.derive(self._birth(member, layers, steps, net, plan), member.accuracy)

    def _grown(self, layers: Layers, net: Net, steps: Sequence[Step], name: str) -> Net:
        said = [step.said for step in steps]
        generator = seeded(self.seed, "grown", name, *said)
        return grown_net(self.space, layers, net, steps, self.images, generator, self.noise)

    def _birth(
        self,
        parent: Member,
        layers: Layers,
        steps: Sequence[Step],
        net: Net,
        plan: TrainingPlan,
    ) -> Birth:
        architecture = self.space.architecture(self.space.genotype(layers))
        said = tuple(step.said for step in steps)
        return Birth(architecture, net, parent.name, said, self._layers_ms(layers), plan)

    def _best(self) -> Member:
        """Return the network to grow from: the most rewarded of those that leave room to grow, or
        else of those inside the budget; the fastest where none is."""
        settled = self.nursery.members[: self.settled]
        trained = [one for one in settled if one.state == "trained"]
        inside = [one for one in trained if self._inside(one)]
        roomy = [one for one in inside if self._ms(one) <= GROWABLE * self.budget_ms]
        if not inside:
            return min(trained, key=self._ms)
        return best_of(roomy or inside, self._worth)

    def _inside(self, member: Member) -> bool:
        return member.state == "trained" and self._ms(member) <= WITHIN * self.budget_ms

    def _worth(self, member: Member) -> float:
        ms = self._ms(member)
        return reward(member.accuracy or 0.0, ms, self.budget_ms, self.latency_exponent)

    def _member(self, name: str) -> Member:
        return next(one for one in self.nursery.members if one.name == name)

    def _genotype(self, member: Member) -> Genotype:
        return Genotype(self.space.name, member.choices)

    def _layers(self, member: Member) -> Layers:
        return self.space.layers(self._genotype(member))

    def _net(self, member: Member) -> Net:
        return self.nursery.net(member, self.space.architecture(self._genotype(member)))

    def _ms(self, member: Member) -> float:
        return self.costs.network_ms(member.choices)

    def _layers_ms(self, layers: Layers) -> float:
        return self.costs.network_ms(self.space.genotype(layers).choices)

    def _resume(self, files: SearchFiles) -> int:
        """Load the checkpoint if there is one; drop log lines of the episode that was cut off."""
        if not files.checkpoint.exists():
            write_atomic(files.log, b"")
            return 0
        state, notes = load_checkpoint(files.checkpoint)
        self.load_state_dict(state)
        self.start, self.settled = notes["start"], int(notes["members"])
        done = int(notes["episodes"])
        lines = [line for line in read_lines(files.log, LogLine) if line.epoch < done]
        write_atomic(files.log, b"".join(msgspec.json.encode(line) + b"\n" for line in lines))
        return done


class EasRandom(Eas):
    """EAS with random actions, at the same cost: what the controller is to be compared with."""

    learns = False


def _line(member: Member, episode: int, step: int, phase: str, path: Trajectory | None) -> LogLine:
    return LogLine(
        episode, step, phase, member.loss or 0.0, member.accuracy or 0.0,
        None if path is None else path.relative_entropy, member.latency_ms, None,
    )  # fmt: skip
