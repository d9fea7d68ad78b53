"""The pool of networks that EAS grows: each is trained once and stored with its origin.

The key of a network is a digest of its architecture, its training and its initial weights; a
network with the same key is not trained again. The folder of a network holds its weights, and
``family.jsonl`` gets a line when its training has ended.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
from torch import Tensor

from hwnas.architecture.architecture import Architecture
from hwnas.errors import HwnasError
from hwnas.files import append_line, read_json, read_lines, write_json
from hwnas.nn.growth.transforms import Net
from hwnas.search.eas.worker_pool import IMAGES, INITIAL, INPUTS, Workers
from hwnas.training.checkpoint import load_checkpoint, save_checkpoint
from hwnas.training.compute import CPU
from hwnas.training.images.loader import Data, write_images
from hwnas.training.job import TEACHER, Teacher, TrainingJob, TrainingResult, read_result
from hwnas.training.plan import TrainingPlan

ATTEMPTS = 2
"""Attempts at a training whose worker fails."""

State = Literal["trained", "failed", "derived"]


class Member(msgspec.Struct, frozen=True):
    """A line of ``family.jsonl``."""

    name: str
    """n0, n1, ..., in order of creation."""
    key: str
    """Digest of everything that its training depends on, 16 hex digits."""
    parent: str
    """Name of the network that it grew from; empty for the start network."""
    steps: tuple[str, ...]
    """Steps from the parent to this network, as text."""
    choices: tuple[int, ...]
    """Choices of its genotype."""
    digest: str
    """Digest of its architecture."""
    params: int
    macs: int
    state: State
    """``derived``: grown to fill the budget, with inherited weights and no training."""
    latency_ms: float
    """Latency predicted at its creation."""
    accuracy: float | None = None
    """Accuracy on validation images; if ``derived`` that of the parent, which computes the same."""
    loss: float | None = None
    epochs: int = 0
    seconds: float = 0.0
    error: str = ""


class TrainRequest(NamedTuple):
    """A network to be trained."""

    architecture: Architecture
    initial: Net | None
    """Initial weights; ``None``: random ones."""
    parent: str
    steps: tuple[str, ...]
    latency_ms: float
    plan: TrainingPlan
    teacher: Net | None = None
    """Network to distil from."""


class ModelPool:
    """Trains networks and stores them."""

    def __init__(
        self,
        folder: Path,
        train: Data,
        valid: Data,
        seed: int,
        workers: Callable[[], Workers],
        warn: Callable[[str], None],
        data: str = "",
        group_by: str = "",
    ) -> None:
        """``workers`` is called before the first training. Images that aren't in memory are loaded
        by each training, from the data set ``data`` as divided by ``group_by``."""
        self.folder, self.seed, self.warn = folder, seed, warn
        self._open_workers, self._workers = workers, None
        self._data = train, valid
        self.compute = train.compute.of_child()
        self.in_memory = isinstance(train.images, Tensor) and isinstance(valid.images, Tensor)
        self.group_by = group_by
        self.data_name = os.path.abspath(data) if os.path.exists(data) else data
        self.data_digest = (
            _digest_of([*train.tensors(), *valid.tensors()])
            if self.in_memory
            else f"{train.digest} {valid.digest}"
        )
        self.members = list({member.key: member for member in read_family(folder)}.values())
        self.used = 0
        """Members up to the last one that was requested. A search that is repeated from its start
        also finds members in the folder that it has not requested yet."""

    def evaluate(self, requests: Sequence[TrainRequest]) -> list[Member]:
        """Return a member for each request; new ones are trained."""
        keys = [self._key(request) for request in requests]
        known = {member.key for member in self.members}
        new = {
            key: request for key, request in zip(keys, requests, strict=True) if key not in known
        }
        for key, request in new.items():
            self._write_job(key, request)
        errors = self._train([self.folder / key for key in new])
        for key, request in new.items():
            self._add(self._member(key, request, errors.get(key, "")))
        numbers = {member.key: number for number, member in enumerate(self.members)}
        self.used = max([self.used, *(1 + numbers[key] for key in keys)])
        return [self.members[numbers[key]] for key in keys]

    def add_untrained(self, request: TrainRequest, accuracy: float | None) -> Member:
        """Store a network with its initial weights, without training."""
        assert request.initial is not None
        key = self._key(request)
        existing = next((member for member in self.members if member.key == key), None)
        if existing is not None:
            return existing
        weights = dict(request.initial.weights)
        save_checkpoint(self.folder / key / "network.safetensors", weights, {})
        member = self._new_member(key, request, "derived")
        return self._add(msgspec.structs.replace(member, accuracy=accuracy))

    def net(self, member: Member, architecture: Architecture) -> Net:
        """Return the member's network with its weights."""
        weights, _ = load_checkpoint(self.folder / member.key / "network.safetensors")
        return Net(architecture.blocks, weights, architecture.norm_eps)

    def _train(self, folders: list[Path]) -> dict[str, str]:
        """Train in ``folders``; return the error of each that failed in all attempts, by key."""
        waiting = [folder for folder in folders if read_result(folder) is None]
        errors: dict[str, str] = {}
        for attempt in range(1, ATTEMPTS + 1):
            if not waiting:
                break
            if self._workers is None:
                self._workers = self._open_workers()
            failed: list[Path] = []
            for folder, error in self._workers.train(waiting):
                if error:
                    failed.append(folder)
                    errors[folder.name] = error
                    then = "it is trained again" if attempt < ATTEMPTS else "it is left out"
                    self.warn(f"the training of network {folder.name} failed ({error}); {then}")
            waiting = failed
        return {folder.name: errors[folder.name] for folder in waiting}

    def _write_job(self, key: str, request: TrainRequest) -> None:
        folder = self.folder / key
        images = self.folder / Path(IMAGES).name
        if self.in_memory and not images.exists():
            write_images(images, *self._data)
        if request.initial is not None:
            save_checkpoint(folder / INITIAL, dict(request.initial.weights), {})
        if request.teacher is not None:
            save_checkpoint(folder / TEACHER, dict(request.teacher.weights), {})
        job = TrainingJob(
            architecture=request.architecture,
            data=IMAGES if self.in_memory else self.data_name,
            group_by=self.group_by,
            plan=request.plan,
            initial="" if request.initial is None else INITIAL,
            teacher=_teacher(request),
            seed=self.seed,
            compute=self.compute,
        )
        write_json(folder / "job.json", job)

    def _member(self, key: str, request: TrainRequest, error: str) -> Member:
        folder = self.folder / key
        if error:
            member = self._new_member(key, request, "failed")
            return msgspec.structs.replace(member, error=error)
        result = read_json(folder / "result.json", TrainingResult)
        return msgspec.structs.replace(
            self._new_member(key, request, "trained"),
            accuracy=result.validation_accuracy,
            loss=result.loss,
            epochs=request.plan.epochs,
            seconds=result.seconds,
        )

    def _new_member(self, key: str, request: TrainRequest, state: State) -> Member:
        architecture = request.architecture
        return Member(
            name=f"n{len(self.members)}",
            key=key,
            parent=request.parent,
            steps=request.steps,
            choices=architecture.genotype.choices,
            digest=architecture.digest,
            params=architecture.params,
            macs=architecture.macs,
            state=state,
            latency_ms=request.latency_ms,
        )

    def _add(self, member: Member) -> Member:
        append_line(self.folder.parent / FAMILY, member)
        self.members.append(member)
        folder = self.folder / member.key
        for name in INPUTS[1:]:
            (folder / name).unlink(missing_ok=True)
        if member.state == "failed":
            shutil.rmtree(folder, ignore_errors=True)
        return member

    def _key(self, request: TrainRequest) -> str:
        inputs = [
            request.architecture.digest,
            msgspec.json.encode(request.plan).decode(),
            self.seed,
            self.data_digest,
            *([] if self.compute == CPU else [self.compute.kind, self.compute.amp]),
            _weights_digest(request.initial),
            _weights_digest(request.teacher),
        ]
        return hashlib.sha256(msgspec.json.encode(inputs)).hexdigest()[:16]


