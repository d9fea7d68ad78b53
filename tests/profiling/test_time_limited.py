"""A latency model in so many minutes: what tells most first, and nothing after time is up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from hwnas.devices.runner import Subject, file_sha256, open_runner, reference_file
from hwnas.latency_models.features import unsupported
from hwnas.latency_models.model import LatencyModel
from hwnas.latency_models.storage.journal import Entry, fit_entries, read_journal
from hwnas.latency_models.storage.store import read_model, write_measured
from hwnas.measurement.measurement import Measurement
from hwnas.profiling import time_limited
from hwnas.profiling.bench import Bench, Job, alone_job
from hwnas.profiling.measure import latency_model
from hwnas.profiling.sampling import distinct_blocks
from hwnas.profiling.time_limited import COVER, MANY, SPREAD, STEP, UNKNOWN, first_networks
from tests.support.sample_run import PHONE, SPACE, StandIn, put_phone_table, said_nothing

BLOCKS = distinct_blocks(SPACE)
FIRST = first_networks(SPACE, BLOCKS, 0)
NONE = 1e-6
"""A goal that is never reached."""


class Timed(StandIn):
    """A phone that is so many times slower, and the clock that hwnas looks at: each model takes
    ``model_s`` and its calls."""

    def __init__(
        self, patch: pytest.MonkeyPatch, model_s: float = 1.0, slower: float = 0.01
    ) -> None:
        super().__init__(open_runner(PHONE), lambda one: slower)
        self.now_s, self.model_s = 0.0, model_s
        patch.setattr(time_limited, "monotonic", lambda: self.now_s)

    def measure(self, subjects: Sequence[Subject], **options: Any) -> list[Measurement]:
        measured = super().measure(subjects, **options)
        calls_ms = sum(sum(one.samples_ms) for found in measured for one in found.rounds)
        self.now_s += self.model_s * len(subjects) + calls_ms / 1000
        return measured


@pytest.fixture
def phone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Timed:
    """A fast one: a network takes next to no longer than a block."""
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path / "home"))
    return Timed(monkeypatch)


@pytest.fixture
def slow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Timed:
    """One on which the calls take most of the time."""
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path / "home"))
    return Timed(monkeypatch, model_s=0.1, slower=30.0)


def limited(
    phone: Timed,
    folder: Path,
    minutes: float | None,
    goal: float = NONE,
    networks: int | None = None,
) -> tuple[LatencyModel, list[str]]:
    said: list[str] = []
    model = latency_model(
        PHONE, phone, SPACE, folder, said.append, networks=networks, goal=goal, minutes=minutes
    )
    return model, said


def counted(entries: Sequence[Entry]) -> tuple[int, int]:
    """Blocks alone and networks."""
    alone = sum(not one.network and bool(one.keys) for one in entries)
    return alone, sum(one.network for one in entries)


def test_time_is_used_and_never_exceeded(phone: Timed, tmp_path: Path) -> None:
    model, [line] = limited(phone, tmp_path, minutes=0.6)
    entries = read_journal(tmp_path)
    assert 34 < phone.now_s <= 36
    blocks, nets = counted(entries)
    assert (blocks, nets) == (0, len(model.networks)) and nets >= 33
    assert line.startswith(
        f"time is up: 0 of {len(BLOCKS)} blocks and {nets} networks are measured"
    )
    assert line.endswith("(goal 0.0%)")
    assert len({(one.keys, one.network) for one in entries}) == len(entries)


def test_the_first_networks_have_every_kind_and_are_measured_in_no_time(
    phone: Timed, tmp_path: Path
) -> None:
    model, [line] = limited(phone, tmp_path, minutes=0.01)
    entries = read_journal(tmp_path)
    assert counted(entries) == (0, len(FIRST)) and SPREAD <= len(FIRST) <= SPREAD + 3
    assert entries[0].keys == () and f"{len(FIRST)} networks" in line
    assert unsupported(BLOCKS, model.known) == []
    assert min(map(min, model.cost_table(SPACE).mean_ms)) >= 0  # every candidate has its price


def test_half_of_the_time_predicts_nearly_as_well(phone: Timed, tmp_path: Path) -> None:
    whole = read_model(put_phone_table() / "model.json")
    model, _ = limited(phone, tmp_path / "limited", minutes=0.5)
    assert len(model.observations) < 0.5 * len(whole.observations)
    rng = Random(5)
    fresh = [SPACE.architecture(SPACE.random(rng)).blocks for _ in range(40)]
    found, truth_ms = model.predict(fresh), 0.01 * whole.predict(fresh).mean_ms
    assert float(np.sqrt(np.mean((found.mean_ms / truth_ms - 1) ** 2))) < 0.03
    low, high = found.interval_ms(0.9)
    assert float(np.mean((low <= truth_ms) & (truth_ms <= high))) >= 0.85


def test_where_networks_take_long_some_blocks_come_first(slow: Timed, tmp_path: Path) -> None:
    limited(slow, tmp_path, minutes=0)
    first_s = slow.now_s
    _, said = limited(slow, tmp_path / "more", minutes=1.6 * first_s / 60)
    assert slow.now_s <= 2.6 * first_s and "time is up" in said[0]
    after = read_journal(tmp_path / "more")[1 + len(FIRST) :]
    assert COVER <= counted(after)[0] < len(BLOCKS)
    cover = [one.keys[0] for one in after[:COVER] if not one.network]
    assert len(cover) == COVER


def test_where_time_is_enough_all_blocks_are_timed_before_further_networks(
    phone: Timed, tmp_path: Path
) -> None:
    limited(phone, tmp_path, minutes=2)
    entries = read_journal(tmp_path)
    kinds = [one.network for one in entries[1:]]
    assert kinds[: len(FIRST)] == [True] * len(FIRST)
    assert not any(kinds[len(FIRST) : len(FIRST) + len(BLOCKS)])
    assert all(kinds[len(FIRST) + len(BLOCKS) :]) and 118 < phone.now_s <= 120


def test_after_many_networks_blocks_tell_more(phone: Timed, tmp_path: Path) -> None:
    limited(phone, tmp_path, minutes=0.95)
    blocks, nets = counted(read_journal(tmp_path))
    assert nets >= MANY and COVER <= blocks < len(BLOCKS) and phone.now_s <= 57


def test_it_ends_before_time_where_networks_are_sure_enough(phone: Timed, tmp_path: Path) -> None:
    _, said = limited(phone, tmp_path, minutes=1, goal=0.1)
    assert said == [] and len(read_journal(tmp_path)) < 1 + len(FIRST) + 2 * STEP


def test_never_more_networks_than_asked_for(phone: Timed, tmp_path: Path) -> None:
    _, said = limited(phone, tmp_path, minutes=0.75, networks=9)
    blocks, nets = counted(read_journal(tmp_path))
    assert nets == 9 and 0 < blocks < len(BLOCKS) and "time is up" in said[0]
    _, said = limited(phone, tmp_path, minutes=100, networks=9)
    assert counted(read_journal(tmp_path)) == (len(BLOCKS), 9)


def test_without_networks_blocks_are_timed(phone: Timed, tmp_path: Path) -> None:
    model, said = limited(phone, tmp_path, minutes=0.5, networks=0)
    blocks, nets = counted(read_journal(tmp_path))
    assert nets == 0 and blocks > COVER and "time is up" in said[0] and phone.now_s <= 30
    assert unsupported(BLOCKS, model.known) == []


def test_more_minutes_go_on_where_time_was_up(phone: Timed, tmp_path: Path) -> None:
    model, _ = limited(phone, tmp_path, minutes=0.95)
    assert all(block.key in model.rows_ms for block in BLOCKS)  # networks have all of them
    before, at_s, asked = read_journal(tmp_path), phone.now_s, len(phone.asked)
    limited(phone, tmp_path, minutes=0.3)
    after = read_journal(tmp_path)
    assert after[: len(before)] == before and len(after) > len(before)
    assert phone.now_s - at_s <= 18
    assert len(phone.asked[asked]) == UNKNOWN  # until it is known how long one takes


def test_a_model_that_lacks_blocks_is_taken_if_it_is_sure_enough(
    phone: Timed, tmp_path: Path
) -> None:
    model, _ = limited(phone, tmp_path, minutes=0.12)
    asked, said = len(phone.asked), list[str]()
    again = latency_model(PHONE, phone, SPACE, tmp_path, said.append, enough=0.9)
    assert again == model and len(phone.asked) == asked
    [line] = said
    assert line.startswith("the latency model of simulated-phone has no time of 59 of 59 blocks ")
    assert "it is taken as it is, `hwnas latency measure --target simulated-phone` goes on" in line
    assert latency_model(PHONE, phone, SPACE, tmp_path, said_nothing, goal=0.9) == model
    _, said = limited(phone, tmp_path, minutes=None, networks=8)
    assert "blocks and is sure to +-" in said[0] and said[0].endswith("%: measuring on")
    assert counted(read_journal(tmp_path))[0] == len(BLOCKS)


def test_a_kind_that_was_never_measured_is_measured_however_sure_the_rest(
    phone: Timed, tmp_path: Path
) -> None:
    plain = [one for one in BLOCKS if one.kernel_size != 7]
    bench = Bench(PHONE, phone, tmp_path, None, 0, file_sha256(reference_file(PHONE.runtime)))
    entries = bench.measure([Job((), False, ()), *map(alone_job, plain)])
    write_measured(fit_entries(PHONE.name, entries), tmp_path)
    said: list[str] = []
    latency_model(PHONE, phone, SPACE, tmp_path, said.append, networks=6, enough=0.9)
    sevens = len(BLOCKS) - len(plain)
    lacks = f"has no time of {sevens} of {len(BLOCKS)} blocks, e.g. of any mbconv kernel 7"
    assert said[0].endswith(f"{lacks}: measuring on")
    assert counted(read_journal(tmp_path)) == (len(BLOCKS), 6)


def test_no_block_is_timed_where_there_is_no_time_for_enough_of_them(
    slow: Timed, tmp_path: Path
) -> None:
    limited(slow, tmp_path, minutes=0)
    first_s = slow.now_s
    limited(slow, tmp_path / "more", minutes=1.1 * first_s / 60)
    assert counted(read_journal(tmp_path / "more"))[0] == 0
