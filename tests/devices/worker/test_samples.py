"""What a timed call lost to other programs, with a scheduler that is made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hwnas.devices.worker import conditions, rounds
from hwnas.devices.worker import samples as samples_module
from hwnas.devices.worker.conditions import cpu_quota, too_few_cores
from hwnas.devices.worker.load import busiest, read_ticks
from hwnas.devices.worker.rounds import Visit, is_done
from hwnas.devices.worker.samples import Counters, Samples, Timer
from hwnas.measurement import round as measured_round

MS = 10**6


class FakeCounters(Counters):
    """A machine on which each call takes 4 ms of CPU time, and some lose time to others."""

    def __init__(self, threads: int, lost_ms: list[int]) -> None:
        super().__init__(threads)
        self.known, self.left = True, list(lost_ms)
        self.now = self.cpu = self.waited = self.preempted = 0
        self.wall_ns, self.cpu_ns = lambda: self.now, lambda: self.cpu

    def run(self) -> None:
        lost = self.left.pop(0) * MS
        self.now += 4 * MS + lost
        self.cpu += 4 * MS * self.threads
        self.waited += lost
        self.preempted += lost > 0

    def switches(self) -> int:
        return self.preempted

    def waited_ns(self) -> int:
        return self.waited if self.threads > 1 else 0


@pytest.mark.parametrize("threads", [1, 2])
def test_a_preempted_call_is_known_by_its_lost_time_and_its_switches(threads: int) -> None:
    counters, samples = FakeCounters(threads, [0, 96, 0, 8]), Samples()
    Timer(threads, counters).add(samples, counters.run, 4)
    assert samples.wall_ms == [4.0, 100.0, 4.0, 12.0]
    assert samples.cpu_ms == [4.0 * threads] * 4
    assert samples.lost_ms == [0.0, 96.0, 0.0, 8.0]
    assert samples.switches == [0, 1, 0, 1]
    assert samples.undisturbed_ms(threads) == [4.0, 4.0]


def visit(undisturbed: bool, wall_ms: float = 4.0) -> Visit:
    own = Samples()
    own.wall_ms, own.cpu_ms, own.switches = [wall_ms], [4.0], [0]
    own.lost_ms = [0.0 if undisturbed else 90.0]
    return Visit(own, own)


SPEC = {"min_rounds": 6, "max_rounds": 12, "ci": 0.02, "threads": 1}


def test_only_undisturbed_rounds_make_a_model_steady() -> None:
    assert is_done([visit(True)] * 6, SPEC)
    assert not is_done([visit(True)] * 5 + [visit(False)] * 9, SPEC)
    assert is_done([visit(True)] * 6 + [visit(False)] * 9, SPEC)


class TakesMs:
    """A stand-in for an opened model file whose calls take a given number of milliseconds."""

    def __init__(self, name: str, latency_ms: float) -> None:
        self.name, self.latency_ms = name, latency_ms
        self.beside: TakesMs | None = None
        self.probe: TakesMs | None = None


def test_a_model_is_timed_beside_the_reference_of_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    latencies_ms = {"reference_96.onnx": 3.0, "reference_224.onnx": 30.0, "probe.onnx": 50.0}
    opened: list[str] = []

    def open_reference(model: dict[str, Any], runtime: str, request: object) -> TakesMs:
        opened.append(model["path"])
        return TakesMs(model["name"], latencies_ms[model["name"]])

    monkeypatch.setattr(rounds, "TimedModel", open_reference)
    monkeypatch.setattr(rounds, "warm_ms", lambda timed: timed.latency_ms)
    *larger, probe = (f"/kits/{name}" for name in latencies_ms)
    request = {"runtime": "onnxruntime", "references": larger, "probe": probe}
    beside: list[str] = []

    def choose(*latencies_ms: float) -> list[str]:
        opened.clear()
        models: Any = [TakesMs("net", latency_ms) for latency_ms in latencies_ms]
        base: Any = TakesMs("reference", 0.2)
        beside[:] = [model.name for model in rounds.choose_references(models, base, request)]
        assert [model.probe is not None for model in models] == [ms > 300 for ms in latencies_ms]
        return [model.beside.name if model.beside else "" for model in models]

    assert choose(0.1, 0.5) == ["", ""] and opened == []
    assert (
        choose(0.3, 2.0, 5.0) == ["", "reference_96.onnx", "reference_96.onnx"] and len(opened) == 1
    )
    assert choose(4.0, 20.0, 280.0) == ["reference_96.onnx", *["reference_224.onnx"] * 2]
    assert choose(4.0, 320.0) == ["reference_96.onnx", "reference_224.onnx"]
    assert beside == list(latencies_ms), "all are warmed up with the models"


def test_a_model_with_hardly_an_undisturbed_round_is_given_up() -> None:
    assert not is_done([visit(False)] * 17, SPEC)
    assert is_done([visit(False)] * 18, SPEC)
    assert not is_done([visit(True)] * 2 + [visit(False)] * 17, SPEC)


def test_the_worker_and_hwnas_agree_on_what_is_undisturbed() -> None:
    """The worker is sent to computers without hwnas, so both have the number."""
    assert samples_module.MAX_LOST_SHARE == measured_round.MAX_LOST_SHARE


def test_waiting_of_all_threads_is_summed_and_a_kernel_without_an_account_counts_switches(
    tmp_path: Path,
) -> None:
    for thread, waited in ((7, 300), (8, 50)):
        folder = tmp_path / "task" / str(thread)
        folder.mkdir(parents=True)
        (folder / "schedstat").write_text(f"1000 {waited} 4\n")
    assert Counters(2, str(tmp_path)).waited_ns() == 350
    (tmp_path / "task" / "8" / "schedstat").unlink()
    counters = Counters(2, str(tmp_path))
    switches = counters.switches()
    assert counters.waited_ns() >= switches * 10**9


def test_the_busiest_other_programs_are_named(tmp_path: Path) -> None:
    def write_total(user: int, system: int, others: int = 0) -> None:
        lines = [
            f"cpu  {user + others} 0 {system} 9999 1 0 0 0",
            f"cpu0 {user} 0 {system} 99 1 0 0 0",
            f"cpu1 {others} 0 0 9900 0 0 0 0",
        ]
        (tmp_path / "stat").write_text("\n".join((*lines, "intr 5 6")))

    def write(pid: int, name: str, ticks: int) -> None:
        (tmp_path / str(pid)).mkdir(exist_ok=True)
        fields = ["0"] * 11 + [str(ticks), "10"] + ["0"] * 20
        (tmp_path / str(pid) / "stat").write_text(f"{pid} ({name}) {' '.join(fields)}\n")

    for pid, name in ((3, "a (b) c"), (4, "worker"), (5, "idle")):
        write(pid, name, 100)
    write_total(1000, 500)
    before = read_ticks(str(tmp_path))._replace(when_s=10.0)
    write(3, "a (b) c", 290)
    write(4, "worker", 300)
    write(5, "idle", 101)
    write(6, "new", 70)
    write_total(1400, 571)
    after = read_ticks(str(tmp_path))._replace(when_s=12.0)
    programs = [
        {"name": "a (b) c", "pid": 3, "cores": 0.95},
        {"name": "new", "pid": 6, "cores": 0.4},
    ]
    assert busiest(before, after, without=4) == programs
    write_total(1500, 671)
    after = read_ticks(str(tmp_path))._replace(when_s=12.0)
    unseen = {"name": "short-lived or hidden programs", "pid": 0, "cores": 1.0}
    assert busiest(before, after, without=4) == [unseen, *programs]
    # programs on cores that a container may not use do not count
    here, everywhere = (read_ticks(str(tmp_path), cores) for cores in ({0}, {0, 1}))
    write_total(1500, 671, others=400)
    for ticks, cores, expected in ((here, {0}, []), (everywhere, {0, 1}, [unseen | {"cores": 2}])):
        after = read_ticks(str(tmp_path), cores)._replace(when_s=ticks.when_s + 2)
        assert busiest(ticks, after, without=4) == expected
    (tmp_path / "stat").unlink()
    assert busiest(before, read_ticks(str(tmp_path))._replace(when_s=12.0), without=4) == programs


def test_more_threads_than_cores_are_refused() -> None:
    assert too_few_cores(1) is None
    problem = too_few_cores(10_000)
    assert problem is not None
    assert problem[0].startswith("10000 threads on ") and "taskset" in problem[1]


@pytest.mark.parametrize(
    ("groups", "files", "quota"),
    [
        ("0::/", {"sys/fs/cgroup/cpu.max": "150000 100000"}, 1.5),
        ("0::/", {"sys/fs/cgroup/cpu.max": "max 100000"}, None),
        ("0::/", {}, None),
        (
            "0::/user.slice/job",
            {
                "sys/fs/cgroup/user.slice/cpu.max": "50000 100000",
                "sys/fs/cgroup/user.slice/job/cpu.max": "200000 100000",
            },
            0.5,
        ),
        (
            "3:cpu,cpuacct:/docker\n4:memory:/docker",
            {
                "sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_quota_us": "25000",
                "sys/fs/cgroup/cpu,cpuacct/docker/cpu.cfs_period_us": "100000",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1",
                "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            },
            0.25,
        ),
    ],
)
def test_the_quota_of_a_container_is_the_least_of_its_groups(
    tmp_path: Path, groups: str, files: dict[str, str], quota: float | None
) -> None:
    for name, text in {"proc/self/cgroup": groups, **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cpu_quota(str(tmp_path)) == quota


def test_threads_above_the_quota_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditions, "cpu_quota", lambda: 0.5)
    problem = too_few_cores(1)
    assert problem is not None
    assert problem[0].startswith("1 thread on 0.5 cores' time") and "--cpus" in problem[1]
