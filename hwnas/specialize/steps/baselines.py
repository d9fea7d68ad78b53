"""Baselines of a search: uniform and published networks, and whole trained networks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hwnas.architecture.architecture import Architecture
from hwnas.architecture.size import axes, size_text
from hwnas.errors import HwnasError
from hwnas.latency_models.model import LatencyModel
from hwnas.pretrained.network import PretrainedNetwork
from hwnas.spaces.elastic.space import ElasticSpace
from hwnas.spaces.int8 import in_float, network_in_precision
from hwnas.spaces.space import SearchSpace
from hwnas.specialize.context import Candidate, RunContext
from hwnas.training.checkpoint import save_checkpoint

MEASURED_SIZES = 3
"""Resolutions in which a whole trained network is measured."""
MAX_OVER = 0.06
"""Relative excess over the budget up to which a predicted network may still keep it when
measured."""


def baseline_networks(space: SearchSpace, model: LatencyModel) -> list[Candidate]:
    """Return the space's baselines, each architecture once."""
    candidates: dict[str, Candidate] = {}
    for name, origin, network in space.baselines():
        if network.digest not in candidates:
            candidates[network.digest] = Candidate(
                name=name, origin=origin, architecture=network, **predicted(network, model)
            )
    return list(candidates.values())


def compared_networks(run: RunContext, model: LatencyModel) -> list[Candidate]:
    """Return the space's baselines; of the resolutions of a trained network only the largest, which
    is that network itself, and those of `near_budget`."""
    baselines = baseline_networks(run.space, model)
    sizes = [each for each in baselines if each.origin == "resolution"]
    measured = [*sizes[:1], *near_budget(sizes[1:], run.budget_ms)]
    return [each for each in baselines if each not in sizes or each in measured]


def sibling_networks(run: RunContext, model: LatencyModel) -> list[Candidate]:
    """Return each sibling in the resolutions of `near_budget`.

    The weights that their training starts from are saved.
    """
    return [each for sibling in run.siblings for each in _sized(run, sibling, model)]


def near_budget(sizes: Sequence[Candidate], budget_ms: float) -> list[Candidate]:
    """Return the largest resolutions of a network that should keep the budget.

    There are several, because the prediction may be wrong; without predictions all are returned.
    ``sizes`` is the network at each resolution, the largest first.
    """
    limit_ms = (1 + MAX_OVER) * budget_ms
    within = [each for each in sizes if (each.predicted_ms or 0.0) <= limit_ms]
    is_predicted = all(each.predicted_ms is not None for each in sizes)
    return within[:MEASURED_SIZES] if is_predicted else within


def _sized(run: RunContext, sibling: PretrainedNetwork, model: LatencyModel) -> list[Candidate]:
    space = in_float(run.space)
    assert isinstance(space, ElasticSpace)
    networks: dict[str, tuple[Candidate, PretrainedNetwork]] = {}
    for size in space.sizes:
        resized = sibling.at((space.input_shape[0], *axes(size)))
        architecture = network_in_precision(resized.architecture, run.spec.precision)
        candidate = Candidate(
            name=f"{sibling.name} at {size_text(size)}",
            origin="sibling",
            architecture=architecture,
            inherits=True,
            **predicted(architecture, model),
        )
        networks[architecture.digest] = candidate, resized
    chosen = near_budget([candidate for candidate, _ in networks.values()], run.budget_ms)
    for candidate in chosen:
        digest = candidate.architecture.digest
        state = networks[digest][1].network().state_dict()
        save_checkpoint(inherited_weights(run, candidate.architecture), state, {})
    return chosen


def inherited_weights(run: RunContext, architecture: Architecture) -> Path:
    """Return the file of the weights that a network's training starts from, if it exists."""
    return run.folder.path / "search" / "inherited" / f"{architecture.digest}.safetensors"


def predicted(architecture: Architecture, model: LatencyModel) -> dict[str, Any]:
    """Return the predicted fields of a `Candidate`; none if the model lacks a block."""
    try:
        return {
            "predicted_ms": model.network_ms(architecture.blocks),
            "predicted_std_ms": model.std_ms(architecture.blocks),
        }
    except HwnasError:
        return {"predicted_ms": None}
