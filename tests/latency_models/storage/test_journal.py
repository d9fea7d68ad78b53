"""Fitting a latency model to a journal."""

from __future__ import annotations

import pytest

from hwnas.architecture.architecture import Block
from hwnas.latency_models.storage.journal import Entry, fit_entries, reference_speed
from hwnas.measurement.measurement import Environment, Measurement
from hwnas.measurement.round import Round

BOARD = Environment("board", "aaaa", "a chip", "litert", "2.1", 1, "2026-01-01T00:00:00+00:00")
SCALE = 12.0
"""Latency of the larger reference model divided by that of the reference model."""


def entry(block: Block | None, ms: float, larger: bool) -> Entry:
    """Return the entry of a block, on a board whose reference model takes 0.08 to 0.084 ms."""
    rounds = tuple(
        Round((ms,), (SCALE * base_ms,), base_ms=(base_ms,), reference="larger", scale=SCALE)
        if larger
        else Round((ms,), (base_ms,))
        for base_ms in (0.08, 0.082, 0.084)
    )
    keys = (block.key,) if block else ()
    measurement = Measurement(keys[0] if keys else "null model", rounds, BOARD)
    return Entry(keys, False, "ab" * 32, measurement, 1)


def test_milliseconds_of_slow_networks_are_those_of_the_clock() -> None:
    """Most networks are timed beside the larger reference model, whose own latency is no
    calibration."""
    slow = [Block("mbconv", 64, 64, 3, 1, expand, 56) for expand in (2, 3, 4, 6)]
    entries = [
        entry(None, 0.01, larger=False),
        *(entry(block, 2.0 * block.expand_ratio, larger=True) for block in slow),
    ]
    model = fit_entries("board", entries)
    assert model.conditions is not None
    assert model.conditions.reference_ms == pytest.approx(0.082)
    assert model.conditions.reference_spread == pytest.approx(0.004 / 0.082)
    for block in slow:
        clock_ms = 2.0 * block.expand_ratio
        assert model.isolated_ms()[block] == pytest.approx(clock_ms, rel=0.05)


def test_a_later_session_does_not_change_the_calibration() -> None:
    block = Block("mbconv", 64, 64, 3, 1, 6, 56)
    first = [entry(None, 0.01, larger=False), entry(block, 12.0, larger=True)]
    slower = tuple(
        Round((24.0,), (2 * SCALE * 0.082,), reference="larger", scale=SCALE) for _ in range(30)
    )
    keys, digest = first[1].keys, first[1].reference_sha256
    later = Entry(keys, False, digest, Measurement("b", slower, BOARD), 1, session=1)
    assert reference_speed([*first, later]) == reference_speed(first)
