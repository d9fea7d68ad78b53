"""The covariance of the network correction, as one table of terms.

The *state* is ``(g, o)``: the relative deviation ``g_b`` of each block's latency inside networks
from its prior cost, and the overhead ``o`` in ms beyond the latency of the null model. A term is an
effect of three kinds: on the costs of blocks, on groups of observations, or noise of each
observation; its variance is multiplied by ``scale^2``, and the scales are fitted. `TERMS` lists all
terms: a new one is one function and one entry of that table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import numpy as np

from hwnas.latency_models.features import Floats, shares
from hwnas.latency_models.fitting.block_prior import Index
from hwnas.latency_models.fitting.gaussian import Prior, matern52
from hwnas.latency_models.fitting.network_data import BlockGrid, NetworkData

HALF_OVERHEAD_CALLS = 4.0
"""Call overhead in an isolated block decays with its duration: half of it remains in a block that
takes as long as this many calls of the null model."""

PARAMS_KNEE = 1000.0
"""Parameters of a block, up to which its parameter effect grows linearly; logarithmically above."""


class BlockEffect(NamedTuple):
    """A term that changes the costs of blocks."""

    covariance: Floats
    """``[B, B]`` of the deviations, for a scale of 1."""


class GroupEffect(NamedTuple):
    """A term with independent causes, each of which changes a group of observations."""

    on_observations: Floats
    """``[N, J]``, in ms, for a scale of 1."""
    on_state: Floats | None = None
    """``[B + 1, J]``; ``None``: on these observations only."""


class NoiseEffect(NamedTuple):
    """A term that is independent in each observation."""

    variance: Floats
    """``[N]``, in ms^2, for a scale of 1."""


Effect = BlockEffect | GroupEffect | NoiseEffect


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

    def of_blocks(self, loadings: Floats) -> BlockEffect:
        """Return the effect of independent causes that change the costs of blocks by ``loadings``
        ``[B, J]``."""
        return BlockEffect(loadings @ loadings.T)


EffectOf = Callable[[Design], Effect | None]
"""Return the effect of a cause, or ``None`` if it is absent from the data."""


class CovarianceTerm(NamedTuple):
    """One term of the covariance."""

    name: str
    prior: Prior
    """Prior of the scale."""
    effect: EffectOf
    untimed_prior: Prior | None = None
    """Prior of the scale if no block was timed. Then the prior costs come from the same networks,
    and the deviations of blocks from them must stay wide. ``None``: `prior`."""
    is_noise: bool = False
    """Whether repeating the measurement of a network draws these causes again."""


Scales = Mapping[str, float]
"""Scale of each term, by its name."""


def _common(design: Design) -> BlockEffect:
    """A factor that all blocks share inside networks."""
    return BlockEffect(np.ones((design.size, design.size)))


def _shares(design: Design) -> BlockEffect:
    """The deviation that blocks share by the resources on which they spend their time."""
    features, prior = design.grid.features, design.grid.prior
    return design.of_blocks(shares(features.regressors, np.array(prior.weights)))


def _shape(design: Design) -> BlockEffect:
    """The deviation that blocks of similar shapes share."""
    features, prior = design.grid.features, design.grid.prior
    points, lengths = features.coordinates, np.array(prior.lengths)
    similarity, _ = matern52(points, points, lengths, features.groups)
    return BlockEffect(similarity)


def _each(design: Design) -> BlockEffect:
    """Each block's own deviation."""
    return BlockEffect(np.eye(design.size))


def _overhead(design: Design) -> GroupEffect:
    """The overhead of a network."""
    on_state = np.zeros((design.size + 1, 1))
    on_state[-1] = design.overhead_ms
    return GroupEffect(design.overhead_ms * design.data.is_network[:, None], on_state)


def _noise(design: Design) -> NoiseEffect:
    """Noise of measuring a network, beside its standard error."""
    return NoiseEffect(design.data.is_network * design.data.ms**2)


def _session(design: Design) -> GroupEffect | None:
    """A factor of all networks measured in one session; the latest one holds for predictions."""
    session = np.array(design.data.session)
    if len(set(design.data.session)) < 2:
        return None
    sessions = np.unique(session)
    on_state = np.zeros((design.size + 1, len(sessions)))
    on_state[:-1, -1] = 1.0
    return GroupEffect(design.network_ms[:, None] * (session[:, None] == sessions), on_state)


