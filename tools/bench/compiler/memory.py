"""How much memory does compiling a large network take, beyond the network itself?

    python -m tools.bench.compiler.memory [--network NAME ...]

Networks of torchvision with random weights. Each is compiled in a process of its own, which has
compiled a small network before, so that libraries are loaded. The peak of the resident memory
(Linux) is read after the file is written, and after it was opened in its runtime, too; the
runtime's own copies of the weights are in the latter. Writes
``tools/bench/compiler/results/memory.md``.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple, get_args

import click
import msgspec
import torch

from hwnas.architecture.artifact import Format, Precision
from hwnas.export.compile import compile_model
from hwnas.export.graph.trace import trace
from hwnas.export.recipe import find_recipe
from hwnas.export.write import write_graph
from hwnas.processes import own_peak_bytes
from tools.bench.compiler.networks import small_network, torchvision_network
from tools.lib.options import out_option
from tools.lib.results import command, results_folder, table, write_results

RESULTS = results_folder(__file__) / "memory.md"
NETWORKS = ("convnext_base", "vgg16")
PRECISIONS: tuple[Precision, ...] = ("fp32", "int8-weights")
RESET_PEAK = "5"
"""What Linux takes in ``/proc/self/clear_refs`` to forget the peak of the resident memory."""


class Row(NamedTuple):
    network: str
    format: Format
    precision: Precision
    weight_bytes: int
    written_bytes: int
    """Peak beyond the network, from tracing to the written file."""
    opened_bytes: int
    """Until the file was opened in its runtime."""


@click.command()
@click.option("--network", "networks", multiple=True, default=NETWORKS, show_default=True)
@click.option("--single", nargs=3, hidden=True)
@out_option(RESULTS)
def main(networks: tuple[str, ...], single: tuple[str, ...], out: Path) -> None:
    """Measure the peak memory of compiling large networks."""
    if single:
        click.echo(msgspec.json.encode(measure(*single)))  # type: ignore[arg-type]
        return
    rows: list[Row] = []
    for name in networks:
        for format in get_args(Format):
            for precision in PRECISIONS:
                module = ("-m", "tools.bench.compiler.memory", "--single")
                arguments = (sys.executable, *module, name, format, precision)
                finished = subprocess.run(arguments, capture_output=True, check=True)
                rows.append(msgspec.json.decode(finished.stdout.splitlines()[-1], type=Row))
                click.echo(str(rows[-1]))
    click.echo(write_report(rows, networks, out))


def measure(name: str, format: Format, precision: Precision) -> Row:
    """Compile a network in this process and return its peaks."""
    torch.set_num_threads(1)
    recipe, shape = find_recipe(format, precision), (3, 224, 224)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"net.{format}"
        compile_model(small_network(), (3, 32, 32), path, recipe=recipe)
        module, _ = torchvision_network(name)
        weight_bytes = sum(each.numel() * each.element_size() for each in module.parameters())
        before = _resident_bytes()
        Path("/proc/self/clear_refs").write_text(RESET_PEAK)
        graph = trace(module, shape, shares_weights=True)
        write_graph(graph, recipe, path, {})
        written = own_peak_bytes()
        del graph
        compile_model(module, shape, path, recipe=recipe)
    opened = own_peak_bytes()
    return Row(name, format, precision, weight_bytes, written - before, opened - before)


def _resident_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    [kilobytes] = [line.split()[1] for line in lines if line.startswith("VmRSS:")]
    return 1024 * int(kilobytes)


def write_report(rows: list[Row], networks: tuple[str, ...], out: Path) -> str:
    """Write the results file and return its text."""
    titles = (
        *("network", "format", "precision", "weights, MB", "peak until written, MB"),
        *("of the weights", "until opened, MB", "of the weights"),
    )
    cells = [
        (
            row.network,
            row.format,
            row.precision,
            f"{row.weight_bytes / 1e6:.0f}",
            f"{row.written_bytes / 1e6:.0f}",
            f"{row.written_bytes / row.weight_bytes:.2f}",
            f"{row.opened_bytes / 1e6:.0f}",
            f"{row.opened_bytes / row.weight_bytes:.2f}",
        )
        for row in rows
    ]
    return write_results(
        out,
        "Memory of the compiler",
        command(__file__, *(f"--network {name}" for name in networks)),
        "Random weights. Peaks are beyond the memory of the process that holds the network.",
        table(titles, cells),
    )


if __name__ == "__main__":
    main()
