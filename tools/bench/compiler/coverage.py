"""Does the compiler take published networks, and how fast?

    OMP_NUM_THREADS=1 python -m tools.bench.compiler.coverage [--peers PYTHON]
        [--tensorflow PYTHON] [--latency]

Writes ``tools/bench/compiler/results/coverage.md``. Each of `NETWORKS` (of torchvision, with random
weights and its own input size) is compiled to both formats and run on ``--images`` random images.
``--peers`` is the Python of an environment with ``onnxscript``, ``litert-torch`` and torchvision,
``--tensorflow`` that of an environment with ``onnx2tf``. Each of their conversions runs in a
process of its own, which ends after ``--timeout-s``. Both sides have converted a small network
before, so that imports are not counted. ``--latency`` then measures our file and theirs in turns,
in one process with one thread.

Files and finished rows are stored in ``--work``, so that a run that was cut off continues there;
another version of the compiler or of a peer needs another folder.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import click
import torch

from hwnas.architecture.artifact import Format
from hwnas.architecture.runtimes import COMPILED
from hwnas.export.graph.trace import trace
from hwnas.export.onnx.emitter import write_onnx
from tools.bench.compiler.files import Row, convert_network, file_facts, latency_ratio
from tools.bench.compiler.networks import NETWORKS, small_network, torchvision_network
from tools.bench.compiler.peers import PEER_IMPORTS, PEERS, conversion_s, run_peer
from tools.lib.options import PATH, out_option
from tools.lib.results import command, results_folder, table, write_results

OURS = "hwnas"
RESULTS = results_folder(__file__) / "coverage.md"
PEERS_SCRIPT = Path(__file__).with_name("peers.py")
MAX_LATENCY_RATIO = 1.02


class Case(NamedTuple):
    """The conversion of a network to a format by hwnas or a peer."""

    network: str
    format: Format
    converter: str


class Options(NamedTuple):
    """The options of the program, except those that choose cases and peers."""

    images: int
    repeats: int
    rounds: int
    timeout_s: float
    work: Path


@click.command()
@click.option(
    "--model",
    "models",
    multiple=True,
    type=click.Choice(NETWORKS),
    default=NETWORKS,
    metavar="NAME",
    help="Network of torchvision; repeat it for several. [default: all]",
)
@click.option("--images", default=2, show_default=True, type=click.IntRange(1))
@click.option("--peers", type=PATH, help="Python with onnxscript and litert-torch.")
@click.option("--tensorflow", type=PATH, help="Python with onnx2tf.")
@click.option("--timeout-s", default=300.0, show_default=True, help="Limit of a conversion.")
@click.option("--latency", is_flag=True, help="Compare latencies, too.")
@click.option(
    "--rounds",
    default=20,
    show_default=True,
    type=click.IntRange(2),  # one for each order
    help="Rounds of the latency.",
)
@click.option("--repeats", default=5, show_default=True, help="Our conversions; median counts.")
@click.option("--work", type=PATH, default=Path("build/bench_compiler"), show_default=True)
@out_option(RESULTS)
def main(
    models: tuple[str, ...],
    peers: Path | None,
    tensorflow: Path | None,
    latency: bool,
    out: Path,
    **settings: Any,
) -> None:
    """Compile published networks to both formats, beside other converters."""
    options = Options(**settings)
    torch.set_num_threads(1)
    pythons = peer_pythons(peers, tensorflow, options.timeout_s)
    cases = [
        Case(name, format, converter)
        for name in models
        for format in COMPILED
        for converter in (OURS, *(peer for peer in PEERS[format] if peer in pythons))
    ]
    options.work.mkdir(parents=True, exist_ok=True)
    write_onnx(trace(small_network(), (3, 32, 32)), options.work / "small.onnx")
    row_settings = [options.images, options.repeats, options.timeout_s]
    rows = SavedRows(options.work / "rows.jsonl", row_settings)
    rows.complete(cases, lambda case: convert(case, pythons.get(case.converter), options))
    ratios = SavedRows(options.work / "latency.jsonl", [options.rounds])
    if latency:
        pairs = [case for case in cases if is_comparable(case, rows)]
        ratios.complete(pairs, lambda case: {"ratio": measure(case, options)})
    called_as = "OMP_NUM_THREADS=1 " + command(
        __file__,
        "--peers PYTHON" if peers else "",
        "--tensorflow PYTHON" if tensorflow else "",
        f"--latency --rounds {options.rounds}" if latency else "",
    )
    parts = report_parts(cases, rows, ratios, options)
    conditions = f"torch {torch.__version__}, one thread"
    title = "The compiler and published networks"
    click.echo(write_results(out, title, called_as, *parts, conditions=conditions))


def peer_pythons(peers: Path | None, tensorflow: Path | None, timeout_s: float) -> dict[str, Path]:
    """Return the Python of each peer; raises `UsageError` if it lacks a module of the peer."""
    pythons: dict[str, Path] = {}
    for peer, modules in PEER_IMPORTS.items():
        python = tensorflow if peer == "onnx2tf" else peers
        if python is None:
            continue
        code, _, err = run_peer([str(python), "-c", f"import {modules}"], timeout_s)
        if code:
            raise click.UsageError(f"{python}: {(err.strip().splitlines() or ['failed'])[-1]}")
        pythons[peer] = python
    return pythons


def convert(case: Case, python: Path | None, options: Options) -> Row:
    module, size = torchvision_network(case.network)
    path = file_of(case, options)
    if python is None:
        return convert_network(module, size, case.format, path, options.images, options.repeats)
    sources = [case.network]
    if case.converter == "onnx2tf":
        onnx_file = file_of(Case(case.network, "onnx", "torch-onnx"), options)
        if not onnx_file.exists():
            return {"failed": "no file of torch-onnx to start from"}
        sources = [str(options.work / "small.onnx"), str(onnx_file)]
    try:
        program = [str(python), str(PEERS_SCRIPT), case.converter, *sources, str(path)]
        seconds = conversion_s(program, options.timeout_s)
        return {"seconds": seconds, **file_facts(module, size, case.format, path, options.images)}
    except subprocess.TimeoutExpired:
        return {"failed": f"over {options.timeout_s:g} s"}
    except Exception as error:
        return {"failed": str(error).splitlines()[0][:120]}


def measure(case: Case, options: Options) -> float:
    """Return our latency over that of the peer's file."""
    own, peer = file_of(case._replace(converter=OURS), options), file_of(case, options)
    return latency_ratio(own, peer, COMPILED[case.format].name, options.rounds)


