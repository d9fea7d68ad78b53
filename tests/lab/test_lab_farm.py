"""Four real hosts, each reached by a node of a Ray cluster, of which one is cut off."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from hwnas.devices.runner import Subject
from hwnas.measurement.measurement import Measurement
from tools.bench.measuring.farm import profile_of
from tools.bench.measuring.hosts import LoggedHost, digest, kill_busy, logged_hosts
from tools.bench.measuring.ray_nodes import measure, ray_nodes

pytest.importorskip("ray", reason='Ray is not installed: pip install "hwnas[ray]"')

NetWriter = Callable[..., Path]


def test_the_files_of_a_host_that_is_cut_off_are_measured_by_the_others_and_none_twice(
    lab: Path, tmp_path: Path, write_net: NetWriter
) -> None:
    files = [write_net(tmp_path / f"{number}.onnx", channels=4 + number) for number in range(24)]
    subjects = [Subject(f"net {number}", file) for number, file in enumerate(files)]
    dead: list[LoggedHost] = []
    with logged_hosts(lab / "farm", 4) as hosts:
        profiles = {each.name: each.profile for each in hosts}
        with ray_nodes(tmp_path / "nodes", profiles, 4) as nodes:
            rack = nodes.profile(profile_of(hosts[0]))
            run = measure(rack, subjects, lambda: dead.append(kill_busy(hosts)))
        served = {each.name: each.served() for each in hosts}
        [dying] = dead
        lost = dying.begun() - dying.served()
    assert [each.name for each in run.measured] == [subject.name for subject in subjects]
    names = [digest(subject) for subject in subjects]
    assert sum(served.values(), Counter[str]()) == Counter(names), "each file is measured once"
    assert sum(lost.values()) > 0, "it was killed in the middle of a measurement"
    by_host = Counter(each.environment.device for each in run.measured)
    assert by_host == {name: sum(files.values()) for name, files in served.items() if files}
    taken = [
        device for name, device in zip(names, _devices(run.measured), strict=True) if lost[name]
    ]
    assert dying.name not in taken


def _devices(measured: list[Measurement]) -> list[str]:
    return [each.environment.device for each in measured]
