"""Waiting for a quiet core, on a machine whose ``/proc`` and clock are made up."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwnas.devices.idle import Clock, wait_idle, waiting
from hwnas.devices.profile import find_profile
from hwnas.errors import TooNoisy


class Machine:
    """Two cores; ``busy`` gives the busy share of both together, second by second."""

    def __init__(self, root: Path, busy: list[float]) -> None:
        self.root, self.left = root, busy
        self.time_s, self.idle, self.total, self.worked = 0.0, 0, 0, 0
        self.lines: list[str] = []
        self.write()

    def write(self) -> None:
        process = self.root / "proc" / "77"
        process.mkdir(parents=True, exist_ok=True)
        half = self.idle // 2, (self.total - self.idle) // 2
        rows = [f"cpu{core} {half[1]} 0 0 {half[0]} 0 0 0 0 0 0" for core in (0, 1)]
        (self.root / "proc" / "stat").write_text("\n".join(["cpu  1 2 3", *rows, "intr 1"]))
        fields = ["S", *["0"] * 10, str(self.worked), "0"]
        (process / "stat").write_text(f"77 (make) {' '.join(fields)}")

    def sleep(self, seconds: float) -> None:
        busy = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        self.time_s += seconds
        self.total += 200
        self.idle += round(200 * (1 - busy))
        self.worked += round(200 * busy)
        self.write()

    def wait(self, threads: int, limit_s: float = 60.0) -> float:
        clock = Clock(lambda: self.time_s, self.sleep)
        wait_idle(threads, (0, 1), limit_s, self.lines.append, root=self.root, clock=clock)
        return self.time_s


def test_an_idle_machine_is_not_waited_for(tmp_path: Path) -> None:
    machine = Machine(tmp_path, [0.0])
    assert machine.wait(2) == 3.0
    assert machine.lines == []


def test_a_core_is_quiet_while_one_program_keeps_the_other_busy(tmp_path: Path) -> None:
    assert Machine(tmp_path / "one", [0.5]).wait(threads=1) == 3.0
    machine = Machine(tmp_path / "both", [0.5])
    with pytest.raises(TooNoisy, match=r"within 1 min for 2 threads: 1\.0 of 2 cores"):
        machine.wait(threads=2)


def test_it_waits_until_the_machine_is_quiet_and_says_once_what_for(tmp_path: Path) -> None:
    machine = Machine(tmp_path, [1.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0])
    assert machine.wait(1) == 7.0
    [line] = machine.lines
    assert line.startswith(
        "waiting for a quiet core, at most 1 min: 2.0 of 2 cores busy: make (77)"
    )


def test_it_gives_up_with_exit_6_and_names_the_program(tmp_path: Path) -> None:
    machine = Machine(tmp_path, [1.0])
    with pytest.raises(
        TooNoisy, match=r"no quiet core within 30 s .* make \(77\) .* close"
    ) as raised:
        machine.wait(1, limit_s=30.0)
    assert raised.value.exit_code == 6
    assert machine.time_s == pytest.approx(30.0, abs=1.0)


def test_a_system_that_does_not_report_its_cores_is_not_waited_for(tmp_path: Path) -> None:
    slept: list[float] = []
    wait_idle(1, (0,), 60.0, root=tmp_path, clock=Clock(lambda: 0.0, slept.append))
    assert sum(slept) <= 1.0


def test_only_this_machine_is_waited_for() -> None:
    assert waiting(find_profile("host-cpu"), 600.0).measure.wait_idle_s == 600.0
    phone = find_profile("simulated-phone")
    assert waiting(phone, 600.0) is phone
