"""The covariance of the network correction, as one table of terms.

The *state* is ``(g, o)``: the relative deviation ``g_b`` of each block's latency inside networks
from its prior cost, and the overhead ``o`` in ms beyond the latency of the null model. A term
stands for causes with covariance ``V [J, J]`` that act linearly on the state, by ``L [B + 1, J]``,
and on the observations, by ``E [N, J]``. It adds ``scale^2 E V E^T`` to the covariance of the
observations and ``scale^2 L V L^T`` to that of the state; the scales are fitted. `TERMS` lists all
terms: a new one is one function and one entry of that table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from hwnas.architecture.architecture import Block
from hwnas.latency_models.features import Floats, shares
from hwnas.latency_models.fitting.block_prior import BlockCosts, BlockPrior, Index
from hwnas.latency_models.fitting.gaussian import Prior, matern52

HALF_OVERHEAD_CALLS = 4.0
"""Call overhead in an isolated block decays with its duration: half of it remains in a block that
takes as long as this many calls of the null model."""

PARAMS_KNEE = 1000.0
"""Parameters of a block, up to which its parameter effect grows linearly; logarithmically above."""


class NetworkData(NamedTuple):
    """Observations of networks, and of blocks inside networks, over a list of ``B`` blocks."""

    counts: Floats
    """``[N, B]``."""
    ms: Floats
    relative_error: Floats
    """Standard error of each latency, relative to it."""
    is_network: Floats
    """1 for a whole network, 0 for a block inside one."""
    session: Sequence[int]
    process: Sequence[int]


class BlockFeatures(NamedTuple):
    """What the terms know about ``B`` blocks."""

    regressors: Floats
    """``[B, J]``, see `block_prior.cost_regressors`."""
    coordinates: Floats
    """``[B, D]`` of the shape kernel, see `features.shapes`."""
    groups: Index
    """Length scale of each coordinate."""
    params: Floats


class BlockGrid(NamedTuple):
    """The blocks that the correction is over: their prior costs and features."""

    blocks: Sequence[Block]
    costs: BlockCosts
    features: BlockFeatures
    prior: BlockPrior
    null_ms: float


class Effect(NamedTuple):
    """How the causes of one term act, for a scale of 1."""

    on_observations: Floats
    """``E [N, J]``, in ms."""
    on_state: Floats | None = None
    """``L [B + 1, J]``; ``None``: on measurements only, such as noise."""
    covariance: Floats | None = None
    """``V [J, J]`` of the causes; ``None``: the identity."""

    def gram(self) -> Floats:
        """Return the covariance ``[N, N]`` of the observations."""
        return self.on_observations @ self._correlated(self.on_observations)

    def cross(self) -> Floats:
        """Return the covariance ``[B + 1, N]`` of state and observations."""
        assert self.on_state is not None
        return self.on_state @ self._correlated(self.on_observations)

    def state(self) -> Floats:
        """Return the covariance ``[B + 1, B + 1]`` of the state."""
        assert self.on_state is not None
        return self.on_state @ self._correlated(self.on_state)

    def _correlated(self, effect: Floats) -> Floats:
        return effect.T if self.covariance is None else self.covariance @ effect.T


class Design:
    """Observations as linear functions of the state."""

    def __init__(self, data: NetworkData, grid: BlockGrid, overhead_ms: float) -> None:
        self.data, self.grid, self.overhead_ms = data, grid, overhead_ms
        self.block_ms = data.counts * grid.costs.ms
        """``[N, B]``: part of each block in an observation, by its prior cost."""
        self.total_ms = self.block_ms.sum(axis=1)
        self.network_ms = self.total_ms * data.is_network

    @property
    def size(self) -> int:
        """Number of blocks ``B``."""
        return len(self.grid.costs.ms)

    def of_blocks(self, loadings: Floats, covariance: Floats | None = None) -> Effect:
        """Return the effect of causes that change the costs of blocks by ``loadings [B, J]``."""
        return Effect(self.block_ms @ loadings, self.on_blocks(loadings), covariance)

    def on_blocks(self, loadings: Floats) -> Floats:
        """Return ``[B + 1, J]``: ``loadings [B, J]`` of the blocks, 0 for the overhead."""
        return np.vstack([loadings, np.zeros((1, loadings.shape[1]))])


EffectOf = Callable[[Design], Effect | None]
"""Return the effect of a cause, or ``None`` if it is absent from the data."""


class CovarianceTerm(NamedTuple):
    """One term of the covariance."""

    name: str
    prior: Prior
    """Of the scale."""
    effect: EffectOf
    untimed_prior: Prior | None = None
    """Of the scale where no block was timed, so that the prior costs come from these very networks:
    blocks' deviations from them stay wide. ``None``: `prior`."""
    is_noise: bool = False
    """Whether repeating the measurement of a network draws these causes again."""


