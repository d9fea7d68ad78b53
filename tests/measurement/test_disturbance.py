"""Latencies where other programs compute, too; all clocks are made up."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from hwnas.devices.worker.load import UNSEEN
from hwnas.measurement.disturbance import counted, disturbed_line, doubt_line, joined, settle
from hwnas.measurement.measurement import Environment, Measurement, Program, compare
from hwnas.measurement.round import Round, Usage

HERE = Environment(
    device="pc",
    fingerprint="0" * 12,
    hardware="made up",
    runtime="onnxruntime",
    runtime_version="1",
    threads=1,
    when="2026-01-01T00:00:00+00:00",
    load_after=5.2,
    programs=(Program("python", 42, 0.98), Program("make", 7, 0.5)),
)


def calls(cpu_ms: list[float], lost_ms: list[float]) -> tuple[tuple[float, ...], Usage]:
    wall_ms = tuple(cpu + lost for cpu, lost in zip(cpu_ms, lost_ms, strict=True))
    return wall_ms, Usage(tuple(cpu_ms), tuple(lost_ms), tuple(int(lost > 0) for lost in lost_ms))


def busy_machine(
    network_ms: float, preempted: float, rounds: int = 20, threads: int = 1
) -> Measurement:
    """Measure a network beside a reference of 3 ms on a machine whose clock wanders.

    Of the calls a share of ``preempted`` loses several times its own length to other programs.
    """
    rng, taken = Random(0), list[Round]()
    for number in range(1, rounds + 1):
        slow = rng.choice((1.0, 1.0, 1.6))
        parts: list[tuple[tuple[float, ...], Usage]] = []
        for quiet_ms in (network_ms, 3.0):
            cpu_ms = [quiet_ms * slow * rng.uniform(0.995, 1.005) for _ in range(7)]
            parts.append(calls(cpu_ms, [4 * ms * (rng.random() < preempted) for ms in cpu_ms]))
        (own, usage), (reference, reference_usage) = parts
        taken.append(
            Round(
                own,
                reference,
                number=number,
                usage=usage,
                reference_usage=reference_usage,
                threads=threads,
            )
        )
    return Measurement("net.onnx", tuple(taken), HERE, calibrated_reference_ms=3.0)


@pytest.mark.parametrize("preempted", [0.0, 0.3, 0.7])
def test_a_latency_is_the_wall_clock_of_undisturbed_calls(preempted: float) -> None:
    settled = settle(busy_machine(3.5, preempted), 10, None)
    assert settled is not None
    assert (settled.clock, settled.kind) == ("wall", "measured")
    assert settled.median_ms == pytest.approx(3.5, rel=0.01)


def test_where_hardly_a_call_is_undisturbed_cpu_time_counts_and_is_named() -> None:
    settled = settle(busy_machine(3.5, 0.97), 20, 1.0)
    assert settled is not None
    assert (settled.clock, settled.kind) == ("cpu", "cpu-time")
    assert settled.median_ms == pytest.approx(3.5, rel=0.01)


def test_without_calibrated_clocks_there_is_no_latency_and_one_line_says_why() -> None:
    measured = busy_machine(3.5, 0.97)
    assert settle(measured, 20, None) is None
    line = disturbed_line(measured)
    assert line.startswith("net.onnx: other programs disturbed 13")
    assert " of 140 calls, so there is no latency; load 5.2: python (42) 98% of a core, " in line
    assert line.endswith(
        "make (7) 50% of a core; close them, or wait for a quiet core with --wait-idle 10m"
    )


def test_cpu_time_that_does_not_repeat_is_no_latency() -> None:
    measured = busy_machine(3.5, 1.0)
    wild = tuple(
        msgspec.structs.replace(
            round, usage=Usage((3.5 * (1 + number % 3),) * 7, (9.0,) * 7, (1,) * 7)
        )
        for number, round in enumerate(measured.rounds)
    )
    assert settle(msgspec.structs.replace(measured, rounds=wild), 10, 1.0) is None


def test_the_five_percent_between_two_networks_keep_their_sign_when_most_calls_are_disturbed() -> (
    None
):
    fast, slow = (settle(busy_machine(ms, 0.8), 10, None) for ms in (20.0, 21.0))
    assert fast is not None and slow is not None
    assert compare(slow, fast).ratio == pytest.approx(1.05, abs=0.01)


def test_rounds_are_paired_by_their_number_where_some_are_left_out() -> None:
    a = Measurement("a", tuple(Round((n,), (1.0,), number=n) for n in (1, 2, 3, 4)), HERE)
    b = Measurement("b", tuple(Round((n,), (1.0,), number=n) for n in (2, 4)), HERE)
    assert compare(a, b).ratio == 1.0


def test_calls_that_nothing_is_known_of_all_count() -> None:
    old = Measurement("old", (Round((2.0, 4.0, 9.0), (2.0,)),), HERE)
    assert settle(old, 10, None) == old


def test_several_threads_beside_programs_that_need_their_cores_have_no_wall_clock() -> None:
    """The made-up machine has two other programs, of 0.98 and 0.5 cores."""
    measured = busy_machine(3.5, 0.0, threads=2)

    def settled_on(cores: int, threads: int) -> Measurement | None:
        here = msgspec.structs.replace(HERE, cores=cores, threads=threads)
        return settle(msgspec.structs.replace(measured, environment=here), 10, None)

    assert settled_on(cores=2, threads=2) is None
    assert settled_on(cores=3, threads=2) is None
    assert settled_on(cores=4, threads=2) is not None
    assert settled_on(cores=2, threads=1) is not None


def test_wall_clock_and_cpu_time_are_never_joined() -> None:
    by_wall, by_cpu = settle(busy_machine(3.5, 0.3), 10, None), settle(busy_machine(9.0, 1.0), 9, 1)
    assert by_wall is not None and by_cpu is not None
    assert joined(by_wall, by_cpu) == joined(by_cpu, by_wall) == by_wall
    assert len(joined(by_wall, by_wall).rounds) == 2 * len(by_wall.rounds)


def test_the_raw_latency_leaves_out_disturbed_calls() -> None:
    settled = settle(busy_machine(3.5, 0.5), 10, None)
    assert settled is not None
    assert settled.raw().median_ms == pytest.approx(settled.raw_median_ms, rel=0.2)
    assert max(settled.samples_ms) < 2 * 3.5


def test_time_that_several_threads_waited_is_allowed_to_each_of_them() -> None:
    wall_ms, usage = calls([2.0], [0.03])
    round = Round(wall_ms, wall_ms, usage=usage, reference_usage=usage)
    assert msgspec.structs.replace(round, threads=2).usable
    assert not round.usable


def test_a_latency_beside_other_programs_is_called_into_doubt() -> None:
    def doubt(*programs: Program) -> str:
        return doubt_line([beside_larger(3.0, msgspec.structs.replace(HERE, programs=programs))])

    line = doubt(*HERE.programs)
    assert line.startswith("Other programs computed meanwhile (load 5.2: python (42) 98% of a core")
    assert "within 3%" in line and "by up to 21%" in line
    small = (Program("cron", 3, 0.1), Program("X", 4, 0.1))
    assert doubt(*small) == ""
    assert "make (7)" in doubt(*small, Program("make", 7, 0.06))
    assert "short-lived or hidden programs 70% of a core" in doubt(Program(UNSEEN, 0, 0.7))


@pytest.mark.parametrize(("reference_ms", "doubted"), [(3.1, False), (2.55, True)])
def test_references_that_change_without_a_visible_program_are_remarked_upon(
    reference_ms: float, doubted: bool
) -> None:
    alone = msgspec.structs.replace(HERE, programs=())
    measured = beside_larger(reference_ms, alone)
    assert settle(measured, 10, None) is not None
    line = doubt_line([beside_larger(3.0, alone), measured])
    assert ("A larger reference model takes -15% against the reference" in line) is doubted


def beside_larger(
    reference_ms: float, environment: Environment, probe_ms: float = 30.0
) -> Measurement:
    """Measure beside a reference of 3 ms on the quiet machine, where the base takes 0.2 ms and the
    memory probe 30 ms."""
    quiet = [Usage((ms,), (0.0,), (0,)) for ms in (4.0, reference_ms, 0.2, probe_ms)]
    round = Round(
        (4.0,),
        (reference_ms,),
        usage=quiet[0],
        reference="reference_96",
        reference_usage=quiet[1],
        base_ms=(0.2,),
        base_usage=quiet[2],
        scale=14.0,
        quiet_scale=15.0,
        probe_ms=(probe_ms,),
        probe_usage=quiet[3],
        probe_scale=10.0,
    )
    return Measurement("net.onnx", (round,) * 10, environment)


@pytest.mark.parametrize(("reference_ms", "counts"), [(3.0, True), (3.03, True), (3.3, False)])
def test_beside_programs_that_change_how_two_references_compare_there_is_no_latency(
    reference_ms: float, counts: bool
) -> None:
    measured = beside_larger(reference_ms, HERE)
    assert (settle(measured, 10, None) is not None) is counts
    assert ("one reference model takes +10% against another" in disturbed_line(measured)) is (
        not counts
    )
    quiet = msgspec.structs.replace(HERE, programs=())
    assert settle(beside_larger(reference_ms, quiet), 10, None) is not None


def test_why_there_is_no_latency_is_judged_by_the_rounds_that_count() -> None:
    def rounds(reference_ms: float, base_ms: float) -> tuple[Round, ...]:
        [round, *_] = beside_larger(reference_ms, HERE).rounds
        usage = Usage((base_ms,), (0.0,), (0,))
        return (msgspec.structs.replace(round, base_ms=(base_ms,), base_usage=usage),) * 6

    # fast: 10 % more against the base than when quiet; slow: as then
    taken = (*rounds(3.3, 0.2), *rounds(4.5, 0.3), *rounds(4.5, 0.3))
    measured = msgspec.structs.replace(beside_larger(3.0, HERE), rounds=taken)
    assert settle(measured, 10, None) is None
    assert "against another" not in disturbed_line(measured)
    line = disturbed_line(measured, with_counted=counted(measured, 10, None))
    assert "one reference model takes +10% against another" in line


@pytest.mark.parametrize(("probe_ms", "counts"), [(31.0, True), (29.0, True), (36.0, False)])
def test_beside_programs_that_slow_down_networks_larger_than_the_caches_there_is_no_latency(
    probe_ms: float, counts: bool
) -> None:
    measured = beside_larger(3.0, HERE, probe_ms)
    assert (settle(measured, 10, None) is not None) is counts
    line = disturbed_line(measured)
    assert ("a model larger than the caches takes +20% against a small one" in line) is not counts
    quiet = msgspec.structs.replace(HERE, programs=())
    assert settle(beside_larger(3.0, quiet, probe_ms), 10, None) is not None
    unknown = [msgspec.structs.replace(round, probe_scale=None) for round in measured.rounds]
    never_quiet = msgspec.structs.replace(measured, rounds=tuple(unknown))
    assert settle(never_quiet, 10, None) is not None


def with_neighbours(*processes: tuple[float, ...]) -> Measurement:
    """Measure a network of 0.5 times the reference, which takes 0.2 ms on a core of its own.

    ``processes`` are how much slower the reference was in each round of each process; the network
    is slowed down twice as much.
    """
    taken: list[Round] = []
    for process, slower in enumerate(processes):
        for number, share in enumerate(slower, start=1):
            own_ms, reference_ms = 0.1 * (1 + 2 * share), 0.2 * (1 + share)
            usages = [Usage((ms,) * 5, (0.0,) * 5, (0,) * 5) for ms in (own_ms, reference_ms)]
            taken.append(
                Round(
                    (own_ms,) * 5,
                    (reference_ms,) * 5,
                    process=process,
                    number=number,
                    usage=usages[0],
                    reference_usage=usages[1],
                )
            )
    alone = msgspec.structs.replace(HERE, programs=())
    return Measurement("net.onnx", tuple(taken), alone, calibrated_reference_ms=0.2)


@pytest.mark.parametrize(
    ("processes", "counted", "ratio"),
    [
        (((0.0, 0.01, 0.45, 0.4), (0.45, 0.5, 0.02, 0.4), (0.4, 0.0, 0.4, 0.5)), 4, 0.5),
        # only one process had the core to itself
        (((0.0, 0.01, 0.0, 0.02), (0.4, 0.4, 0.5, 0.4), (0.4, 0.5, 0.4, 0.5)), 12, 0.643),
        # two rounds of twelve are too few
        (((0.0, 0.4, 0.4, 0.4), (0.4, 0.4, 0.0, 0.4), (0.4, 0.4, 0.4, 0.4)), 12, 0.64),
        (((0.0, 0.01, 0.02, 0.03),) * 3, 12, 0.507),
    ],
)
def test_rounds_count_in_which_the_reference_was_as_fast_as_in_the_fastest(
    processes: tuple[tuple[float, ...], ...], counted: int, ratio: float
) -> None:
    settled = settle(with_neighbours(*processes), 8, None)
    assert settled is not None
    assert (len(settled.rounds), settled.disturbed_rounds) == (counted, 12 - counted)
    assert settled.ratio == pytest.approx(ratio, abs=0.015)
    fast = {(round.process, round.number) for round in settled.rounds}
    assert counted == 12 or fast == {(0, 1), (0, 2), (1, 3), (2, 2)}


def test_all_rounds_of_a_gpu_count_whose_clock_follows_its_load() -> None:
    measured = with_neighbours((0.0, 0.01, 0.45, 0.4), (0.0, 0.0, 0.02, 0.4), (0.4, 0.0, 0.4, 0.5))
    rounds = tuple(
        msgspec.structs.replace(round, usage=None, reference_usage=None)
        for round in measured.rounds
    )
    settled = settle(msgspec.structs.replace(measured, rounds=rounds), 8, None)
    assert settled is not None and settled.disturbed_rounds == 0
