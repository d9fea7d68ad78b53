"""How much faster do several devices of one kind measure, and what if a node dies?

    python -m tools.bench.measuring.farm

Starts a Ray cluster of four nodes on this machine with simulated devices, which take half a second
for a file. In every second row a node is killed when a quarter of the files is measured. Writes
``results/farm.md``.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import msgspec
from torch import nn

from hwnas.devices.profile import Cluster, DeviceProfile, find_profile, read_profile
from hwnas.devices.runner import Runner, Subject
from hwnas.devices.runners.cluster import ClusterRunner
from hwnas.devices.runners.simulated import SimulatedRunner
from hwnas.export.compile import compile_model
from tools.lib.options import out_option
from tools.lib.results import ROOT, command, results_folder, table, write_results

RESULTS = results_folder(__file__) / "farm.md"
NODES, FILE_S = 4, 0.5
TITLES = (
    "devices",
    "node killed",
    "files",
    "time, s",
    "files/s",
    "share of the devices' time",
    "files of a device, least to most",
    "results missing",
    "results that differ from one device's",
)


@click.command()
@click.option("--files", default=600, show_default=True, type=click.IntRange(8))
@click.option("--devices", multiple=True, default=(4, 16, 50), show_default=True, type=int)
@out_option(RESULTS)
def main(files: int, devices: tuple[int, ...], out: Path) -> None:
    """Measure files on simulated devices of a Ray cluster of four nodes."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        subjects = list(networks(folder, files))
        phone = find_profile("simulated-phone")
        expected = [each.rounds for each in SimulatedRunner(phone).measure(subjects)]
        rows: list[tuple[object, ...]] = []
        for count in devices:
            for kills in (False, True):
                with cluster(folder / f"{count}-{kills}", count) as (address, names, kill):
                    rack = _rack(phone, address, names)
                    runner, calls = ClusterRunner(rack), [kill] if kills else []
                    start = perf_counter()
                    measured = _measure(runner, subjects, calls)
                    time_s = perf_counter() - start
                by_device = Counter(each.environment.device for each in measured)
                wrong = sum(a.rounds != b for a, b in zip(measured, expected, strict=True))
                spread = f"{min(by_device.values())} to {max(by_device.values())}"
                rows.append(
                    (
                        count,
                        "yes" if kills else "",
                        files,
                        f"{time_s:.1f}",
                        f"{files / time_s:.0f}",
                        f"{FILE_S * files / (count * time_s):.0%}",
                        spread,
                        files - len(measured),
                        wrong,
                    )
                )
    text = write_results(
        out,
        "Devices that measure at once",
        command(__file__, f"--files {files}"),
        f"{NODES} nodes of a Ray cluster on one machine; simulated devices, {FILE_S:g} s a file.",
        table(TITLES, rows),
    )
    click.echo(text)


def networks(folder: Path, count: int) -> Iterator[Subject]:
    """Yield small networks of different widths."""
    for number in range(count):
        path = folder / f"{number}.tflite"
        compile_model(nn.Conv2d(3, 4 + number % 60, 3), (3, 8 + number % 7, 16), path)
        yield Subject(f"network {number}", path)


@contextmanager
def cluster(folder: Path, count: int) -> Iterator[tuple[str, list[str], Any]]:
    """Start nodes with simulated devices; yield address, devices, and what kills the last node."""
    import ray
    from ray.cluster_utils import Cluster as RayCluster

    names = [f"phone-{number}" for number in range(count)]
    text = (ROOT / "devices" / "simulated-phone.toml").read_text(encoding="utf-8")
    text = text.replace("[simulation]", f"[simulation]\nfile_s = {FILE_S}")
    folder.mkdir()
    for name in names:
        (folder / f"{name}.toml").write_text(text.replace('"simulated-phone"', f'"{name}"'))
        read_profile(folder / f"{name}.toml")
    os.environ.update(HWNAS_DEVICES=str(folder), PYTHONPATH=str(ROOT), RAY_USAGE_STATS_ENABLED="0")
    started: Any = RayCluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "object_store_memory": 10**8, "include_dashboard": False},
    )
    try:
        nodes = [
            started.add_node(
                num_cpus=1,
                object_store_memory=10**8,
                resources={f"device:{name}": 1 for name in names[number::NODES]},
            )
            for number in range(NODES)
        ]
        yield (
            started.address,
            names,
            lambda: started.remove_node(nodes[-1], allow_graceful=False),
        )
    finally:
        ray.shutdown()
        started.shutdown()


def _rack(phone: DeviceProfile, address: str, names: list[str]) -> DeviceProfile:
    devices = Cluster(address, tuple(names))
    return msgspec.structs.replace(
        phone, name="rack", transport="ray", simulation=None, cluster=devices
    )


def _measure(runner: Runner, subjects: list[Subject], calls: list[Any]) -> list[Any]:
    """Measure; call each of ``calls`` once, when a quarter of the files is measured."""

    def progress(done: int, planned: int) -> None:
        if calls and 4 * done >= planned:
            calls.pop()()

    return runner.measure(subjects, progress=progress)


if __name__ == "__main__":
    main()