def is_comparable(case: Case, rows: dict[Case, Row]) -> bool:
    """Return whether a peer and hwnas both converted the network."""
    own = case._replace(converter=OURS)
    return case != own and "failed" not in rows[case] and "failed" not in rows[own]


def file_of(case: Case, options: Options) -> Path:
    return options.work / f"{case.network}.{case.converter}.{case.format}"


class SavedRows(dict[Case, Row]):
    """Rows by case that are also appended to a file of JSON lines, with the settings."""

    def __init__(self, path: Path, settings: list[Any]) -> None:
        """Read the rows of the same settings; a case that failed, but not by time, is left out."""
        super().__init__()
        self.path, self.settings = path, settings
        for line in path.read_text().splitlines() if path.exists() else ():
            try:
                line_settings, case, row = json.loads(line)
            except ValueError:
                continue  # a line that was being written
            if line_settings == settings and row.get("failed", "over").startswith("over"):
                self[Case(*case)] = row

    def complete(self, cases: list[Case], compute: Callable[[Case], Row]) -> None:
        """Compute and store the rows of the cases that have none."""
        for number, case in enumerate(cases, 1):
            if case in self:
                continue
            row = self[case] = compute(case)
            with self.path.open("a") as file:
                file.write(json.dumps((self.settings, case, row)) + "\n")
            shown = {name: value for name, value in row.items() if name != "ops"}
            progress = f"{time.strftime('%H:%M:%S')} {number}/{len(cases)} {' '.join(case)} {shown}"
            print(progress, file=sys.stderr, flush=True)


