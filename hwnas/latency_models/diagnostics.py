"""The largest errors of a latency model: held-out networks, and blocks left out one by one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from hwnas.architecture.architecture import Block
from hwnas.latency_models.fitting.block_prior import cost_regressors, prior_covariance
from hwnas.latency_models.fitting.design_matrix import timed_blocks
from hwnas.latency_models.fitting.fit import NUM_FOLDS, held_out_predictions, score_predictions
from hwnas.latency_models.fitting.gaussian import leave_one_out
from hwnas.latency_models.model import LatencyModel
from hwnas.latency_models.observation import Observation

NUM_WORST = 3
"""Number of networks listed; also the least number of timed blocks for errors by operation."""


class NetworkDiagnostic(msgspec.Struct, frozen=True):
    """The error for one network of a model fitted to other networks."""

    measured_ms: float
    predicted_ms: float
    std_ms: float
    blocks: int
    mostly: str
    """The operation with the largest share of the latency, and that share."""

    @property
    def error(self) -> float:
        return self.predicted_ms / self.measured_ms - 1


class OpDiagnostic(msgspec.Struct, frozen=True):
    """The errors for the blocks of one operation, each predicted from all other isolated blocks."""

    op: str
    blocks: int
    typical_error: float
    """Root mean square of the relative errors."""
    worst: str
    """Block key."""
    worst_error: float


class Diagnostics(msgspec.Struct, frozen=True):
    """Held-out errors of a latency model."""

    networks: tuple[NetworkDiagnostic, ...]
    """Those with the largest relative errors, largest first."""
    ops: tuple[OpDiagnostic, ...]


def cross_validate(model: LatencyModel) -> tuple[LatencyModel, Diagnostics]:
    """Return the model with its held-out error, and diagnostics."""
    networks: tuple[NetworkDiagnostic, ...] = ()
    predicted = held_out_predictions(model.device, model.observations, model.sources)
    if predicted is not None:
        measured = np.array([network.ms for network in model.networks])
        held_out = score_predictions(predicted, measured, NUM_FOLDS)
        model = msgspec.structs.replace(model, held_out=held_out)
        errors = np.abs(predicted.mean_ms / measured - 1)
        worst: list[int] = np.argsort(-errors)[:NUM_WORST].tolist()
        networks = tuple(
            NetworkDiagnostic(
                measured_ms=float(measured[place]),
                predicted_ms=float(predicted.mean_ms[place]),
                std_ms=float(predicted.std_ms[place]),
                blocks=len(model.networks[place].blocks),
                mostly=_mostly(model, model.networks[place]),
            )
            for place in worst
        )
    return model, Diagnostics(networks, tuple(_by_op(*block_errors(model))))


def block_errors(model: LatencyModel) -> tuple[list[Block], list[float]]:
    """Return the timed blocks, and the relative error of predicting each from the others."""
    timed = timed_blocks(model.observations)
    if len(timed.blocks) < NUM_WORST:
        return [], []
    amounts = cost_regressors(
        timed.blocks, [source.predicted_ms(timed.blocks) for source in model.sources]
    )
    mean_ms = np.maximum(amounts @ np.array(model.prior.weights), 1e-9)
    covariance = prior_covariance(model.prior, timed.blocks, amounts) + np.diag(
        timed.relative_error**2
    )
    error, _ = leave_one_out(np.log(timed.ms / mean_ms), covariance)
    return timed.blocks, (np.exp(-error) - 1).tolist()


def _by_op(blocks: Sequence[Block], errors: Sequence[float]) -> Iterable[OpDiagnostic]:
    for op in sorted({block.op for block in blocks}):
        op_errors = [
            (error, block) for block, error in zip(blocks, errors, strict=True) if block.op == op
        ]
        worst_error, worst = max(op_errors, key=lambda pair: abs(pair[0]))
        typical = float(np.sqrt(np.mean([error**2 for error, _ in op_errors])))
        yield OpDiagnostic(op, len(op_errors), typical, worst.key, worst_error)


def _mostly(model: LatencyModel, network: Observation) -> str:
    parts: dict[str, float] = {}
    for block in network.blocks:
        parts[block.op] = parts.get(block.op, 0.0) + model.rows_ms[block]
    op = max(parts, key=lambda name: parts[name])
    return f"{op} {parts[op] / sum(parts.values()):.0%}"