FAMILY = "family.jsonl"
"""Journal of the members, beside the folder of the networks."""


def _teacher(request: TrainRequest) -> Teacher | None:
    if request.teacher is None:
        return None
    blocks = request.teacher.blocks
    return Teacher(msgspec.structs.replace(request.architecture, blocks=blocks))


def read_family(folder: Path) -> list[Member]:
    """Return the members whose networks are in ``folder``, in order of creation."""
    return list(read_lines(folder.parent / FAMILY, Member))


def best_trained(members: Sequence[Member], score: Callable[[Member], float]) -> Member:
    """Return the trained member of the greatest score. Raises `HwnasError` if none was trained."""
    trained = [member for member in members if member.state == "trained"]
    if not trained:
        error = next((member.error for member in members if member.error), "none was trained")
        raise HwnasError(f"all {len(members)} networks of the search failed: {error}")
    return max(trained, key=score)


def best_member(members: Sequence[Member], choices: tuple[int, ...]) -> Member:
    """Return the most accurate member with these choices; several parents may grow into it."""
    same = [member for member in members if member.choices == choices and member.state != "failed"]
    return max(same, key=lambda member: member.accuracy or 0.0)


def _weights_digest(net: Net | None) -> str:
    if net is None:
        return ""
    return _digest_of([net.weights[name] for name in sorted(net.weights)])


def _digest_of(tensors: Sequence[Tensor]) -> str:
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(str((tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
