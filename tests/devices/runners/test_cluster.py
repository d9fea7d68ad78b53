"""Devices of a real Ray cluster of this machine, some of whose nodes are killed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hwnas.devices.discovery.doctor import examine
from hwnas.devices.profile import Cluster, DeviceProfile, find_profile, read_profile
from hwnas.devices.runner import Subject
from hwnas.devices.runners.cluster import ClusterRunner
from hwnas.devices.runners.simulated import SimulatedRunner
from hwnas.errors import DeviceError, DeviceLost, InvalidFile
from hwnas.testing import check_runner

pytest.importorskip("ray", reason='Ray is not installed: pip install "hwnas[ray]"')

NetWriter = Callable[..., Path]
SIMULATED = """\
name = "{name}"
title = "simulated device"
kind = "simulated"
runtime = "litert"
transport = "simulated"
hardware = {{ source = "invented" }}
[simulation]
call_ms = {call_ms}
op_ms = 0.02
macs_per_ms = 1e6
depthwise_macs_per_ms = 2e5
noise = 0.01
"""
LOCAL = """\
name = "{name}"
title = "this machine"
kind = "cpu"
runtime = "litert"
transport = "local"
emulated = true  # other tests may run beside it
hardware = {{ source = "invented" }}
[measure]
processes = 1
warmup_s = 0.0
min_rounds = 2
max_rounds = 2
runs = 2
"""


class Nodes(msgspec.Struct):
    """A cluster, and its nodes by the devices that they reach."""

    cluster: Any
    nodes: dict[str, Any]

    def profile(self, *devices: str) -> DeviceProfile:
        phone = find_profile("simulated-phone")
        return msgspec.structs.replace(
            phone,
            name="rack",
            transport="ray",
            simulation=None,
            cluster=Cluster(self.cluster.address, devices),
        )


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    """Three equal simulated devices and another on one node, this machine twice on two others."""
    import ray
    from ray.cluster_utils import Cluster as RayCluster

    folder = tmp_path_factory.mktemp("devices")
    for name, call_ms in (("a", 0.05), ("b", 0.05), ("c", 0.05), ("other", 0.07)):
        (folder / f"{name}.toml").write_text(SIMULATED.format(name=name, call_ms=call_ms))
    for name in ("left", "right"):
        (folder / f"{name}.toml").write_text(LOCAL.format(name=name))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HWNAS_DEVICES", str(folder))
        patch.setenv("PYTHONPATH", str(Path.cwd()))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # a killed node, which refuses connections, is missed soon, and a slow one has its time
        patch.setenv("RAY_health_check_period_ms", "500")
        patch.setenv("RAY_health_check_failure_threshold", "3")
        cluster: Any = RayCluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 1,
                "include_dashboard": False,
                "object_store_memory": 80_000_000,
                "resources": {f"device:{name}": 1 for name in ("a", "b", "c", "other")},
            },
        )
        try:
            others = {
                name: cluster.add_node(
                    num_cpus=1, object_store_memory=80_000_000, resources={f"device:{name}": 1}
                )
                for name in ("left", "right")
            }
            yield Nodes(cluster, others)
        finally:
            ray.shutdown()
            cluster.shutdown()


def test_it_is_a_runner(nodes: Nodes, tmp_path: Path) -> None:
    check_runner(ClusterRunner(nodes.profile("a", "b", "c")), ".tflite", tmp_path)


def test_every_file_is_measured_once_as_by_the_device_alone(
    nodes: Nodes, tmp_path: Path, write_net: NetWriter
) -> None:
    files = [write_net(tmp_path / f"{n}.tflite", channels=8 + n) for n in range(9)]
    subjects = [Subject(f"net {number}", file) for number, file in enumerate(files)]
    done: list[tuple[int, int]] = []
    measured = ClusterRunner(nodes.profile("a", "b", "c")).measure(
        subjects, progress=lambda count, planned: done.append((count, planned))
    )
    assert [each.name for each in measured] == [subject.name for subject in subjects]
    alone = SimulatedRunner(find_profile_in(nodes, "a")).measure(subjects)
    assert [each.rounds for each in measured] == [each.rounds for each in alone]
    assert {each.environment.device for each in measured} == {"a", "b", "c"}
    assert done[-1] == (9, 9) and len(done) == 9


def find_profile_in(nodes: Nodes, name: str) -> DeviceProfile:
    """Return the profile that a node has."""
    text = SIMULATED.format(name=name, call_ms=0.05)
    return msgspec.toml.decode(text, type=DeviceProfile)


def test_an_invalid_file_is_named_by_its_own_path(nodes: Nodes, tmp_path: Path) -> None:
    (tmp_path / "mine.tflite").write_bytes(b"no model")
    with pytest.raises(InvalidFile, match=str(tmp_path / "mine.tflite")):
        ClusterRunner(nodes.profile("a")).measure([Subject("mine", tmp_path / "mine.tflite")])


def test_devices_of_several_kinds_are_an_error(
    nodes: Nodes, tmp_path: Path, write_net: NetWriter
) -> None:
    file = write_net(tmp_path / "net.tflite")
    subjects = [Subject(f"net {number}", file) for number in range(4)]
    with pytest.raises(DeviceError, match=r"rack: its devices differ: .*expected devices of one"):
        ClusterRunner(nodes.profile("a", "other")).measure(subjects)


def test_a_device_that_no_node_reaches_is_left_out_and_named_if_there_is_no_other(
    nodes: Nodes, tmp_path: Path, write_net: NetWriter
) -> None:
    file = write_net(tmp_path / "net.tflite")
    [measured] = ClusterRunner(nodes.profile("absent", "b")).measure([Subject("net", file)])
    assert measured.environment.device == "b"
    runner = ClusterRunner(nodes.profile("absent"))
    for call in (runner.probe, lambda: runner.measure([Subject("net", file)])):
        with pytest.raises(DeviceLost, match=r"absent: no node .*`ray start --address"):
            call()


def test_the_files_of_a_node_that_dies_are_measured_by_another(
    nodes: Nodes, tmp_path: Path, write_net: NetWriter
) -> None:
    files = [write_net(tmp_path / f"{n}.tflite", channels=8 + n) for n in range(8)]
    subjects = [Subject(f"net {number}", file) for number, file in enumerate(files)]
    node = nodes.nodes.pop("left")

    def kill(count: int, planned: int) -> None:
        nonlocal node
        if node is not None:
            node, dying = None, node
            nodes.cluster.remove_node(dying, allow_graceful=False)

    measured = ClusterRunner(nodes.profile("left", "right")).measure(subjects, progress=kill)
    assert [each.name for each in measured] == [subject.name for subject in subjects]
    assert node is None
    by_device = Counter(each.environment.device for each in measured)
    assert by_device["left"] + by_device["right"] == 8 and by_device["right"] > 4


def test_a_cluster_without_its_table_is_an_invalid_profile(tmp_path: Path) -> None:
    text = LOCAL.format(name="rack").replace('"local"', '"ray"')
    (tmp_path / "rack.toml").write_text(text)
    with pytest.raises(InvalidFile, match=r"Expected a \[cluster\] table exactly where"):
        read_profile(tmp_path / "rack.toml")
    (tmp_path / "rack.toml").write_text(text + '[cluster]\naddress = "auto"\ndevices = []\n')
    with pytest.raises(InvalidFile, match=r"\$\.cluster\.devices"):
        read_profile(tmp_path / "rack.toml")


def test_the_doctor_says_whether_the_cluster_answers(nodes: Nodes) -> None:
    rack = nodes.profile("a")
    here = {check.name: check for check in examine(rack)}[rack.name]
    assert here.state == "ok" and "answers" in here.detail
    away = msgspec.structs.replace(rack, cluster=Cluster("127.0.0.1:1", ("a",)))
    there = {check.name: check for check in examine(away)}[rack.name]
    assert there.state == "failed" and "no Ray cluster answers at 127.0.0.1:1" in there.detail
