"""The closed loop: measurements correct the latency model, and the search continues."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import msgspec
import pytest

from hwnas.devices.runner import Subject
from hwnas.latency_models.fitting.fit import fit_model
from hwnas.latency_models.observation import Observation
from hwnas.latency_models.storage.model_file import file_of, read_model
from hwnas.measurement.disturbance import Disturbed
from hwnas.measurement.measurement import Measurement
from hwnas.measurement.round import Usage
from hwnas.report.candidate_rows import Origin
from hwnas.search.log import LogLine
from hwnas.spaces.mobile import space as mobile_module
from hwnas.specialize.command_line import command_line
from hwnas.specialize.context import Candidate, RunContext
from hwnas.specialize.setup.effort import EFFORTS
from hwnas.specialize.setup.resolve import Resources, open_run
from hwnas.specialize.setup.target import Target
from hwnas.specialize.spec import Milliseconds, RunSpec, Share
from hwnas.specialize.steps.baselines import baseline_networks
from hwnas.specialize.steps.deliver import choose_to_train
from hwnas.specialize.steps.screening import ScreeningResult
from hwnas.specialize.steps.search_rounds import (
    MAX_ROUNDS,
    is_enough,
    keeping_budget,
    search_rounds,
)
from hwnas.specialize.tracking import Tracking
from tests.support.reporting.consoles import RecordingConsole
from tests.support.reporting.sample_run import (
    PHONE,
    SPACE,
    TINY,
    StandIn,
    make_small,
    put_phone_table,
    write_images,
)
from tests.support.reporting.trackers import Recorder


class OpenRun(NamedTuple):
    run: RunContext
    runner: StandIn


Begin = Callable[..., OpenRun]
TRACKERS: dict[str, Recorder] = {}
"""Trackers of the runs, by their names."""
EFFORT = msgspec.structs.replace(TINY, screened=4, trained=2)


@pytest.fixture(scope="module", autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One home for all tests here: no run changes the phone's model in it."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HWNAS_HOME", str(home))
        make_small(patch)
        patch.setitem(EFFORTS, "quick", EFFORT)
        put_phone_table()
        yield home


@pytest.fixture(scope="module")
def begin(own_home: Path) -> Iterator[Begin]:
    """Prepare a run whose networks take ``factor`` times the latency that the model predicts from
    their blocks."""
    data = write_images(own_home / "images.npz", train=120, test=30)

    def make(name: str, factor: float = 1.0, resume: bool = False, **changes: Any) -> OpenRun:
        spec = RunSpec(targets=(PHONE.name,), data=str(data), budgets=(Share(0.6),))
        spec = msgspec.structs.replace(spec, **changes)
        path = own_home / "runs" / name
        tracking = Tracking(TRACKERS.setdefault(name, Recorder()))
        resources = runs.enter_context(Resources(RecordingConsole(), tracking, path))
        run = runs.enter_context(open_run(spec, path, resources, resume))
        model = run.latency_model
        assert run.target.runner is not None
        runner = StandIn(run.target.runner, lambda measurement: factor)
        # as if only blocks had been measured so far, and they behaved alone as inside
        blocks_only = fit_model(
            model.device,
            [
                Observation("isolated", (), model.overhead_ms),
                *(Observation("in_network", (block,), ms) for block, ms in model.rows_ms.items()),
            ],
            kind=model.kind,
            source=model.source,
            conditions=model.conditions,
            made=model.made,
        )
        return OpenRun(
            run._replace(target=Target(PHONE, runner), latency_model=blocks_only), runner
        )

    with ExitStack() as runs:
        yield make


@pytest.fixture(scope="module")
def slower(begin: Begin) -> tuple[OpenRun, ScreeningResult]:
    """A finished loop on a device whose networks are 25 % slower than their blocks say."""
    opened = begin("slower", 1.25)
    return opened, search_rounds(opened.run)


@pytest.fixture(scope="module")
def idle(begin: Begin) -> RunContext:
    """A run that only lends its budget and its effort."""
    return begin("idle").run


def printed(run: RunContext) -> list[str]:
    assert isinstance(run.console, RecordingConsole)
    return run.console.lines


def log(run: RunContext) -> list[LogLine]:
    lines = (run.folder.path / "search" / "log.jsonl").read_bytes().splitlines()
    return [msgspec.json.decode(line, type=LogLine) for line in lines]


def test_a_search_reports_its_speed_and_tracks_it(
    slower: tuple[OpenRun, ScreeningResult],
) -> None:
    console = slower[0].run.console
    assert isinstance(console, RecordingConsole)
    assert any("search: loss" in text and "img/s" in text for *_, text in console.progress)
    metrics: dict[str, float] = {}
    for _, point in TRACKERS["slower"].points:
        metrics |= point
    assert metrics["search/expected_ms"] > 0 and metrics["search speed/images_per_s"] > 0


def candidate(
    name: str,
    measured_ms: float | None,
    supernet_accuracy: float | None = 0.5,
    origin: Origin = "search",
    predicted_ms: float = 1.0,
) -> Candidate:
    architecture = SPACE.architecture(SPACE.random(Random(name)))
    return Candidate(
        name=name,
        origin=origin,
        architecture=architecture,
        predicted_ms=predicted_ms,
        supernet_accuracy=supernet_accuracy,
        measured_ms=measured_ms,
    )


def chosen(run: RunContext, *candidates: Candidate, budget_ms: float = 1.0) -> list[str]:
    model = read_model(run.folder.path / "latency_model.json")
    screened = ScreeningResult(
        round=1, candidates=candidates, model_file=file_of(model), probabilities=None
    )
    return [each.name for each in choose_to_train(screened, run._replace(budget_ms=budget_ms))]


def test_a_true_table_needs_one_round(begin: Begin) -> None:
    run, runner = begin("true")
    screened = search_rounds(run)
    assert screened.round == len(runner.calls) == 1
    assert is_enough(screened, run)
    assert {line.epoch for line in log(run)} == set(range(run.search_plan.epochs(1)))


def test_a_raw_run_is_judged_on_its_own_clock_and_any_other_on_the_calibrated_one(
    begin: Begin, slower: tuple[OpenRun, ScreeningResult]
) -> None:
    run, _ = begin("raw", raw=True)
    search_rounds(run)
    raw = run.folder.measured("screen-1").values()
    assert raw and all(each.calibrated_reference_ms is None for each in raw)
    calibrated = slower[0].run.folder.measured("screen-1").values()
    assert calibrated and all(each.calibrated_reference_ms for each in calibrated)
    assert "--raw" in command_line(run.spec)


def test_networks_slower_than_their_blocks_correct_the_table_until_they_keep_the_budget(
    slower: tuple[OpenRun, ScreeningResult],
) -> None:
    (run, runner), screened = slower
    model = run.latency_model
    path = run.folder.path / "search" / "round-1.json"
    first = msgspec.json.decode(path.read_bytes(), type=ScreeningResult)
    assert keeping_budget(first, run.budget_ms) == []
    assert "round 1: 0 of 4 networks keep" in "\n".join(printed(run))
    assert screened.round == len(runner.calls) > 1
    within = keeping_budget(screened, run.budget_ms)
    assert len(within) >= 2
    for each in within:
        assert each.predicted_ms == pytest.approx(each.measured_ms, rel=0.05)
        # the model as it was would have called the same network too fast
        assert model.network_ms(each.architecture.blocks) < 0.87 * run.budget_ms
    ratios = [screened.model.rows_ms[block] / ms for block, ms in model.rows_ms.items()]
    assert sum(ratios) / len(ratios) == pytest.approx(1.25, rel=0.1)


def test_a_further_round_goes_on_from_where_the_search_is(
    slower: tuple[OpenRun, ScreeningResult],
) -> None:
    (run, _), screened = slower
    lines = log(run)
    steps = [line.step for line in lines]
    assert steps == sorted(set(steps))
    epochs = run.search_plan.epochs(screened.round)
    assert {line.epoch for line in lines} == set(range(epochs))
    warm = {line.epoch for line in lines if line.phase == "warm-up"}
    assert warm == set(range(run.search_plan.warmup_epochs))
    again = next(line for line in lines if line.epoch == run.search_plan.epochs(1))
    before = next(line for line in reversed(lines) if line.step < again.step)
    # as decided as before, and the expected latency is that of the corrected model
    assert again.entropy == pytest.approx(before.entropy, abs=0.05)
    assert again.expected_ms is not None and before.expected_ms is not None
    assert again.expected_ms > 1.1 * before.expected_ms


def test_a_loop_that_was_cut_off_between_rounds_ends_as_an_undisturbed_one(
    begin: Begin, slower: tuple[OpenRun, ScreeningResult]
) -> None:
    run, runner = begin("cut", 1.25)

    def dies_in_the_second_round(measurement: Measurement) -> float:
        if len(runner.calls) > 1:
            raise KeyboardInterrupt
        return 1.25

    runner.factor = dies_in_the_second_round
    with pytest.raises(KeyboardInterrupt):
        search_rounds(run)
    run.folder.close()
    run, runner = begin("cut", 1.25, resume=True)
    assert search_rounds(run) == slower[1]
    assert len(runner.calls) == slower[1].round - 1


def test_networks_faster_than_their_blocks_do_not_waste_the_budget(begin: Begin) -> None:
    run, _ = begin("faster", 0.75)
    screened = search_rounds(run)
    assert screened.round > 1
    assert len(keeping_budget(screened, run.budget_ms)) >= 2


def test_rounds_are_bounded_on_a_device_that_slows_down_each_time(begin: Begin) -> None:
    run, runner = begin("slowing")
    runner.factor = lambda measurement: 1.3 ** len(runner.calls)
    screened = search_rounds(run)
    assert screened.round == len(runner.calls) == MAX_ROUNDS
    assert keeping_budget(screened, run.budget_ms) == []
    assert choose_to_train(screened, run)


def test_a_budget_that_turns_out_to_be_out_of_reach_ends_the_rounds_and_not_the_run(
    begin: Begin,
) -> None:
    run, _ = begin("unreachable", 3.0, budgets=(Milliseconds(0.25),))
    screened = search_rounds(run)
    assert screened.round == 1
    assert "by the corrected latency model the fastest network of the space" in printed(run)[-1]
    fastest_ms = min(
        each.measured_ms or 0.0 for each in screened.candidates if each.origin == "search"
    )
    assert fastest_ms > run.budget_ms
    assert [each.measured_ms for each in choose_to_train(screened, run)] == [fastest_ms]


def test_random_search_goes_through_the_loop_also_with_a_window_of_one_network(
    begin: Begin,
) -> None:
    least_ms = begin("least").run.latency_model.cost_table(SPACE).smallest_ms
    run, _ = begin("random", strategy="random", budgets=(Milliseconds(1.0001 * least_ms),))
    screened = search_rounds(run)
    assert screened.probabilities is None
    searched = [each for each in screened.candidates if each.origin == "search"]
    assert [each.predicted_ms for each in searched] == [pytest.approx(least_ms)]
    assert choose_to_train(screened, run)


def test_of_networks_inside_the_budget_the_most_promising_are_trained(idle: RunContext) -> None:
    networks = [candidate("a", 0.96, 0.6), candidate("b", 1.01, 0.9), candidate("c", 0.98, 0.8)]
    assert chosen(idle, *networks, candidate("d", 0.97, 0.7)) == ["c", "d"]


def test_what_is_measured_counts_and_not_what_was_predicted(idle: RunContext) -> None:
    slow, fast = (
        candidate("slow", 1.1, 0.9, predicted_ms=0.9),
        candidate("fast", 0.9, predicted_ms=1.1),
    )
    assert chosen(idle, slow, fast) == ["fast"]


def test_a_network_that_wastes_the_budget_comes_last(idle: RunContext) -> None:
    wasteful, full = candidate("wasteful", 0.5, 0.9), candidate("full", 0.95, 0.4)
    assert chosen(idle, wasteful, full) == ["full", "wasteful"]


def test_where_none_keeps_the_budget_the_fastest_is_trained(idle: RunContext) -> None:
    assert chosen(
        idle, candidate("a", 1.3, 0.9), candidate("b", 1.1, 0.1), candidate("c", 1.2)
    ) == ["b"]


def test_baselines_are_the_slowest_uniform_networks_inside_the_budget(idle: RunContext) -> None:
    run = idle._replace(effort=msgspec.structs.replace(idle.effort, baselines=2))
    uniform = [
        candidate(f"uniform {family} x{width:g}", ms, None, "uniform")
        for family, factor in (("mb k3 e6", 1.0), ("mb k3 e3", 0.7))
        for width, ms in ((0.5, 0.5 * factor), (1.0, 0.9 * factor), (2.0, 2.0 * factor))
    ]
    names = chosen(run, candidate("a", 0.9), *uniform)
    assert (names[0], set(names[1:])) == ("a", {"uniform mb k3 e6 x1", "uniform mb k3 e3 x1"})


def test_without_a_way_to_the_device_predictions_choose(idle: RunContext) -> None:
    over, inside = (
        candidate("a", None, 0.9, predicted_ms=1.1),
        candidate("b", None, predicted_ms=0.98),
    )
    assert chosen(idle, over, inside) == ["b"]


def test_uniform_networks_of_other_widths_are_predicted_with_less_certainty_and_are_no_duplicates(
    idle: RunContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mobile_module, "WIDTH_MULTS", (0.5, 0.55, 1.0, 2.0))
    networks = baseline_networks(SPACE, read_model(idle.folder.path / "latency_model.json"))
    digests = [each.architecture.digest for each in networks]
    assert len(set(digests)) == len(digests)
    spread = {each.name: each.predicted_std_ms / each.predicted_ms for each in networks}  # type: ignore[operator]
    assert spread["uniform mb k3 e6 x0.5"] > spread["uniform mb k3 e6 x1"]
    assert spread["uniform mb k3 e3 x2"] > spread["uniform mb k3 e3 x1"]


class BusyMachine(StandIn):
    """A device on which all calls are disturbed: it reports ``factor`` times their CPU time."""

    def measure(self, subjects: Sequence[Subject], **options: Any) -> list[Measurement]:
        return [_in_cpu_time(each) for each in super().measure(subjects, **options)]


def _in_cpu_time(measurement: Measurement) -> Measurement:
    rounds = tuple(
        msgspec.structs.replace(
            round,
            clock="cpu",
            usage=_disturbed(round.samples_ms),
            reference_usage=_disturbed(round.reference_ms),
        )
        for round in measurement.rounds
    )
    return msgspec.structs.replace(measurement, rounds=rounds, kind="cpu-time")


def _disturbed(cpu_ms: tuple[float, ...]) -> Usage:
    return Usage(cpu_ms, cpu_ms, (1,) * len(cpu_ms))


def test_disturbed_measurements_never_correct_the_model(begin: Begin) -> None:
    opened = begin("busy", 1.25)
    busy = BusyMachine(opened.runner, lambda measurement: 1.0)
    run = opened.run._replace(target=Target(PHONE, busy))
    result = search_rounds(run)
    assert result.round == 1 and len(busy.calls) == 1
    assert any("the latency model is not corrected" in line for line in printed(run))
    assert {each.measured_kind for each in result.candidates} == {"cpu-time"}


def test_screening_without_a_latency_stores_what_was_measured_and_is_exit_6(begin: Begin) -> None:
    opened = begin("disturbed")

    class Disturbing(StandIn):
        def measure(self, subjects: Sequence[Subject], **options: Any) -> list[Measurement]:
            raise Disturbed("phone: load 5.0", [None, *super().measure(subjects, **options)[1:]])

    busy = Disturbing(opened.runner, lambda measurement: 1.0)
    run = opened.run._replace(target=Target(PHONE, busy))
    with pytest.raises(Disturbed, match=r"load 5\.0; .* the same command with --resume continues"):
        search_rounds(run)
    stored = run.folder.measured("screen-1")
    assert len(stored) == len(busy.calls[0]) - 1
    again = search_rounds(run._replace(target=Target(PHONE, opened.runner)))
    assert len(opened.runner.calls[-1]) < len(busy.calls[0]) or again.round > 1


def test_a_disturbed_baseline_does_not_end_a_run_and_is_named(begin: Begin) -> None:
    opened = begin("baseline")

    class Disturbing(StandIn):
        def measure(self, subjects: Sequence[Subject], **options: Any) -> list[Measurement]:
            raise Disturbed("phone: load 5.0", [*super().measure(subjects, **options)[:-1], None])

    busy = Disturbing(opened.runner, lambda measurement: 1.0)
    run = opened.run._replace(target=Target(PHONE, busy))
    *measured, disturbed = search_rounds(run).candidates
    assert all(each.measured_ms is not None for each in measured)
    assert disturbed.origin == "uniform" and disturbed.measured_ms is None
    assert disturbed.predicted_ms is not None
    assert f"not measured, since other programs disturbed it: {disturbed.name}" in printed(run)
