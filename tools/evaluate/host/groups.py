"""Groups of networks of equal measured latency on a target: searched, random and uniform ones."""

from __future__ import annotations

from pathlib import Path
from random import Random

import msgspec
import numpy as np

from hwnas.architecture.architecture import Architecture, Genotype
from hwnas.architecture.runtimes import RUNTIMES
from hwnas.devices.profile import find_profile
from hwnas.devices.runner import Subject, open_runner
from hwnas.export.compile import compile_model
from hwnas.files import write_json
from hwnas.latency_models.model import LatencyModel
from hwnas.latency_models.storage.store import measured_folder, read_model
from hwnas.measurement.measurement import Measurement
from hwnas.nn.build import Network
from hwnas.search.knapsack import window_samples
from hwnas.spaces.mobile.space import (
    FUSED,
    Candidate,
    MobileSpace,
    mobile_space,
    mobilenet_v2_like,
    scaled,
)
from tools.evaluate.host.runs import delivered_networks
from tools.lib.results import results_folder

RESULTS = results_folder(__file__)
FAMILIES = (Candidate("mbconv", 3, 3), Candidate("mbconv", 3, 6), *FUSED)
SPACE = mobile_space((1, 28, 28), 10)


class Member(msgspec.Struct, frozen=True):
    """A network of a group with its latency, measured interleaved with all of its target."""

    architecture: Architecture
    median_ms: float


def equal_latency_groups(
    work: Path, target: str, share: int, seeds: int, more: dict[str, list[Architecture]]
) -> dict[str, list[Member]]:
    """Return the groups; if one of ``more`` is missing, all are measured again with it."""
    path = RESULTS / f"{target}_{share}.json"
    stored: dict[str, list[Member]] = {}
    if path.exists():
        stored = msgspec.json.decode(path.read_bytes(), type=dict[str, list[Member]])
        if more.keys() <= stored.keys():
            return stored
    groups = {name: [member.architecture for member in group] for name, group in stored.items()}
    groups = (groups or _groups(work, target, share, seeds)) | more
    members = _members(work, target, groups)
    write_json(path, members)
    return members


def standard_groups(
    work: Path,
    target: str,
    budget_ms: float,
    seeds: int,
    searched: Architecture,
    width_mult: str,
    families: tuple[str, ...],
) -> dict[str, list[Member]]:
    """Return a searched network, random ones and the widest uniform ones within its budget.

    The stored groups are used if they have the same searched network, as many random ones and all
    ``families``.
    """
    names = [f"uniform {family}" for family in families]
    path = RESULTS / f"{target}_standard{width_mult and f'_x{width_mult}'}.json"
    if path.exists():
        stored = msgspec.json.decode(path.read_bytes(), type=dict[str, list[Member]])
        same = stored["searched"][0].architecture.digest == searched.digest
        if same and len(stored["random"]) == seeds and stored.keys() >= {*names}:
            return stored
    uniform = _uniform(work, target, budget_ms)
    space = scaled(SPACE, float(width_mult)) if width_mult else SPACE
    groups = {"searched": [searched], "random": _random(target, budget_ms, seeds, space)}
    groups |= {name: [uniform[name]] for name in names if name in uniform}
    members = _members(work, target, groups)
    write_json(path, members)
    return members


def _members(
    work: Path, target: str, groups: dict[str, list[Architecture]]
) -> dict[str, list[Member]]:
    """Measure the networks of all groups, interleaved."""
    nets = {net.digest: net for group in groups.values() for net in group}
    measured = measure(target, list(nets.values()), work / "accuracy" / target)
    return {
        name: [Member(net, measured[net.digest].median_ms) for net in group]
        for name, group in groups.items()
    }


def _groups(work: Path, target: str, share: int, seeds: int) -> dict[str, list[Architecture]]:
    """Return networks of equal latency on a target: searched, random, uniform of each family."""
    budget_ms = share / 100 * model_of(target).cost_table(SPACE).largest_ms
    uniform = _uniform(work, target, budget_ms)
    searched = delivered_networks(work, target, f"{share}%")
    random = _random(target, budget_ms, seeds, SPACE)
    return {"searched": searched, "random": random, **{k: [v] for k, v in uniform.items()}}


def _random(target: str, budget_ms: float, count: int, space: MobileSpace) -> list[Architecture]:
    """Return random networks of a space with 95 to 100 % of a budget."""
    costs = model_of(target, space).cost_table(space)
    level = [[0.0] * len(row) for row in costs.mean_ms]
    rng = np.random.default_rng(Random(0).randrange(2**32))
    draws = window_samples(level, costs, 0.95 * budget_ms, budget_ms, count + 1, rng)[1:]
    return [space.architecture(Genotype(space.name, choices)) for choices in draws]


def _uniform(work: Path, target: str, budget_ms: float) -> dict[str, Architecture]:
    """Return the widest network of each uniform family whose measured latency keeps the budget."""
    nets = {
        (family.name, width): mobilenet_v2_like(SPACE, family, width)
        for family in FAMILIES
        for width in np.arange(0.25, 3.01, 0.125).tolist()
    }
    distinct = list({net.digest: net for net in nets.values()}.values())
    cached = work / "accuracy" / f"{target}-uniform.json"
    if cached.exists():
        latency_ms = msgspec.json.decode(cached.read_bytes(), type=dict[str, float])
    else:
        measured = measure(target, distinct, work / "accuracy" / target)
        latency_ms = {digest: measurement.median_ms for digest, measurement in measured.items()}
        write_json(cached, latency_ms)
    best: dict[str, Architecture] = {}
    for (family, _), net in nets.items():  # from narrow to wide
        if latency_ms[net.digest] <= budget_ms:
            best[f"uniform {family}"] = net
    return best


def measure(target: str, nets: list[Architecture], folder: Path) -> dict[str, Measurement]:
    """Compile networks with fresh weights and measure them in one interleaved batch."""
    profile = find_profile(target)
    format = RUNTIMES[profile.runtime].format
    subjects = [Subject(net.digest, folder / f"{net.digest}.{format}") for net in nets]
    for net, subject in zip(nets, subjects, strict=True):
        compile_model(Network(net.blocks), net.input_shape, subject.path)
    reference_ms = model_of(target).conditions.reference_ms  # type: ignore[union-attr]
    with open_runner(profile) as runner:
        measured = runner.measure(subjects, calibrated_reference_ms=reference_ms)
    return {measurement.name: measurement for measurement in measured}


def model_of(target: str, space: MobileSpace = SPACE) -> LatencyModel:
    return read_model(measured_folder(target, space) / "model.json")
