"""A Ray cluster on this machine, whose nodes reach devices."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import msgspec

from hwnas.devices.profile import Cluster, DeviceProfile, read_profile
from hwnas.devices.runner import Subject
from hwnas.devices.runners.cluster import ClusterRunner
from hwnas.measurement.measurement import Measurement
from tools.lib.results import ROOT


class Nodes(NamedTuple):
    """A cluster that is up."""

    address: str
    devices: tuple[str, ...]
    kill_last: Callable[[], None]
    """Kills the last node with its devices."""

    def profile(self, device: DeviceProfile) -> DeviceProfile:
        """Return the profile of all devices, which are of the kind of ``device``."""
        devices = Cluster(self.address, self.devices)
        return msgspec.structs.replace(
            device, name="rack", transport="ray", simulation=None, remote=None, cluster=devices
        )


@contextmanager
def ray_nodes(folder: Path, profiles: Mapping[str, str], count: int) -> Iterator[Nodes]:
    """Start a head and ``count`` nodes, which share the devices of ``profiles``: TOML by name.

    The environment of this process, which the nodes inherit, is restored at the end.
    """
    import ray
    from ray.cluster_utils import Cluster as RayCluster

    folder.mkdir()
    for name, text in profiles.items():
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
        read_profile(folder / f"{name}.toml")
    environment = dict(os.environ)
    os.environ.update(
        HWNAS_DEVICES=str(folder),
        HWNAS_HOME=str(folder / "home"),
        PYTHONPATH=str(ROOT),
        RAY_USAGE_STATS_ENABLED="0",
        RAY_worker_niceness="0",  # devices wait and do not compute
        RAY_gcs_server_port_wait_time_s="300",  # other programs may run beside
    )
    started: Any = None
    try:
        started = RayCluster(
            initialize_head=True,
            head_node_args={
                "num_cpus": 1,
                "object_store_memory": 10**8,
                "include_dashboard": False,
            },
        )
        nodes = [
            started.add_node(
                num_cpus=1,
                object_store_memory=10**8,
                resources={f"device:{name}": 1 for name in list(profiles)[number::count]},
            )
            for number in range(count)
        ]
        kill_last = lambda: started.remove_node(nodes[-1], allow_graceful=False)  # noqa: E731
        yield Nodes(started.address, tuple(profiles), kill_last)
    finally:
        ray.shutdown()
        if started is not None:
            started.shutdown()
        os.environ.clear()
        os.environ.update(environment)


class Run(NamedTuple):
    """What a cluster measured."""

    measured: list[Measurement]
    first_s: float
    """Time until the first results."""
    time_s: float


def measure(
    profile: DeviceProfile, subjects: list[Subject], at_a_quarter: Callable[[], None] | None = None
) -> Run:
    """Measure on a cluster; ``at_a_quarter`` is called once a quarter of the files is measured."""
    calls, times_s = [at_a_quarter] if at_a_quarter else [], list[float]()
    start_s = perf_counter()

    def progress(done: int, planned: int) -> None:
        times_s.append(perf_counter() - start_s)
        if calls and 4 * done >= planned:
            calls.pop()()

    measured = ClusterRunner(profile).measure(subjects, progress=progress)
    return Run(measured, times_s[0], perf_counter() - start_s)