Scales = Mapping[str, float]
"""Scale of each term, by its name."""


def _common(design: Design) -> Effect:
    """A factor that all blocks share inside networks."""
    return Effect(design.total_ms[:, None], design.on_blocks(np.ones((design.size, 1))))


def _shares(design: Design) -> Effect:
    """What blocks share by the resources that they spend their time on."""
    features, prior = design.grid.features, design.grid.prior
    return design.of_blocks(shares(features.regressors, np.array(prior.weights)))


def _shape(design: Design) -> Effect:
    """What blocks of similar shapes share."""
    features, prior = design.grid.features, design.grid.prior
    points, lengths = features.coordinates, np.array(prior.lengths)
    similarity, _ = matern52(points, points, lengths, features.groups)
    return Effect(design.block_ms, design.on_blocks(np.eye(design.size)), similarity)


def _each(design: Design) -> Effect:
    """Each block's own deviation."""
    return Effect(design.block_ms, design.on_blocks(np.eye(design.size)))


def _overhead(design: Design) -> Effect:
    """The overhead of a network."""
    on_state = np.zeros((design.size + 1, 1))
    on_state[-1] = design.overhead_ms
    return Effect(design.overhead_ms * design.data.is_network[:, None], on_state)


def _noise(design: Design) -> Effect:
    """Noise of measuring a network, beside its standard error."""
    return Effect(np.diag(design.data.is_network * design.data.ms))


def _session(design: Design) -> Effect | None:
    """A factor of all networks measured in one session; the latest one holds for predictions."""
    session = np.array(design.data.session)
    if len(set(design.data.session)) < 2:
        return None
    sessions = np.unique(session)
    on_state = np.zeros((design.size + 1, len(sessions)))
    on_state[:-1, -1] = 1.0
    return Effect(design.network_ms[:, None] * (session[:, None] == sessions), on_state)


def _process(design: Design) -> Effect | None:
    """A factor of all networks measured by one worker process: its memory layout."""
    # every session may count its processes from 1
    runs = list(zip(design.data.session, design.data.process, strict=True))
    known = sorted({run for run in runs if run[1] > 0})
    member = np.array([[float(run == other) for other in known] for run in runs])
    return Effect(design.network_ms[:, None] * member) if known else None


def _profiler(design: Design) -> Effect:
    """A factor of all times that a profiler reports."""
    return Effect((design.total_ms * (1 - design.data.is_network))[:, None])


def _profiler_noise(design: Design) -> Effect:
    """Noise of a profiler's time."""
    return Effect(np.diag((1 - design.data.is_network) * design.data.ms))


def _call(design: Design) -> Effect | None:
    """Call overhead left in the time of an isolated block, ``c / (m + c)`` of its time ``m``."""
    if not _has_isolated_times(design):
        return None
    call_ms = HALF_OVERHEAD_CALLS * design.grid.null_ms
    return design.of_blocks((call_ms / (design.grid.costs.ms + call_ms))[:, None])


