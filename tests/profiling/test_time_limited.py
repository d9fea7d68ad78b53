"""Measuring within a time limit: the most informative models first, and none after time is up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from hwnas.devices.runner import Subject, open_runner
from hwnas.latency_models.features import unsupported
from hwnas.latency_models.model import LatencyModel
from hwnas.latency_models.storage.journal import Entry, fit_entries, read_journal
from hwnas.latency_models.storage.store import read_model, write_measured
from hwnas.measurement.measurement import Measurement
from hwnas.profiling import time_limited
from hwnas.profiling.bench import NULL_JOB, Bench, isolated_job
from hwnas.profiling.measure import measure_latency_model
from hwnas.profiling.plan import MeasurePlan
from hwnas.profiling.sampling import distinct_blocks
from hwnas.profiling.time_limited import (
    INITIAL_BLOCKS,
    INITIAL_NETWORKS,
    MAX_NETWORKS_BEFORE_BLOCKS,
    MODELS_OF_UNKNOWN_TIME,
    MODELS_PER_ROUND,
    initial_networks,
)
from tests.support.reporting.consoles import RecordingConsole, SilentConsole
from tests.support.reporting.sample_run import PHONE, SPACE, StandIn, put_phone_table
from tests.support.tiny import MB33, MB76, tiny_space

BLOCKS = distinct_blocks(SPACE)
FIRST = initial_networks(SPACE, BLOCKS, 0)
UNREACHABLE = 1e-6
"""A goal that is never reached."""


class Timed(StandIn):
    """A phone with the clock that hwnas reads; its calls take ``slower`` times as long, and each
    model takes ``model_s`` beside its calls."""

    def __init__(
        self, patch: pytest.MonkeyPatch, model_s: float = 1.0, slower: float = 0.01
    ) -> None:
        super().__init__(open_runner(PHONE), lambda measurement: slower)
        self.now_s, self.model_s = 0.0, model_s
        patch.setattr(time_limited, "monotonic", lambda: self.now_s)

    def measure(self, subjects: Sequence[Subject], **options: Any) -> list[Measurement]:
        measured = super().measure(subjects, **options)
        rounds = [round for measurement in measured for round in measurement.rounds]
        calls_ms = sum(sum(round.samples_ms) for round in rounds)
        self.now_s += self.model_s * len(subjects) + calls_ms / 1000
        return measured


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Timed:
    """A fast phone: networks take hardly longer to measure than blocks."""
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path / "home"))
    return Timed(monkeypatch)


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Timed:
    """A slow phone: the calls take most of the time."""
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path / "home"))
    return Timed(monkeypatch, model_s=0.1, slower=30.0)


def limited(
    phone: Timed,
    folder: Path,
    minutes: float | None,
    goal: float = UNREACHABLE,
    networks: int | None = None,
) -> tuple[LatencyModel, list[str]]:
    console = RecordingConsole()
    plan = MeasurePlan(networks=networks, goal=goal, minutes=minutes)
    return measure(phone, folder, plan, console), console.lines


def measure(
    phone: Timed, folder: Path, plan: MeasurePlan, console: RecordingConsole | SilentConsole
) -> LatencyModel:
    return measure_latency_model(PHONE, phone, SPACE, folder, console, plan=plan)


def counted(entries: Sequence[Entry]) -> tuple[int, int]:
    """Return the numbers of isolated blocks and of networks."""
    blocks = sum(not entry.network and bool(entry.keys) for entry in entries)
    return blocks, sum(entry.network for entry in entries)


def test_time_is_used_and_never_exceeded(phone: Timed, tmp_path: Path) -> None:
    model, [line] = limited(phone, tmp_path, minutes=0.6)
    entries = read_journal(tmp_path)
    assert 34 < phone.now_s <= 36
    blocks, nets = counted(entries)
    assert (blocks, nets) == (0, len(model.networks)) and nets >= 33
    assert line.startswith(
        f"time is up: 0 of {len(BLOCKS)} blocks and {nets} networks are measured"
    )
    assert line.endswith("(goal ±0.0%)")
    assert len({(entry.keys, entry.network) for entry in entries}) == len(entries)


def test_initial_networks_have_every_kind_and_are_always_measured(
    phone: Timed, tmp_path: Path
) -> None:
    model, [line] = limited(phone, tmp_path, minutes=0.01)
    entries = read_journal(tmp_path)
    assert (
        counted(entries) == (0, len(FIRST))
        and INITIAL_NETWORKS <= len(FIRST) <= INITIAL_NETWORKS + 3
    )
    assert entries[0].keys == () and f"{len(FIRST)} networks" in line
    assert unsupported(BLOCKS, model.rows_ms) == []
    assert min(map(min, model.cost_table(SPACE).mean_ms)) >= 0  # every candidate has a cost


def test_half_of_the_time_predicts_nearly_as_well(phone: Timed, tmp_path: Path) -> None:
    whole = read_model(put_phone_table() / "model.json")
    model, _ = limited(phone, tmp_path / "limited", minutes=0.5)
    assert len(model.observations) < 0.5 * len(whole.observations)
    rng = Random(5)
    fresh = [SPACE.architecture(SPACE.random(rng)).blocks for _ in range(40)]
    predicted, truth_ms = model.predict(fresh), 0.01 * whole.predict(fresh).mean_ms
    assert float(np.sqrt(np.mean((predicted.mean_ms / truth_ms - 1) ** 2))) < 0.03
    low, high = predicted.interval_ms(0.9)
    assert float(np.mean((low <= truth_ms) & (truth_ms <= high))) >= 0.85


def test_blocks_come_first_where_networks_are_slow(slow: Timed, tmp_path: Path) -> None:
    limited(slow, tmp_path, minutes=0)
    first_s = slow.now_s
    _, lines = limited(slow, tmp_path / "more", minutes=1.6 * first_s / 60)
    assert slow.now_s <= 2.6 * first_s and "time is up" in lines[0]
    after = read_journal(tmp_path / "more")[1 + len(FIRST) :]
    assert INITIAL_BLOCKS <= counted(after)[0] < len(BLOCKS)
    cover = [entry.keys[0] for entry in after[:INITIAL_BLOCKS] if not entry.network]
    assert len(cover) == INITIAL_BLOCKS


def test_with_enough_time_all_blocks_are_timed_before_more_networks(
    phone: Timed, tmp_path: Path
) -> None:
    limited(phone, tmp_path, minutes=2)
    entries = read_journal(tmp_path)
    kinds = [entry.network for entry in entries[1:]]
    assert kinds[: len(FIRST)] == [True] * len(FIRST)
    assert not any(kinds[len(FIRST) : len(FIRST) + len(BLOCKS)])
    assert all(kinds[len(FIRST) + len(BLOCKS) :]) and 118 < phone.now_s <= 120


def test_after_many_networks_blocks_are_more_informative(phone: Timed, tmp_path: Path) -> None:
    limited(phone, tmp_path, minutes=0.95)
    blocks, nets = counted(read_journal(tmp_path))
    assert (
        nets >= MAX_NETWORKS_BEFORE_BLOCKS
        and INITIAL_BLOCKS <= blocks < len(BLOCKS)
        and phone.now_s <= 57
    )


def test_the_networks_of_a_small_space_are_measured_once(phone: Timed, tmp_path: Path) -> None:
    space = tiny_space(MB33, MB76, widths=(16,))  # two networks
    plan = MeasurePlan(goal=UNREACHABLE, minutes=10)
    measure_latency_model(PHONE, phone, space, tmp_path, SilentConsole(), plan=plan)
    entries = read_journal(tmp_path)
    assert counted(entries) == (len(distinct_blocks(space)), 2)
    assert len({(entry.keys, entry.network) for entry in entries}) == len(entries)


def test_it_ends_early_once_the_goal_is_reached(phone: Timed, tmp_path: Path) -> None:
    _, lines = limited(phone, tmp_path, minutes=1, goal=0.1)
    assert lines == [] and len(read_journal(tmp_path)) < 1 + len(FIRST) + 2 * MODELS_PER_ROUND


def test_the_number_of_networks_is_limited(phone: Timed, tmp_path: Path) -> None:
    _, lines = limited(phone, tmp_path, minutes=0.75, networks=9)
    blocks, nets = counted(read_journal(tmp_path))
    assert nets == 9 and 0 < blocks < len(BLOCKS) and "time is up" in lines[0]
    limited(phone, tmp_path, minutes=100, networks=9)
    assert counted(read_journal(tmp_path)) == (len(BLOCKS), 9)


def test_without_networks_blocks_are_timed(phone: Timed, tmp_path: Path) -> None:
    model, lines = limited(phone, tmp_path, minutes=0.5, networks=0)
    blocks, nets = counted(read_journal(tmp_path))
    assert nets == 0 and blocks > INITIAL_BLOCKS and "time is up" in lines[0] and phone.now_s <= 30
    assert unsupported(BLOCKS, model.rows_ms) == []


def test_a_second_call_continues_where_time_was_up(phone: Timed, tmp_path: Path) -> None:
    model, _ = limited(phone, tmp_path, minutes=0.95)
    assert all(block in model.rows_ms for block in BLOCKS)  # networks have all blocks
    before, at_s, calls = read_journal(tmp_path), phone.now_s, len(phone.calls)
    limited(phone, tmp_path, minutes=0.3)
    after = read_journal(tmp_path)
    assert after[: len(before)] == before and len(after) > len(before)
    assert phone.now_s - at_s <= 18
    # only these until it is known how long a model takes
    assert len(phone.calls[calls]) == MODELS_OF_UNKNOWN_TIME


def test_a_model_that_lacks_blocks_is_used_if_it_is_precise_enough(
    phone: Timed, tmp_path: Path
) -> None:
    model, _ = limited(phone, tmp_path, minutes=0.12)
    calls, console = len(phone.calls), RecordingConsole()
    assert measure(phone, tmp_path, MeasurePlan(accepted=0.9), console) == model
    assert len(phone.calls) == calls
    [line] = console.lines
    assert line.startswith("the latency model of simulated-phone lacks times of 59 of 59 blocks, ")
    command = "`hwnas latency measure --target simulated-phone`, with the same space and data,"
    assert f"it is used as it is, {command} continues measuring" in line
    assert measure(phone, tmp_path, MeasurePlan(goal=0.9), SilentConsole()) == model
    _, lines = limited(phone, tmp_path, minutes=None, networks=8)
    assert "blocks, networks are predicted within ±" in lines[0]
    assert lines[0].endswith("%: measuring continues")
    assert counted(read_journal(tmp_path))[0] == len(BLOCKS)


def test_a_kind_never_measured_is_measured_however_precise_the_rest(
    phone: Timed, tmp_path: Path
) -> None:
    others = [block for block in BLOCKS if block.kernel_size != 7]
    entries = Bench(PHONE, phone, tmp_path).measure([NULL_JOB, *map(isolated_job, others)])
    write_measured(fit_entries(PHONE.name, entries), tmp_path)
    console = RecordingConsole()
    measure(phone, tmp_path, MeasurePlan(networks=6, accepted=0.9), console)
    sevens = len(BLOCKS) - len(others)
    gap = f"lacks times of {sevens} of {len(BLOCKS)} blocks, e.g. of any mbconv kernel 7"
    assert console.lines[0].endswith(f"{gap}: measuring continues")
    assert counted(read_journal(tmp_path)) == (len(BLOCKS), 6)


def test_no_block_is_timed_without_time_for_enough_of_them(slow: Timed, tmp_path: Path) -> None:
    limited(slow, tmp_path, minutes=0)
    first_s = slow.now_s
    limited(slow, tmp_path / "more", minutes=1.1 * first_s / 60)
    assert counted(read_journal(tmp_path / "more"))[0] == 0
