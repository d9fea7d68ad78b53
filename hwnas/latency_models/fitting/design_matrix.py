"""Observations as the arrays that `prior` and `correction` work on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from hwnas.architecture.architecture import Block
from hwnas.latency_models.features import Floats
from hwnas.latency_models.fitting.block_prior import BlockPrior, Left, Timed, amounts_of, rows
from hwnas.latency_models.fitting.covariance_terms import Field, Seen
from hwnas.latency_models.fitting.network_correction import BIAS
from hwnas.latency_models.observation import Observation

LEAST = 0.1
"""A block keeps at least this share of its time alone when the null model is subtracted."""
ODD = 0.25
"""Share of networks' blocks up to which those never timed are exceptions."""


class Source(Protocol):
    """A model of another device."""

    def predicted_ms(self, blocks: Sequence[Block]) -> Floats: ...


def null_of(observations: Sequence[Observation]) -> float | None:
    """Return the latency of the null model, if it was measured."""
    found = [one.ms for one in observations if one.what == "alone" and not one.keys]
    return float(np.median(found)) if found else None


def bias_of(observations: Sequence[Observation]) -> float:
    """Return how far all rows may be off together while no network was measured."""
    if any(one.what == "alone" and one.keys for one in observations):
        return BIAS["alone"] if null_of(observations) is None else BIAS["null"]
    return BIAS["inside"]


def timed_blocks(observations: Sequence[Observation]) -> Timed:
    """Return the blocks with times of their own: alone without the call, else inside networks.

    Several timings of a block are weighted by their precision.
    """
    alone = [one for one in observations if one.what == "alone" and one.keys]
    null_ms = null_of(observations) or 0.0
    found = alone or [one for one in observations if one.what == "inside"]
    if not alone:
        null_ms = 0.0
    times: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for one in found:
        ms = max(one.ms - null_ms, LEAST * one.ms)
        times[one.keys[0]].append((ms, max(one.standard_error, 1e-3) * one.ms / ms))
    blocks: list[Block] = []
    means: list[float] = []
    errors: list[float] = []
    for key, values in times.items():
        weight = np.array([1 / relative**2 for _, relative in values])
        blocks.append(Block.from_key(key))
        means.append(float(weight @ np.array([value for value, _ in values]) / weight.sum()))
        errors.append(float(weight.sum() ** -0.5))
    return Timed(blocks, np.array(means), np.array(errors))


def left_over(
    observations: Sequence[Observation], timed: Timed, sources: Sequence[Source] = ()
) -> Left | None:
    """Return what timed blocks leave of the latency of networks most of whose blocks were never
    timed (of others it would be the errors of the timed ones).

    ``None`` where there are none, or where at most `ODD` of all blocks in networks were never
    timed: a network of another kind beside many says nothing of how alike their blocks are.
    """
    known = dict(zip((block.key for block in timed.blocks), timed.ms.tolist(), strict=True))
    call_ms = null_of(observations) or 0.0
    rows: list[Floats] = []
    ms: list[float] = []
    total_ms: list[float] = []
    networks = [one for one in observations if one.what == "network"]
    keys = [key for one in networks for key in one.keys]
    if sum(key not in known for key in keys) <= ODD * len(keys):
        return None
    for one in networks:
        rest = [Block.from_key(key) for key in one.keys if key not in known]
        if 2 * len(rest) <= len(one.keys):
            continue
        told_ms = call_ms + sum(known.get(key, 0.0) for key in one.keys)
        rows.append(amounts_of(rest, [s.predicted_ms(rest) for s in sources]).sum(axis=0))
        ms.append(max(one.ms - told_ms, 0.0))
        total_ms.append(one.ms)
    return Left(np.array(rows), np.array(ms), np.array(total_ms)) if rows else None


def seen_over(observations: Sequence[Observation], blocks: Sequence[Block]) -> Seen:
    """Return networks, and profiled blocks where others were timed alone, as counts of blocks."""
    alone = any(one.what == "alone" and one.keys for one in observations)
    chosen = [
        one for one in observations if one.what == "network" or (one.what == "inside" and alone)
    ]
    place = {block.key: number for number, block in enumerate(blocks)}
    counts = np.zeros((len(chosen), len(blocks)))
    for row, one in zip(counts, chosen, strict=True):
        for key in one.keys:
            row[place[key]] += 1
    return Seen(
        counts,
        np.array([one.ms for one in chosen]),
        np.array([max(one.standard_error, 1e-3) for one in chosen]),
        np.array([float(one.what == "network") for one in chosen]),
        [one.session for one in chosen],
        [one.process for one in chosen],
    )


def observed_blocks(observations: Sequence[Observation]) -> list[Block]:
    """Return every block of the observations, each once."""
    keys = dict.fromkeys(key for one in observations for key in one.keys)
    return [Block.from_key(key) for key in keys]


def field_over(
    observations: Sequence[Observation],
    prior: BlockPrior,
    sources: Sequence[Source],
    asked: Sequence[Block] = (),
) -> Field:
    """Return prior rows of every block of the networks, and of those asked for."""
    timed = timed_blocks(observations)
    needed = observed_blocks([one for one in observations if one.what == "network"])
    blocks = list(dict.fromkeys([*needed, *asked]))
    both = [*timed.blocks, *blocks]
    amounts = amounts_of(both, [source.predicted_ms(both) for source in sources])
    found = rows(prior, timed, blocks, amounts)
    own = amounts[len(timed.blocks) :]
    null_ms = null_of(observations) or 0.0
    return Field(blocks, found, own, prior, null_ms)