def report_parts(
    cases: list[Case], rows: dict[Case, Row], ratios: dict[Case, Row], options: Options
) -> list[str]:
    """Return the paragraphs and the table of the results file."""
    titles = (
        "network",
        "format",
        "by",
        "error",
        "ops",
        "transposes",
        "MB",
        "s",
        "times ours",
        "our latency",
    )
    return [
        f"Networks of torchvision, random weights (seed 0), {options.images} random images each.",
        "Error: `max|file - torch| / max|torch|` in the runtime. Seconds: trace and write, median "
        f"of {options.repeats}, beside one conversion by the peer in a process of its own; both "
        "have converted a small network before. onnx2tf (TensorFlow's converter) starts from the "
        "file of torch.onnx.export(dynamo=True); its seconds exclude that export. Latency: ours "
        f"over the peer's, {options.rounds} rounds in turns, in which each file is in the middle "
        "every second time.",
        table(titles, [table_row(case, rows, ratios.get(case, {})) for case in cases]),
        "\n".join(summary(cases, rows, ratios)),
    ]


def table_row(case: Case, rows: dict[Case, Row], ratio: Row) -> list[str]:
    row, own = rows[case], rows[case._replace(converter=OURS)]
    if "failed" in row:
        return [*case, row["failed"], *[""] * 6]
    ops = row["ops"]
    return [
        *case,
        f"{row['error']:.1e}",
        str(sum(ops.values())),
        str(ops.get("TRANSPOSE", 0) + ops.get("Transpose", 0)),
        f"{row['bytes'] / 1e6:.1f}",
        f"{row['seconds']:.3f}",
        f"{row['seconds'] / own['seconds']:.0f}" if is_comparable(case, rows) else "",
        f"{ratio['ratio']:.3f}" if ratio else "",
    ]


def summary(cases: list[Case], rows: dict[Case, Row], ratios: dict[Case, Row]) -> list[str]:
    """Return a sentence about our files, and one for each peer: its speed and file beside ours."""
    own = [rows[case] for case in cases if case.converter == OURS]
    converted = [row for row in own if "failed" not in row]
    max_error = max((row["error"] for row in converted), default=0)
    sentences = [f"Ours: {len(converted)} of {len(own)} converted, largest error {max_error:.1e}."]
    for format, peers in PEERS.items():
        for peer in peers:
            peer_cases = [case for case in cases if case[1:] == (format, peer)]
            done = [case for case in peer_cases if "failed" not in rows[case]]
            if done:
                text = f"{peer}: {len(done)} of {len(peer_cases)} converted"
                sentences.append(text + _comparison(done, rows, ratios) + ".")
    return sentences


def _comparison(cases: list[Case], rows: dict[Case, Row], ratios: dict[Case, Row]) -> str:
    """Return how a peer's conversions and files compare with ours, as the end of a sentence."""
    speedups = [
        rows[case]["seconds"] / rows[case._replace(converter=OURS)]["seconds"]
        for case in cases
        if is_comparable(case, rows)
    ]
    text = ""
    if speedups:
        text += (
            f"; ours is {median(speedups):.0f} times as fast (median; {min(speedups):.0f} to "
            f"{max(speedups):.0f})"
        )
    latency = sorted(ratios[case]["ratio"] for case in cases if case in ratios)
    if latency:
        slower = sum(ratio > MAX_LATENCY_RATIO for ratio in latency)
        text += (
            f"; latency {median(latency):.3f} of its file's (median; {latency[0]:.3f} to "
            f"{latency[-1]:.3f}; over {MAX_LATENCY_RATIO} in {slower} of {len(latency)})"
        )
    return text


if __name__ == "__main__":
    main()
