"""How much faster do several devices of one kind measure, and what if a node dies?

    python -m tools.bench.measuring.farm [--devices 50] [--files 600] [--file-s 0.5] [--append]

Starts a Ray cluster of four nodes on this machine with simulated devices, which wait for as long as
a file takes. In every second row a node is killed when a quarter of the files is measured. Each
device has a process of its own, so that 50 of them take memory and, until all have started, both
cores. Writes ``results/farm.md``.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
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
from hwnas.measurement.measurement import Measurement
from tools.lib.options import out_option
from tools.lib.results import ROOT, command, results_folder, table, write_results

RESULTS = results_folder(__file__) / "farm.md"
NODES = 4
TITLES = (
    "devices",
    "node killed",
    "files",
    "first result, s",
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
@click.option("--file-s", default=0.5, show_default=True, help="Time that a file takes.")
@click.option("--append", is_flag=True, help="Add the rows to the results file.")
@out_option(RESULTS)
def main(files: int, devices: tuple[int, ...], file_s: float, append: bool, out: Path) -> None:
    """Measure files on simulated devices of a Ray cluster of four nodes."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        subjects = list(networks(folder, files))
        phone = find_profile("simulated-phone")
        expected = [each.rounds for each in SimulatedRunner(phone).measure(subjects)]
        earlier = out.read_text(encoding="utf-8") if append and out.exists() else ""
        rows: list[tuple[object, ...]] = []
        for count, kills in product(devices, (False, True)):
            place = folder / f"{count}-{kills}"
            with cluster(place, count, file_s) as (address, names, kill):
                rack = _rack(phone, address, names)
                runner, calls = ClusterRunner(rack), [kill] if kills else []
                start = perf_counter()
                measured, first = _measure(runner, subjects, calls)
                time_s, first_s = perf_counter() - start, first - start
            by_device = Counter(each.environment.device for each in measured)
            wrong = sum(a.rounds != b for a, b in zip(measured, expected, strict=True))
            spread = f"{min(by_device.values())} to {max(by_device.values())}"
            rows.append(
                (
                    count,
                    "yes" if kills else "",
                    files,
                    f"{first_s:.1f}",
                    f"{time_s:.1f}",
                    f"{files / time_s:.0f}",
                    f"{file_s * files / (count * time_s):.0%}",
                    spread,
                    files - len(measured),
                    wrong,
                )
            )
            # after each row: a cluster may fail to start on a busy machine
            out.write_text(earlier, encoding="utf-8")
            called_as = command(
                __file__,
                f"--files {files} --file-s {file_s:g}",
                *(f"--devices {count}" for count in devices),
            )
            text = write_results(
                out,
                f"Devices that measure at once, {file_s:g} s a file",
                called_as,
                f"{NODES} nodes of a Ray cluster on one machine; simulated devices.",
                table(TITLES, rows),
                append=append,
            )
            click.echo(text)


def networks(folder: Path, count: int) -> Iterator[Subject]:
    """Yield small networks of different widths."""
    for number in range(count):
        path = folder / f"{number}.tflite"
        compile_model(nn.Conv2d(3, 4 + number % 60, 3), (3, 8 + number % 7, 16), path)
        yield Subject(f"network {number}", path)


@contextmanager
def cluster(folder: Path, count: int, file_s: float) -> Iterator[tuple[str, list[str], Any]]:
    """Start nodes with simulated devices; yield the address, the devices, and a function that kills
    the last node."""
    import ray
    from ray.cluster_utils import Cluster as RayCluster

    names = [f"phone-{number}" for number in range(count)]
    text = (ROOT / "devices" / "simulated-phone.toml").read_text(encoding="utf-8")
    text = text.replace("[simulation]", f"[simulation]\nfile_s = {file_s}")
    folder.mkdir()
    for name in names:
        (folder / f"{name}.toml").write_text(text.replace('"simulated-phone"', f'"{name}"'))
        read_profile(folder / f"{name}.toml")
    os.environ.update(
        HWNAS_DEVICES=str(folder),
        PYTHONPATH=str(ROOT),
        RAY_USAGE_STATS_ENABLED="0",
        RAY_worker_niceness="0",  # devices wait and do not compute
        RAY_gcs_server_port_wait_time_s="300",  # other programs may run beside
    )
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


def _measure(
    runner: Runner, subjects: list[Subject], calls: list[Any]
) -> tuple[list[Measurement], float]:
    """Measure, and return when the first results came; call each of ``calls`` once, when a quarter
    of the files is measured."""
    times: list[float] = []

    def progress(done: int, planned: int) -> None:
        times.append(perf_counter())
        if calls and 4 * done >= planned:
            calls.pop()()

    measured = runner.measure(subjects, progress=progress)
    return measured, times[0]


if __name__ == "__main__":
    main()
