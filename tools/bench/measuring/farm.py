"""How much faster do several devices of one kind measure, and what if some of them die?

    python -m tools.bench.measuring.farm simulated [--devices 50] [--files 600] [--file-s 0.5]
    python -m tools.bench.measuring.farm hosts [--files 96]

Both start a Ray cluster of nodes on this machine. Simulated devices wait for as long as a file
takes. In every second row a node is killed when a quarter of the files is measured. Each device has
a process of its own, so that 50 of them take memory and, until all have started, both cores.

The hosts are four sshd in network namespaces (root, Debian packages: .ci/run), which measure ONNX
files with real workers, on the cores that they share. In the last row a host is cut off while it
measures. What was measured where is read from ledgers of the hosts. Writes ``results/farm.md``;
with ``--append`` adds to it.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

import click
import msgspec
from torch import nn

from hwnas.devices.profile import DeviceProfile, find_profile
from hwnas.devices.runner import Subject
from hwnas.devices.runners.simulated import SimulatedRunner
from hwnas.export.compile import compile_model
from tests.lab.bench import why_not
from tools.bench.measuring.hosts import LoggedHost, digest, kill_busy, logged_hosts
from tools.bench.measuring.ray_nodes import Run, measure, ray_nodes
from tools.lib.options import out_option
from tools.lib.results import ROOT, command, results_folder, table, write_results

RESULTS = results_folder(__file__) / "farm.md"
NODES = 4
TITLES = ("killed", "files", "first result, s", "time, s", "files/s")
SIMULATED = (
    "devices",
    *TITLES,
    "share of the devices' time",
    "files of a device, least to most",
    "results missing",
    "results that differ from one device's",
)
HOSTS = (
    "hosts",
    *TITLES,
    "files of each host",
    "results missing",
    "files measured twice",
    "files that others took over",
)
append_option = click.option("--append", is_flag=True, help="Add a section to the results file.")


@click.group()
def cli() -> None:
    """Measure files on several devices at once."""


@cli.command()
@click.option("--files", default=600, show_default=True, type=click.IntRange(8))
@click.option("--devices", multiple=True, default=(4, 16, 50), show_default=True, type=int)
@click.option("--file-s", default=0.5, show_default=True, help="Time that a file takes.")
@append_option
@out_option(RESULTS)
def simulated(files: int, devices: tuple[int, ...], file_s: float, append: bool, out: Path) -> None:
    """Measure on simulated devices of four nodes."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        subjects = list(networks(folder, files, ".tflite"))
        phone = find_profile("simulated-phone")
        expected = [each.rounds for each in SimulatedRunner(phone).measure(subjects)]
        rows: list[tuple[object, ...]] = []
        for count, kills in product(devices, (False, True)):
            with ray_nodes(folder / f"{count}-{kills}", phones(count, file_s), NODES) as nodes:
                run = measure(nodes.profile(phone), subjects, nodes.kill_last if kills else None)
            by_device = Counter(each.environment.device for each in run.measured)
            rows.append(
                (
                    count,
                    "a node" if kills else "",
                    *_times(run, files),
                    f"{file_s * files / (count * run.time_s):.0%}",
                    f"{min(by_device.values())} to {max(by_device.values())}",
                    files - len(run.measured),
                    sum(a.rounds != b for a, b in zip(run.measured, expected, strict=True)),
                )
            )
            click.echo(rows[-1], err=True)
    text = write_results(
        out,
        f"Devices that measure at once, {file_s:g} s a file",
        command(
            __file__,
            f"simulated --files {files} --file-s {file_s:g}",
            *(f"--devices {count}" for count in devices),
        ),
        f"{NODES} nodes of a Ray cluster on one machine; simulated devices.",
        table(SIMULATED, rows),
        append=append,
    )
    click.echo(text)


@cli.command()
@click.option("--files", default=96, show_default=True, type=click.IntRange(8))
@append_option
@click.option("--note", default="", help="What else ran on the machine, for the results file.")
@out_option(RESULTS)
def hosts(files: int, append: bool, note: str, out: Path) -> None:
    """Measure on hosts that ssh reaches, each from a node of its own."""
    if reason := why_not():
        raise click.ClickException(f"no hosts in namespaces: {reason}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        subjects = list(networks(folder, files, ".onnx"))
        rows = [
            hosts_row(folder / f"{count}-{kills}", subjects, count, kills)
            for count, kills in ((1, False), (4, False), (4, True))
        ]
    text = write_results(
        out,
        "Hosts in network namespaces that measure at once",
        command(__file__, f"hosts --files {files}"),
        "OpenSSH's sshd in namespaces of one machine, whose cores they share; a node of a Ray "
        "cluster for each. A host that is killed is cut off without a word while it measures.",
        table(HOSTS, rows),
        conditions=note,
        append=append,
    )
    click.echo(text)


def hosts_row(
    folder: Path, subjects: Sequence[Subject], count: int, kills: bool
) -> tuple[object, ...]:
    """Measure on real hosts; return what their ledgers say."""
    folder.mkdir()
    dead: list[LoggedHost] = []
    with logged_hosts(folder, count) as made:
        kill = (lambda: dead.append(kill_busy(made))) if kills else None
        profiles = {each.name: each.profile for each in made}
        with ray_nodes(folder / "nodes", profiles, count) as nodes:
            rack = nodes.profile(profile_of(made[0]))
            run = measure(rack, list(subjects), kill)
        served = [each.served() for each in made]
        begun = sum((each.begun() - each.served() for each in dead), Counter[str]())
    by_host = Counter(each.environment.device for each in run.measured)
    wanted, total = Counter(map(digest, subjects)), sum(served, Counter[str]())
    row = (
        count,
        dead[0].name if dead else "",
        *_times(run, len(subjects)),
        ", ".join(str(by_host[each.name]) for each in made),
        sum((wanted - total).values()) + len(subjects) - len(run.measured),
        sum((total - wanted).values()),
        sum((begun & total).values()) if kills else "",
    )
    click.echo(row, err=True)
    return row


def profile_of(host: LoggedHost) -> DeviceProfile:
    return msgspec.toml.decode(host.profile, type=DeviceProfile)


def phones(count: int, file_s: float) -> dict[str, str]:
    """Return profiles of simulated devices on which a file takes ``file_s``."""
    text = (ROOT / "devices" / "simulated-phone.toml").read_text(encoding="utf-8")
    text = text.replace("[simulation]", f"[simulation]\nfile_s = {file_s}")
    names = [f"phone-{number}" for number in range(count)]
    return {name: text.replace('"simulated-phone"', f'"{name}"') for name in names}


def networks(folder: Path, count: int, suffix: str) -> Iterator[Subject]:
    """Yield small networks of different widths."""
    for number in range(count):
        path = folder / f"{number}{suffix}"
        compile_model(nn.Conv2d(3, 4 + number % 60, 3), (3, 8 + number % 7, 16), path)
        yield Subject(f"network {number}", path)


def _times(run: Run, files: int) -> list[object]:
    return [files, f"{run.first_s:.1f}", f"{run.time_s:.1f}", f"{files / run.time_s:.1f}"]


if __name__ == "__main__":
    cli()
