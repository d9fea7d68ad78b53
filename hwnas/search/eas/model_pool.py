"""The family of networks that EAS grows: each trained once, kept with where it came from.

A child is known by its architecture, what it is trained with and for how long, and its initial
weights: what is equal in all of them was trained already. Its folder keeps the weights, and
``family.jsonl`` one line for each, written when it is through; nothing of that is ever done again.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
from torch import Tensor

from hwnas.architecture.architecture import Architecture
from hwnas.errors import HwnasError
from hwnas.files import append_line, read_lines, write_json
from hwnas.nn.growth.transforms import Net
from hwnas.search.eas.train_worker import INPUTS, ChildJob, ChildResult, put_teacher, write_data
from hwnas.search.eas.worker_pool import Workers
from hwnas.training.checkpoint import load_checkpoint, save_checkpoint
from hwnas.training.loader import Data
from hwnas.training.loop import TrainingPlan

ATTEMPTS = 2
"""A child whose worker crashed is trained once more."""

State = Literal["trained", "failed", "derived"]


class Member(msgspec.Struct, frozen=True):
    """A line of ``family.jsonl``."""

    name: str
    """n0, n1, ..., in the order in which they were made."""
    key: str
    """Of everything that its training depends on, 16 hex digits."""
    parent: str
    """Name of the network that it grew from; empty: the start."""
    steps: tuple[str, ...]
    """From the parent to this network, in words."""
    choices: tuple[int, ...]
    """Of its genotype."""
    digest: str
    """Of its architecture."""
    params: int
    macs: int
    state: State
    """``derived``: grown to fill the budget, with inherited weights and no training."""
    latency_ms: float
    """Predicted when it was made."""
    accuracy: float | None = None
    """On validation images; of one that is derived, its parent's, whose function it computes."""
    loss: float | None = None
    epochs: int = 0
    seconds: float = 0.0
    error: str = ""


class Birth(NamedTuple):
    """A network that is to be trained."""

    architecture: Architecture
    initial: Net | None
    """``None``: fresh weights."""
    parent: str
    steps: tuple[str, ...]
    latency_ms: float
    plan: TrainingPlan
    teacher: Net | None = None


