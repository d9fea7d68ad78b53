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

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch

from hwnas.architecture.artifact import Format
from hwnas.architecture.runtimes import COMPILED
from hwnas.export.graph.trace import trace
from hwnas.export.onnx.emitter import write_onnx
from tools.bench.compiler.files import Row, convert_network, file_facts, latency_ratio
from tools.bench.compiler.networks import NETWORKS, small_network, torchvision_network
from tools.bench.compiler.peers import PEER_IMPORTS, PEERS, conversion_s, run_peer
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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=NETWORKS)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--peers", type=Path, help="Python with onnxscript and litert-torch.")
    parser.add_argument("--tensorflow", type=Path, help="Python with onnx2tf.")
    parser.add_argument("--timeout-s", type=float, default=300.0, help="Limit of a conversion.")
    parser.add_argument("--latency", action="store_true", help="Compare latencies too.")
    parser.add_argument("--rounds", type=int, default=20, help="Rounds of the latency.")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--repeats", type=int, default=5, help="Our conversions; median counts.")
    parser.add_argument("--work", type=Path, default=Path("build/bench_compiler"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.rounds < 2:
        parser.error(f"--rounds {options.rounds}: expected at least 2, one for each order")
    pythons = peer_pythons(parser, options)
    cases = [
        Case(name, format, converter)
        for name in options.models
        for format in COMPILED
        for converter in (OURS, *(peer for peer in PEERS[format] if peer in pythons))
    ]
    options.work.mkdir(parents=True, exist_ok=True)
    write_onnx(trace(small_network(), (3, 32, 32)), options.work / "small.onnx")
    settings = [options.images, options.repeats, options.timeout_s]
    rows = SavedRows(options.work / "rows.jsonl", settings)
    rows.complete(cases, lambda case: convert(case, pythons.get(case.converter), options))
    ratios = SavedRows(options.work / "latency.jsonl", [options.rounds])
    if options.latency:
        pairs = [case for case in cases if is_comparable(case, rows)]
        ratios.complete(pairs, lambda case: {"ratio": measure(case, options)})
    print(write_report(cases, rows, ratios, options))


def peer_pythons(parser: argparse.ArgumentParser, options: argparse.Namespace) -> dict[str, Path]:
    """Return the Python of each peer that was given; stops if it lacks a module of the peer."""
    pythons: dict[str, Path] = {}
    for peer, modules in PEER_IMPORTS.items():
        python = options.tensorflow if peer == "onnx2tf" else options.peers
        if python is None:
            continue
        code, _, err = run_peer([str(python), "-c", f"import {modules}"], options.timeout_s)
        if code:
            parser.error(f"{python}: {(err.strip().splitlines() or ['failed'])[-1]}")
        pythons[peer] = python
    return pythons


def convert(case: Case, python: Path | None, options: argparse.Namespace) -> Row:
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


def measure(case: Case, options: argparse.Namespace) -> float:
    """Return our latency over that of the peer's file."""
    own, peer = file_of(case._replace(converter=OURS), options), file_of(case, options)
    return latency_ratio(own, peer, COMPILED[case.format].name, options.rounds)


def is_comparable(case: Case, rows: dict[Case, Row]) -> bool:
    """Return whether a peer and hwnas both converted the network."""
    own = case._replace(converter=OURS)
    return case != own and "failed" not in rows[case] and "failed" not in rows[own]


def file_of(case: Case, options: argparse.Namespace) -> Path:
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


def write_report(
    cases: list[Case], rows: dict[Case, Row], ratios: dict[Case, Row], options: argparse.Namespace
) -> str:
    """Write the results file and return its text."""
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
    return write_results(
        options.out,
        "The compiler and published networks",
        "OMP_NUM_THREADS=1 "
        + command(
            __file__,
            "--peers PYTHON" if options.peers else "",
            "--tensorflow PYTHON" if options.tensorflow else "",
            f"--latency --rounds {options.rounds}" if options.latency else "",
        ),
        f"Networks of torchvision, random weights (seed 0), {options.images} random images each.",
        "Error: `max|file - torch| / max|torch|` in the runtime. Seconds: trace and write, median "
        f"of {options.repeats}, beside one conversion by the peer in a process of its own; both "
        "have converted a small network before. onnx2tf (TensorFlow's converter) starts from the "
        "file of torch.onnx.export(dynamo=True); its seconds exclude that export. Latency: ours "
        f"over the peer's, {options.rounds} rounds in turns, in which each file is in the middle "
        "every second time.",
        table(titles, [table_row(case, rows, ratios.get(case, {})) for case in cases]),
        "\n".join(summary(cases, rows, ratios)),
        conditions=f"torch {torch.__version__}, one thread",
    )


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