def _process(design: Design) -> GroupEffect | None:
    """A factor of all networks measured by one worker process: its memory layout."""
    # every session may count its processes from 1
    runs = list(zip(design.data.session, design.data.process, strict=True))
    known = sorted({run for run in runs if run[1] > 0})
    place = {run: number for number, run in enumerate(known)}
    member = np.zeros((len(runs), len(known)))
    for row, run in zip(member, runs, strict=True):
        if run in place:
            row[place[run]] = 1.0
    return GroupEffect(design.network_ms[:, None] * member) if known else None


def _profiler(design: Design) -> GroupEffect:
    """A factor of all times that a profiler reports."""
    return GroupEffect((design.total_ms * (1 - design.data.is_network))[:, None])


def _profiler_noise(design: Design) -> NoiseEffect:
    """Noise of a profiler's time."""
    return NoiseEffect((1 - design.data.is_network) * design.data.ms**2)


def _call(design: Design) -> BlockEffect | None:
    """Call overhead left in the time of an isolated block, ``c / (m + c)`` of its time ``m``."""
    if not _has_isolated_times(design):
        return None
    call_ms = HALF_OVERHEAD_CALLS * design.grid.null_ms
    return design.of_blocks((call_ms / (design.grid.costs.ms + call_ms))[:, None])


def _weights(design: Design) -> BlockEffect | None:
    """Parameters that an isolated block finds in the caches, ``log(1 + w / PARAMS_KNEE)``.

    The mean over the time of the networks is subtracted, so that the term is no common factor.
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
    """Observations and state as linear functions of causes, for any scales.

    The causes are the deviations of the ``B`` blocks, and after them those of all groups: ``M`` in
    all. The uncertainty of the block prior is a part of the blocks' covariance that no scale
    multiplies.
    """

    def __init__(self, design: Design, names: Iterable[str] = TERMS) -> None:
        self.design = design
        effects = {name: TERMS[name].effect(design) for name in names}
        self.effects = {name: effect for name, effect in effects.items() if effect is not None}
        groups = [e for e in self.effects.values() if isinstance(e, GroupEffect)]
        self.on_observations = np.hstack([design.block_ms, *(e.on_observations for e in groups)])
        """``[N, M]``, in ms."""
        blocks = np.eye(design.size + 1, design.size)
        self.on_state = np.hstack([blocks, *map(self._on_state, groups)])
        """``[B + 1, M]``."""

    def causes(self, scales: Scales) -> Floats:
        """Return the prior covariance ``[M, M]`` of the causes."""
        size, count = self.design.size, self.on_observations.shape[1]
        covariance = np.zeros((count, count))
        covariance[:size, :size] = self.design.grid.costs.covariance
        place = size
        for name, effect in self.effects.items():
            square = scales[name] ** 2
            if isinstance(effect, BlockEffect):
                covariance[:size, :size] += square * effect.covariance
            elif isinstance(effect, GroupEffect):
                end = place + effect.on_observations.shape[1]
                covariance[range(place, end), range(place, end)] = square
                place = end
        return covariance

    def noise(self, scales: Scales) -> Floats:
        """Return the variance ``[N]`` that the terms add to each observation independently, in
        ms^2."""
        variance = np.zeros(len(self.design.data.ms))
        for name, effect in self.effects.items():
            if isinstance(effect, NoiseEffect):
                variance += scales[name] ** 2 * effect.variance
        return variance

    def gram(self, name: str, rows: Index) -> Floats:
        """Return the covariance of some observations that a term adds, for a scale of 1, in
        ms^2."""
        effect = self.effects[name]
        if isinstance(effect, NoiseEffect):
            return np.diag(effect.variance[rows])
        if isinstance(effect, GroupEffect):
            return effect.on_observations[rows] @ effect.on_observations[rows].T
        block_ms = self.design.block_ms[rows]
        return block_ms @ effect.covariance @ block_ms.T

    def acts(self, name: str) -> bool:
        """Whether a term changes any observation."""
        effect = self.effects[name]
        if isinstance(effect, NoiseEffect):
            return bool(effect.variance.any())
        if isinstance(effect, GroupEffect):
            return bool(effect.on_observations.any())
        return bool((self.design.block_ms @ effect.covariance).any())

    def _on_state(self, effect: GroupEffect) -> Floats:
        count = effect.on_observations.shape[1]
        return (
            np.zeros((self.design.size + 1, count)) if effect.on_state is None else effect.on_state
        )