class Nursery:
    """Trains networks and remembers them."""

    def __init__(
        self,
        folder: Path,
        train: Data,
        valid: Data,
        seed: int,
        workers: Callable[[], Workers],
        say: Callable[[str], None],
    ) -> None:
        """``workers`` is asked for the first time that something has to be trained."""
        self.folder, self.seed, self.say = folder, seed, say
        self._ask, self._workers = workers, None
        self._data = train, valid
        self.data_digest = _digest_of([*train, *valid])
        self.members = list({one.key: one for one in read_family(folder)}.values())
        self.reached = 0
        """Members up to the last one that was asked for: a search that runs again from its start
        finds those that it made later, too."""

    def evaluate(self, births: Sequence[Birth]) -> list[Member]:
        """Return the members that ``births`` become, training those that are new."""
        keys = [self._key(one) for one in births]
        known = {one.key for one in self.members}
        new = {key: one for key, one in zip(keys, births, strict=True) if key not in known}
        for key, birth in new.items():
            self._put(key, birth)
        wrong = self._trained([self.folder / key for key in new])
        for key, birth in new.items():
            self._add(self._member(key, birth, wrong.get(key, "")))
        found = {one.key: place for place, one in enumerate(self.members)}
        self.reached = max([self.reached, *(1 + found[key] for key in keys)])
        return [self.members[found[key]] for key in keys]

    def derive(self, birth: Birth, accuracy: float | None) -> Member:
        """Keep a network that is not trained; its initial weights are its weights."""
        assert birth.initial is not None
        key = self._key(birth)
        known = next((one for one in self.members if one.key == key), None)
        if known is not None:
            return known
        weights = dict(birth.initial.weights)
        save_checkpoint(self.folder / key / "network.safetensors", weights, {})
        one = self._described(key, birth, "derived")
        return self._add(msgspec.structs.replace(one, accuracy=accuracy))

    def net(self, member: Member, architecture: Architecture) -> Net:
        """Return the member's network with its weights."""
        weights, _ = load_checkpoint(self.folder / member.key / "network.safetensors")
        return Net(architecture.blocks, weights)

    def _trained(self, folders: list[Path]) -> dict[str, str]:
        """Train in ``folders`` and return what went wrong, by key, where it did so twice."""
        waiting = [folder for folder in folders if not (folder / "result.json").exists()]
        wrong: dict[str, str] = {}
        for attempt in range(1, ATTEMPTS + 1):
            if not waiting:
                break
            if self._workers is None:
                self._workers = self._ask()
            failed: list[Path] = []
            for folder, said in self._workers.train(waiting):
                if said:
                    failed.append(folder)
                    wrong[folder.name] = said
                    then = "it is trained again" if attempt < ATTEMPTS else "it is left out"
                    self.say(f"the training of network {folder.name} failed ({said}); {then}")
            waiting = failed
        return {folder.name: wrong[folder.name] for folder in waiting}

    def _put(self, key: str, birth: Birth) -> None:
        if not (data := self.folder / "data.safetensors").exists():
            write_data(data, *self._data)
        folder = self.folder / key
        if birth.initial is not None:
            initial = dict(birth.initial.weights)
            save_checkpoint(folder / "initial.safetensors", initial, {})
        if birth.teacher is not None:
            put_teacher(folder, birth.teacher)
        write_json(folder / "job.json", ChildJob(birth.architecture, birth.plan, self.seed))

    def _member(self, key: str, birth: Birth, wrong: str) -> Member:
        folder = self.folder / key
        if wrong:
            one = self._described(key, birth, "failed")
            return msgspec.structs.replace(one, error=wrong)
        result = msgspec.json.decode((folder / "result.json").read_bytes(), type=ChildResult)
        return msgspec.structs.replace(
            self._described(key, birth, "trained"),
            accuracy=result.accuracy,
            loss=result.loss,
            epochs=birth.plan.epochs,
            seconds=result.seconds,
        )

    def _described(self, key: str, birth: Birth, state: State) -> Member:
        one = birth.architecture
        return Member(
            f"n{len(self.members)}", key, birth.parent, birth.steps, one.genotype.choices,
            one.digest, one.params, one.macs, state, birth.latency_ms,
        )  # fmt: skip

    def _add(self, member: Member) -> Member:
        append_line(self.folder.parent / FAMILY, member)
        self.members.append(member)
        folder = self.folder / member.key
        for name in INPUTS[1:]:
            (folder / name).unlink(missing_ok=True)
        if member.state == "failed":
            shutil.rmtree(folder, ignore_errors=True)
        return member

    def _key(self, birth: Birth) -> str:
        said = [
            birth.architecture.digest,
            msgspec.json.encode(birth.plan).decode(),
            self.seed,
            self.data_digest,
            _weights_digest(birth.initial),
            _weights_digest(birth.teacher),
        ]
        return hashlib.sha256(msgspec.json.encode(said)).hexdigest()[:16]


FAMILY = "family.jsonl"
"""Beside the folder of the children."""


def read_family(folder: Path) -> list[Member]:
    """Return the members whose children's folder is ``folder``, in the order they were made."""
    return list(read_lines(folder.parent / FAMILY, Member))


def best_of(members: Sequence[Member], worth: Callable[[Member], float]) -> Member:
    """Return the trained member of the greatest worth. Raises `HwnasError` if there is none."""
    trained = [one for one in members if one.state == "trained"]
    if not trained:
        said = next((one.error for one in members if one.error), "none was trained")
        raise HwnasError(f"all {len(members)} networks of the search failed: {said}")
    return max(trained, key=worth)


def handed_on(members: Sequence[Member], choices: tuple[int, ...]) -> Member:
    """Return which of the members of one architecture has the weights that go on: several may have
    grown into it, the most accurate is taken."""
    alike = [one for one in members if one.choices == choices and one.state != "failed"]
    return max(alike, key=lambda one: one.accuracy or 0.0)


def _weights_digest(net: Net | None) -> str:
    if net is None:
        return ""
    return _digest_of([net.weights[name] for name in sorted(net.weights)])


def _digest_of(tensors: Sequence[Tensor]) -> str:
    found = hashlib.sha256()
    for one in tensors:
        found.update(str((one.dtype, tuple(one.shape))).encode())
        found.update(one.contiguous().numpy().tobytes())
    return found.hexdigest()
