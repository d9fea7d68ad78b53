"""The latency model of one device: what a block, a network or a whole space costs, and how sure.

A sum-structured Gaussian process: `prior` says what blocks cost by features and timings of single
blocks, `correction` what whole networks add to it. The file holds the observations and the few
numbers that a fit finds; the posterior is worked out when it is asked for, without any fitting.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from statistics import NormalDist
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from hwnas.architecture.architecture import Block
from hwnas.architecture.block import FREE_OPS
from hwnas.errors import InvalidFile, UnknownName
from hwnas.latency_models.cost import Costs, CostTable, NetworkCosts, cost_table
from hwnas.latency_models.features import Floats, unsupported
from hwnas.latency_models.fitting.block_prior import BlockPrior
from hwnas.latency_models.fitting.design_matrix import (
    block_grid,
    common_bias_std,
    network_data,
    null_latency_ms,
)
from hwnas.latency_models.fitting.network_correction import (
    Correction,
    Posterior,
    posterior,
    uncorrected,
)
from hwnas.latency_models.observation import Observation
from hwnas.spaces.grown.space import GrownSpace
from hwnas.spaces.int8 import in_float
from hwnas.spaces.space import SearchSpace

SCHEMA = 2
FLOOR = 0.015
"""No prediction claims a relative standard deviation below this: what measuring again differs by
on a quiet machine."""


class HeldOut(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How well networks were predicted that the fit did not see."""

    networks: int
    within_5: float
    """Share of networks predicted within 5 % of their measurement."""
    within_10: float
    rmspe: float
    """Root mean square of the relative errors."""
    spearman: float
    folds: int
    """Of the cross-validation; 0 where the networks were never fitted."""
    covered_90: float = 0.0
    """Share of measurements inside the 90 % interval."""


class Conditions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the model was made on; it holds there only."""

    fingerprint: str
    hardware: str
    runtime: str
    runtime_version: str
    threads: int
    reference_ms: float
    """Calibration: the reference model's median while the measurements were taken."""
    reference_spread: float
    """Interquartile range of the reference over its median, over all rounds."""
    reference_sha256: str
    """Of the reference model's file: ratios to another one mean something else."""


class Predictions(NamedTuple):
    """Latencies of networks ``[N]``, with the standard deviation of measuring them."""

    mean_ms: Floats
    std_ms: Floats

    def interval_ms(self, share: float = 0.9) -> tuple[Floats, Floats]:
        """Return the bounds between which ``share`` of the measurements lie."""
        half = NormalDist().inv_cdf(0.5 + share / 2) * self.std_ms
        return np.maximum(self.mean_ms - half, 0.0), self.mean_ms + half

    def bound_ms(self, share: float = 0.9) -> Floats:
        """Return what ``share`` of the measurements stay below: for a check of a budget."""
        return self.mean_ms + NormalDist().inv_cdf(share) * self.std_ms


class LatencyModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """A fitted model; `hwnas.latency_models.fitting.fit` makes it."""

    schema: int
    device: str
    kind: Literal["measured", "table", "adapted", "simulated", "emulated"]
    source: str
    """Where the observations come from."""
    made: str
    """Date, ISO 8601."""
    rows_ms: dict[str, float]
    """Cost of each observed block inside a network, by `Block.key`: the posterior mean."""
    overhead_ms: float
    """Added once to every network. Learnt along with the rows: no meaning of its own."""
    observations: tuple[Observation, ...]
    prior: BlockPrior
    correction: Correction | None = None
    """``None``: no whole network was measured."""
    sources: tuple[LatencyModel, ...] = ()
    """Models of other devices that this one is adapted from."""
    held_out: HeldOut | None = None
    conditions: Conditions | None = None
    sha256: str = ""
    """Of all other fields: a file that was edited by hand is refused."""

    @classmethod
    def from_json(cls, text: bytes, file: str) -> LatencyModel:
        """Read a model; a wrong field, another schema or an edited number is an `InvalidFile`."""
        try:
            version = msgspec.json.decode(text, type=_Version)
            if version.schema != SCHEMA:
                raise InvalidFile(
                    file,
                    f"is of schema {version.schema}, this version reads {SCHEMA}; make it again "
                    "with `hwnas latency measure` or `hwnas latency fit`",
                )
            model = msgspec.json.decode(text, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidFile(file, str(error)) from None
        if model.sha256 != model.content_sha256:
            raise InvalidFile(
                file,
                "its numbers do not fit its sha256: it was edited or cut; change the observations "
                "and fit again with `hwnas latency fit`",
            )
        return model

    @property
    def content_sha256(self) -> str:
        said = msgspec.json.encode(msgspec.structs.replace(self, sha256=""), order="deterministic")
        return hashlib.sha256(said).hexdigest()

    @property
    def digest(self) -> str:
        """Sixteen hex digits that name the model's numbers, whenever it was made."""
        said = msgspec.json.encode((sorted(self.rows_ms.items()), self.overhead_ms))
        return hashlib.sha256(said).hexdigest()[:16]

    @property
    def networks(self) -> tuple[Observation, ...]:
        """The whole networks that were measured."""
        return tuple(one for one in self.observations if one.what == "network")

    @property
    def null_ms(self) -> float | None:
        """Latency of the model that computes nothing; ``None`` if it was not measured."""
        return null_latency_ms(self.observations)

    def isolated_ms(self) -> dict[str, float]:
        """Return the blocks that were measured alone, by key, as they were measured."""
        return {
            one.keys[0]: one.ms for one in self.observations if one.what == "alone" and one.keys
        }

    def block_ms(self, block: Block) -> float:
        """Return the cost of one block inside a network; a skip costs nothing.

        A block that was never measured is predicted, except from a published table, and except
        where no measured block has its kind of operation or its kernel: both are an `UnknownName`.
        """
        if block.op in FREE_OPS:
            return 0.0
        found = self.rows_ms.get(block.key)
        return self.blocks_ms([block])[block.key] if found is None else found

    def blocks_ms(self, blocks: Iterable[Block]) -> dict[str, float]:
        """Return the costs of many blocks at once, by key."""
        asked = {block.key: block for block in blocks if block.op not in FREE_OPS}
        costs = {key: self.rows_ms[key] for key in asked if key in self.rows_ms}
        fresh = [block for key, block in asked.items() if key not in costs]
        if not fresh:
            return costs
        if self.kind == "table":
            bounds = {block.key: self._bound_ms(block) for block in fresh}
            return {**costs, **bounds}
        if missing := unsupported(fresh, self.support):
            key = next(block.key for block in fresh if unsupported([block], self.support))
            why = f"latency row for {self.device} ({missing[0]} was never measured there)"
            raise UnknownName(why, key, self.rows_ms)
        found = self.posterior_over(fresh)
        return {**costs, **{b.key: float(ms) for b, ms in zip(fresh, found.ms, strict=True)}}

    def network_ms(self, blocks: Iterable[Block]) -> float:
        """Return the latency of a network of these blocks."""
        chosen = [block for block in blocks if block.op not in FREE_OPS]
        keys = [block.key for block in chosen]
        known = all(key in self.rows_ms for key in keys)
        costs = self.rows_ms if known else self.blocks_ms(chosen)
        return self.overhead_ms + sum(costs[key] for key in keys)

    def predict(self, networks: Sequence[Iterable[Block]]) -> Predictions:
        """Return mean and standard deviation of networks' measured latencies.

        Unlike `block_ms` it predicts what nothing measured supports, too: see `unsupported`.
        """
        rows = [[block for block in one if block.op not in FREE_OPS] for one in networks]
        asked = list(dict.fromkeys(block for row in rows for block in row))
        found = self.posterior_over(asked)
        place = {block: number for number, block in enumerate(asked)}
        counts = np.zeros((len(rows), len(asked) + 1))
        counts[:, -1] = 1.0
        for number, row in enumerate(rows):
            for block in row:
                counts[number, place[block]] += 1
        mean = counts @ np.append(found.ms, found.overhead_ms)
        variance = np.einsum("nb,bc,nc->n", counts, found.covariance, counts, optimize=True)
        noise = (found.noise**2 + self._repeat_error**2) * mean**2
        return Predictions(mean, np.maximum(np.sqrt(variance + noise), FLOOR * mean))

    def std_ms(self, blocks: Iterable[Block]) -> float:
        """Return the standard deviation of a network's measured latency around its prediction."""
        return float(self.predict([blocks]).std_ms[0])

    def unsupported(self, blocks: Iterable[Block]) -> list[str]:
        """Return the kinds of operation and kernel in ``blocks`` that nothing measured has."""
        return unsupported(blocks, self.support)

    def costs(self, space: SearchSpace) -> Costs:
        """Return what networks of ``space`` cost: a table where its decisions are independent."""
        if not isinstance(in_float(space), GrownSpace):
            return self.cost_table(space)
        self.blocks_ms([*space.fixed, *(site.block for site in space.sites())])  # what it lacks
        return NetworkCosts(space, self.blocks_ms, self.overhead_ms)

    def cost_table(self, space: SearchSpace) -> CostTable:
        """Return the costs of all candidates of ``space``: exact for every network of it."""
        blocks = [*space.fixed, *(site.block for site in space.sites())]
        costs = self.blocks_ms(blocks)
        return cost_table(space, lambda block: costs.get(block.key, 0.0), self.overhead_ms)

    @cached_property
    def known(self) -> tuple[Block, ...]:
        """The blocks that occur in the observations."""
        return tuple(Block.from_key(key) for key in self.rows_ms)

    @cached_property
    def support(self) -> tuple[Block, ...]:
        """The blocks that anything was measured of, here or on a source device."""
        return tuple(
            dict.fromkeys([*self.known, *(b for one in self.sources for b in one.support)])
        )

    def posterior_over(self, blocks: Sequence[Block]) -> Posterior:
        """Return the costs of ``blocks``, in their order, and how sure they are."""
        # a key has six digits of the expansion: what has the same key is the same block
        blocks = [Block.from_key(block.key) for block in blocks]
        field = block_grid(self.observations, self.prior, self.sources, blocks)
        if self.correction is None:
            found = uncorrected(field, common_bias_std(self.observations))
        else:
            found = posterior(self.correction, network_data(self.observations, field.blocks), field)
        place = {block: number for number, block in enumerate(field.blocks)}
        taken = [place[block] for block in blocks]
        joint = [*taken, len(field.blocks)]
        covariance = found.covariance[np.ix_(joint, joint)]
        return found._replace(ms=found.ms[taken], covariance=covariance)

    @cached_property
    def _repeat_error(self) -> float:
        """The typical standard error of a network's measurement."""
        errors = [one.standard_error for one in self.networks]
        return float(np.median(errors)) if errors else 0.0

    def _bound_ms(self, block: Block) -> float:
        """Charge a classifier as the smallest one with at least as many classes."""
        larger = [
            known
            for known in self.known
            if block.op == known.op == "logits"
            and (block.in_channels, block.in_size) == (known.in_channels, known.in_size)
            and known.out_channels >= block.out_channels
        ]
        if not larger:
            raise UnknownName(f"latency row for {self.device}", block.key, self.rows_ms)
        return self.rows_ms[min(larger, key=lambda known: known.out_channels).key]

    def predicted_ms(self, blocks: Sequence[Block]) -> Floats:
        """Return the cost of each block, also of those that nothing measured supports."""
        fresh = [block for block in blocks if block.key not in self.rows_ms]
        costs = dict(self.rows_ms)
        if fresh:
            found = self.posterior_over(fresh).ms.tolist()
            costs.update(zip((block.key for block in fresh), found, strict=True))
        return np.array([costs[block.key] for block in blocks])


class _Version(msgspec.Struct):
    schema: int
