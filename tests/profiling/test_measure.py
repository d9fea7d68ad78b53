"""From a device to its latency model, on the simulated phone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hwnas.architecture.architecture import Genotype
from hwnas.devices.profile import DeviceProfile
from hwnas.devices.runner import Runner, Subject, open_runner
from hwnas.errors import UsageError
from hwnas.files import lock_folder
from hwnas.latency_models.model import LatencyModel
from hwnas.latency_models.storage.journal import read_journal
from hwnas.latency_models.storage.store import measured_folder, read_model
from hwnas.measurement.disturbance import Disturbed
from hwnas.measurement.measurement import Measurement
from hwnas.measurement.round import Round, Usage
from hwnas.profiling.bench import block_keys
from hwnas.profiling.measure import measure_latency_model
from hwnas.profiling.plan import MeasurePlan
from hwnas.profiling.sampling import distinct_blocks, spread_networks
from tests.support.machines.killed import Killed
from tests.support.reporting.consoles import RecordingConsole, SilentConsole
from tests.support.reporting.sample_run import PHONE, SPACE, StandIn, put_phone_table
from tests.support.tiny import MB33, MB76, tiny_space

NETWORKS = 12
"""The number of networks in `put_phone_table`."""
BLOCKS = 1 + len(distinct_blocks(SPACE))  # and the null model


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path / "home"))


@pytest.fixture
def folder() -> Path:
    return put_phone_table()


class DiesAt(StandIn):
    """A runner whose process is killed at a given batch."""

    def __init__(self, batch: int) -> None:
        super().__init__(open_runner(PHONE), lambda measurement: 1.0)
        self.batch = batch

    def measure(self, subjects: Sequence[Subject], **options: Any) -> list[Measurement]:
        if len(self.calls) + 1 == self.batch:
            raise Killed
        return super().measure(subjects, **options)


class Busy(StandIn):
    """A machine on which some models of a batch are disturbed: as CPU time, or without latency."""

    def __init__(self, fails: bool) -> None:
        super().__init__(open_runner(PHONE), lambda measurement: 1.0)
        self.fails = fails

    def measure(self, subjects: Sequence[Subject], **options: Any) -> list[Measurement]:
        good = super().measure(subjects, **options)
        if self.fails:
            raise Disturbed("phone: load 5.0", [None, *good[1:]])
        usage = Usage((1.0,), (9.0,), (3,))
        rounds = (Round((10.0,), (10.0,), usage=usage, reference_usage=usage, clock="cpu"),) * 3
        return [msgspec.structs.replace(good[0], rounds=rounds, kind="cpu-time"), *good[1:]]


def steady() -> StandIn:
    return StandIn(open_runner(PHONE), lambda measurement: 1.0)


def profiled(runner: Runner, folder: Path, profile: DeviceProfile = PHONE) -> LatencyModel:
    plan = MeasurePlan(networks=NETWORKS)
    return measure_latency_model(profile, runner, SPACE, folder, SilentConsole(), plan=plan)


def numbers(model: LatencyModel) -> LatencyModel:
    return msgspec.structs.replace(model, made="")


def test_every_distinct_block_is_measured_once_and_journaled(folder: Path) -> None:
    entries = read_journal(folder)
    keys = Counter(entry.keys for entry in entries)
    assert set(keys.values()) == {1}
    alone = {entry.keys[0] for entry in entries if not entry.network and entry.keys}
    assert sum(not entry.keys for entry in entries) == 1  # the null model
    assert alone == {block.key for block in distinct_blocks(SPACE)}
    assert sum(entry.network for entry in entries) == NETWORKS
    needed = {site.block.key for site in SPACE.sites()} | {block.key for block in SPACE.fixed}
    assert {key for key in needed if not key.startswith("identity")} == alone


def test_the_model_of_a_simulated_phone_says_simulated(folder: Path) -> None:
    model = read_model(folder / "model.json")
    assert model.kind == "simulated"
    assert "measured" not in model.source
    assert {entry.measurement.kind for entry in read_journal(folder)} == {"simulated"}


def test_held_out_networks_are_predicted_within_10_percent(folder: Path) -> None:
    held_out = read_model(folder / "model.json").held_out
    assert held_out is not None
    assert (held_out.networks, held_out.within_10) == (NETWORKS, 1.0)


def test_a_block_costs_less_inside_a_network_than_alone_by_about_a_call(folder: Path) -> None:
    model, simulation = read_model(folder / "model.json"), PHONE.simulation
    assert simulation is not None
    gains = [model.isolated_ms()[key] - ms for key, ms in model.rows_ms.items()]
    assert sum(gains) / len(gains) == pytest.approx(simulation.call_ms, rel=0.2)


def test_a_space_of_few_networks_ends_when_all_are_measured(tmp_path: Path) -> None:
    space = tiny_space(MB33, MB76, widths=(16,))  # two networks, as of few resolutions
    plan = MeasurePlan(goal=0.0)
    model = measure_latency_model(PHONE, steady(), space, tmp_path, SilentConsole(), plan=plan)
    genotypes = [Genotype(space.name, (choice,)) for choice in (0, 1)]
    networks = {block_keys(space.architecture(genotype)) for genotype in genotypes}
    measured = {entry.keys for entry in read_journal(tmp_path) if entry.network}
    assert measured == networks
    assert model.isolated_ms().keys() == set(distinct_blocks(space))


def test_an_existing_model_is_used_without_measuring(folder: Path) -> None:
    runner = steady()
    assert profiled(runner, folder) == read_model(folder / "model.json")
    assert runner.calls == []


def test_two_processes_do_not_measure_the_same_model(folder: Path) -> None:
    with lock_folder(folder), pytest.raises(UsageError, match="another process is working in it"):
        profiled(steady(), folder)


def test_a_damaged_journal_and_model_are_set_right(folder: Path) -> None:
    journal, model = folder / "journal.jsonl", folder / "model.json"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([lines[0][:40] + b"\n", *lines[1:]]))
    model.write_bytes(model.read_bytes()[:100])
    runner, console = steady(), RecordingConsole()
    measure_latency_model(
        PHONE, runner, SPACE, folder, console, plan=MeasurePlan(networks=NETWORKS)
    )
    text = "\n".join(console.lines)
    assert "line 1 is damaged and left out" in text and "model.json.damaged" in text
    assert len(runner.calls) == 1 and len(runner.calls[0]) == 1  # only what was damaged
    assert len(read_journal(folder)) == len(lines)


def test_measuring_again_sets_the_existing_model_aside(folder: Path) -> None:
    old, plan = read_model(folder / "model.json"), MeasurePlan(networks=6, again=True)
    measure_latency_model(PHONE, steady(), SPACE, folder, SilentConsole(), plan=plan)
    assert read_model(folder / "model-1.json") == old
    assert len(read_journal(folder)) == BLOCKS + 6


def test_a_kill_between_batches_loses_only_the_interrupted_batch(
    tmp_path: Path, folder: Path
) -> None:
    whole, cut = read_model(folder / "model.json"), tmp_path / "cut"
    with pytest.raises(Killed):
        profiled(DiesAt(2), cut)
    assert len(read_journal(cut)) == BLOCKS
    assert not (cut / "model.json").exists()
    journal = cut / "journal.jsonl"
    journal.write_bytes(journal.read_bytes() + b'{"keys": ["half a li')  # a kill while writing
    console, runner, planned = RecordingConsole(), steady(), BLOCKS + NETWORKS
    plan = MeasurePlan(networks=NETWORKS)
    again = measure_latency_model(PHONE, runner, SPACE, cut, console, plan=plan)
    assert sum(map(len, runner.calls)) == NETWORKS
    assert console.progress[-1] == (planned, planned, f"{planned} of {planned} models")
    assert {total for _, total, _ in console.progress} == {planned}
    [line] = console.lines
    assert line.endswith("is damaged and left out; what is missing is done again")
    assert numbers(again) == numbers(whole)


def test_an_outdated_model_is_refused_with_its_reason_and_set_aside(folder: Path) -> None:
    old = read_model(folder / "model.json")
    assert PHONE.simulation is not None
    faster = msgspec.structs.replace(PHONE.simulation, macs_per_ms=16e6)
    phone = msgspec.structs.replace(PHONE, simulation=faster)
    console, plan = RecordingConsole(), MeasurePlan(networks=6)
    new = measure_latency_model(phone, open_runner(phone), SPACE, folder, console, plan=plan)
    [line] = console.lines
    assert "the latency model of simulated-phone is refused: it was made on a simulated" in line
    assert line.endswith("measuring again")
    assert read_model(folder / "model-1.json") == old
    assert (folder / "journal-1.jsonl").exists()
    assert len(read_journal(folder)) == BLOCKS + 6
    assert sum(new.rows_ms.values()) < sum(old.rows_ms.values())
    assert read_model(folder / "model.json") == new


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"fingerprint": "other", "hardware": "another phone"}, "it was begun on another phone"),
        ({"runtime_version": "1.0"}, "with litert 1.0, this is"),
        ({"threads": 4}, "it was begun with 4 threads, the profile now says 1"),
        (None, "the reference model has changed since it was begun"),
    ],
)
def test_an_outdated_journal_is_refused_with_its_reason_and_set_aside(
    folder: Path, changes: dict[str, object] | None, reason: str
) -> None:
    (folder / "model.json").unlink()
    first = read_journal(folder)[0]
    environment = msgspec.structs.replace(first.measurement.environment, **(changes or {}))
    other = msgspec.structs.replace(
        first,
        measurement=msgspec.structs.replace(first.measurement, environment=environment),
        reference_sha256=first.reference_sha256 if changes else "other",
    )
    (folder / "journal.jsonl").write_bytes(msgspec.json.encode(other) + b"\n")
    console = RecordingConsole()
    with pytest.raises(Killed):
        measure_latency_model(PHONE, DiesAt(1), SPACE, folder, console)
    [line] = console.lines
    assert "the journal of simulated-phone is refused: " in line and reason in line
    assert read_journal(folder) == []
    assert (folder / "journal-1.jsonl").exists()


def test_each_device_space_and_class_count_has_a_folder_of_its_own(folder: Path) -> None:
    assert folder == measured_folder("simulated-phone", SPACE)
    assert measured_folder("host-cpu", SPACE) != folder


@pytest.mark.parametrize("count", [6, 24])
def test_networks_are_spread_from_end_to_end(folder: Path, count: int) -> None:
    costs = read_model(folder / "model.json").cost_table(SPACE)
    genotypes = spread_networks(SPACE, costs, count, seed=0)
    assert len({block_keys(SPACE.architecture(genotype)) for genotype in genotypes}) == count
    latencies_ms = [costs.network_ms(genotype.choices) for genotype in genotypes]
    assert latencies_ms == sorted(latencies_ms)
    assert latencies_ms[0] < 1.1 * costs.smallest_ms
    assert latencies_ms[-1] > 0.88 * costs.largest_ms
    even = (costs.largest_ms / costs.smallest_ms) ** (1 / (count - 1))
    steps = [b / a for a, b in pairwise(latencies_ms)]
    assert max(steps) < 1.2 * even


@pytest.mark.parametrize("fails", [True, False])
def test_no_model_is_fitted_to_disturbed_measurements_and_the_others_are_stored(
    fails: bool, tmp_path: Path
) -> None:
    plan = MeasurePlan(networks=NETWORKS)
    with pytest.raises(Disturbed, match=r"load .*; a latency model is fitted to undis") as raised:
        measure_latency_model(PHONE, Busy(fails), SPACE, tmp_path, SilentConsole(), plan=plan)
    stored = read_journal(tmp_path)
    assert len(stored) == min(BLOCKS, 64) - 1
    assert f"{len(stored)} of {len(stored) + 1} models of this batch are stored" in str(
        raised.value
    )
    assert raised.value.exit_code == 6
    assert all(entry.measurement.clock == "wall" for entry in stored)
    assert not (tmp_path / "model.json").exists()
    runner = steady()
    measure_latency_model(PHONE, runner, SPACE, tmp_path, SilentConsole(), plan=plan)
    assert len(read_journal(tmp_path)) == BLOCKS + NETWORKS