def _weights(design: Design) -> Effect | None:
    """Parameters that an isolated block finds in the caches, ``log(1 + w / PARAMS_KNEE)``.

    Less its mean over the time of the networks, so that it is no common factor.
    """
    if not _has_isolated_times(design):
        return None
    logs = np.log1p(design.grid.features.params / PARAMS_KNEE)
    return design.of_blocks((logs - np.average(logs, weights=_spent_ms(design)))[:, None])


def _has_isolated_times(design: Design) -> bool:
    return design.grid.null_ms > 0 and bool(_spent_ms(design).any())


def _spent_ms(design: Design) -> Floats:
    """Return the time ``[B]`` of each block in all networks together."""
    return design.data.is_network @ design.data.counts * design.grid.costs.ms


TERMS = {
    term.name: term
    for term in (
        CovarianceTerm("common", Prior(0.1), _common),
        CovarianceTerm("shares", Prior(0.1), _shares, untimed_prior=Prior(1.0, 0.05)),
        # without times of blocks, as devices show it whose blocks were timed: 0.2 to 0.4
        CovarianceTerm("shape", Prior(0.1), _shape, untimed_prior=Prior(0.25)),
        CovarianceTerm("each", Prior(0.04), _each),
        CovarianceTerm("overhead", Prior(1.0), _overhead),
        CovarianceTerm("noise", Prior(0.02, 1.0), _noise, is_noise=True),
        CovarianceTerm("session", Prior(0.01, 1.0), _session),
        CovarianceTerm("profiler", Prior(0.1), _profiler),
        CovarianceTerm("profiler noise", Prior(0.05), _profiler_noise),
        # 0.003 over 36 pairs of processes, at most 0.011
        CovarianceTerm("process", Prior(0.006, 0.5), _process, is_noise=True),
        CovarianceTerm("call", Prior(0.2, 0.5), _call),
        CovarianceTerm("weights", Prior(0.04), _weights),
    )
}


class CovarianceTerms:
    """The covariances of state and observations, for any scales.

    The uncertainty of the block prior is a part of them that no scale multiplies.
    """

    def __init__(self, design: Design, names: Iterable[str] = TERMS) -> None:
        self.design = design
        effects = {name: TERMS[name].effect(design) for name in names}
        self.effects = {name: effect for name, effect in effects.items() if effect is not None}
        covariance = design.grid.costs.covariance
        loadings = design.on_blocks(np.eye(design.size))
        self.prior_costs = Effect(design.block_ms, loadings, covariance)

    @cached_property
    def grams(self) -> dict[str, Floats]:
        """``[N, N]`` of each term, for a scale of 1."""
        return {name: effect.gram() for name, effect in self.effects.items()}

    def gram(self, scales: Scales) -> Floats:
        """Return what the terms add to the covariance ``[N, N]`` of the observations."""
        return np.sum([scales[name] ** 2 * gram for name, gram in self.grams.items()], axis=0)

    def cross(self, scales: Scales) -> Floats:
        """Return the prior covariance ``[B + 1, N]`` of state and observations."""
        fixed, parts = self._crosses
        return fixed + np.sum([scales[name] ** 2 * part for name, part in parts.items()], axis=0)

    def state(self, scales: Scales) -> Floats:
        """Return the prior covariance ``[B + 1, B + 1]`` of the state."""
        fixed, parts = self._states
        return fixed + np.sum([scales[name] ** 2 * part for name, part in parts.items()], axis=0)

    @cached_property
    def _crosses(self) -> tuple[Floats, dict[str, Floats]]:
        return self.prior_costs.cross(), {n: e.cross() for n, e in self._on_state.items()}

    @cached_property
    def _states(self) -> tuple[Floats, dict[str, Floats]]:
        return self.prior_costs.state(), {n: e.state() for n, e in self._on_state.items()}

    @property
    def _on_state(self) -> dict[str, Effect]:
        return {name: e for name, e in self.effects.items() if e.on_state is not None}
