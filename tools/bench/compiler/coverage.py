"""Does the compiler take published networks, and how fast? Writes results/compiler_coverage.md.

    OMP_NUM_THREADS=1 python -m tools.bench.compiler.coverage [--peers PYTHON]
        [--tensorflow PYTHON] [--latency]

Every network of torchvision's that is named here (random weights, its own input size) goes through
the compiler to both formats and through the runtime on ``--images`` random images. ``--peers`` is
the Python of an environment with ``onnxscript``, ``litert-torch`` and torchvision, ``--tensorflow``
that of one with ``onnx2tf``; each of their conversions runs in a process of its own, which ends
after ``--timeout-s``. Both sides have converted a small network before, so that no import is
counted. ``--latency`` then measures our file and theirs in turns, in one process, one thread.

Files and finished rows are kept in ``--work``, where a run that was cut off goes on; another
compiler or peer needs another folder.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import torch

from hwnas.architecture.artifact import Format
from hwnas.architecture.runtimes import COMPILED
from hwnas.devices.fingerprint import hardware
from hwnas.export.graph.trace import trace
from hwnas.export.onnx.emitter import write_onnx
from hwnas.files import write_atomic
from tools.bench.compiler.files import Row, facts, latency_ratio, ours
from tools.bench.compiler.networks import MODELS, network, small
from tools.bench.compiler.peers import NEEDED, PEERS, converted, ended

OURS = "hwnas"
RESULTS = Path(__file__).parent / "results"
SCRIPT = Path(__file__).with_name("peers.py")


class Case(NamedTuple):
    """One conversion: a network to a format by hwnas or a peer."""

    name: str
    format: Format
    by: str


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--peers", type=Path, help="Python with onnxscript and litert-torch.")
    parser.add_argument("--tensorflow", type=Path, help="Python with onnx2tf.")
    parser.add_argument("--timeout-s", type=float, default=300.0, help="Of one peer's conversion.")
    parser.add_argument("--latency", action="store_true")
    parser.add_argument("--rounds", type=int, default=20, help="Of the latency.")
    parser.add_argument("--out", type=Path, default=RESULTS / "coverage.md")
    parser.add_argument("--repeats", type=int, default=5, help="Of our conversion; the median.")
    parser.add_argument("--work", type=Path, default=Path("build/bench_compiler"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.rounds < 2:
        parser.error(f"--rounds {options.rounds}: expected 2 at least, one for each order")
    peers = pythons(parser, options)
    cases = [
        Case(name, format, by)
        for name in options.models
        for format in COMPILED
        for by in (OURS, *(one for one in PEERS[format] if one in peers))
    ]
    options.work.mkdir(parents=True, exist_ok=True)
    write_onnx(trace(small(), (3, 32, 32)), options.work / "small.onnx")
    rows: dict[Case, Row] = read_rows(options.work / "rows.jsonl", converting(options))
    for number, case in enumerate(cases, 1):
        if case not in rows:
            rows[case] = row_of(case, peers.get(case.by), options)
            keep(options.work / "rows.jsonl", converting(options), case, rows[case])
            said(number, len(cases), case, rows[case])
    ratios: dict[Case, Row] = read_rows(options.work / "latency.jsonl", [options.rounds])
    if options.latency:
        others = [case for case in cases if case.by != OURS and "failed" not in rows[case]]
        for number, case in enumerate(others, 1):
            if case not in ratios:
                own, theirs = (file_of(case._replace(by=by), options) for by in (OURS, case.by))
                ratio = latency_ratio(own, theirs, COMPILED[case.format].name, options.rounds)
                ratios[case] = {"ratio": ratio}
                keep(options.work / "latency.jsonl", [options.rounds], case, ratios[case])
                said(number, len(others), case, ratios[case])
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(options.out, report(cases, rows, ratios, options).encode())
    print(options.out.read_text())


def pythons(parser: argparse.ArgumentParser, options: argparse.Namespace) -> dict[str, Path]:
    """Return the Python of each peer that was given, once it has what it needs."""
    found: dict[str, Path] = {}
    for peer, needed in NEEDED.items():
        python = options.tensorflow if peer == "onnx2tf" else options.peers
        if python is None:
            continue
        code, _, err = ended([str(python), "-c", f"import {needed}"], options.timeout_s)
        if code:
            parser.error(f"{python}: {(err.strip().splitlines() or ['failed'])[-1]}")
        found[peer] = python
    return found


def row_of(case: Case, python: Path | None, options: argparse.Namespace) -> Row:
    module, size = network(case.name)
    path = file_of(case, options)
    if python is None:
        return ours(module, size, case.format, path, options.images, options.repeats)
    given = [case.name]
    if case.by == "onnx2tf":
        source = file_of(Case(case.name, "onnx", "torch-onnx"), options)
        if not source.exists():
            return {"failed": "there is no file of torch-onnx to begin with"}
        given = [str(options.work / "small.onnx"), str(source)]
    try:
        command = [str(python), str(SCRIPT), case.by, *given, str(path)]
        seconds = converted(command, options.timeout_s)
        return {"seconds": seconds, **facts(module, size, case.format, path, options.images)}
    except subprocess.TimeoutExpired:
        return {"failed": f"over {options.timeout_s:g} s"}
    except Exception as error:
        return {"failed": str(error).splitlines()[0][:120]}


def file_of(case: Case, options: argparse.Namespace) -> Path:
    return options.work / f"{case.name}.{case.by}.{case.format}"


def converting(options: argparse.Namespace) -> list[Any]:
    """Return what the figures of a conversion depend on."""
    return [options.images, options.repeats, options.timeout_s]


def read_rows(path: Path, settings: list[Any]) -> dict[Case, Row]:
    """Return the rows of the same settings; a peer that failed is tried again, a slow one not."""
    found: dict[Case, Row] = {}
    for text in path.read_text().splitlines() if path.exists() else ():
        try:
            asked, case, row = json.loads(text)
        except ValueError:
            continue  # the line that was being written
        if asked == settings and row.get("failed", "over").startswith("over"):
            found[Case(*case)] = row
    return found


def keep(path: Path, settings: list[Any], case: Case, row: Row) -> None:
    with path.open("a") as file:
        file.write(json.dumps((settings, case, row)) + "\n")


def said(number: int, count: int, case: Case, row: Row) -> None:
    shown = {name: value for name, value in row.items() if name != "ops"}
    print(f"{time.strftime('%H:%M:%S')} {number}/{count} {' '.join(case)} {shown}",
          file=sys.stderr, flush=True)  # fmt: skip


def report(
    cases: list[Case], rows: dict[Case, Row], ratios: dict[Case, Row], options: argparse.Namespace
) -> str:
    lines = [
        "# The compiler and published networks\n",
        f"torchvision's networks, random weights (seed 0), {options.images} random images each, "
        f"one thread; torch {torch.__version__}, {hardware()}, Python "
        f"{platform.python_version()}, {time.strftime('%Y-%m-%d')}.\n",
        "Error: `max|file - torch| / max|torch|` in the runtime. Seconds: trace and write, median "
        f"of {options.repeats}, beside one conversion by the peer in a process of its own; both "
        "have converted a small network before. onnx2tf (TensorFlow's converter) begins with the "
        "file of torch.onnx.export(dynamo=True); its seconds are without that. Latency: ours over "
        f"the peer's, {options.rounds} rounds in turns, either one in the middle.\n",
        "Command: `OMP_NUM_THREADS=1 python -m tools.bench.compiler.coverage --peers PYTHON "
        f"--tensorflow PYTHON --latency --rounds {options.rounds}`\n",
        "| network | format | by | error | ops | transposes | MB | s | times ours | our latency |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [line(case, rows, ratios.get(case, {})) for case in cases]
    return "\n".join([*lines, "", *summary(cases, rows, ratios)]) + "\n"


def line(case: Case, rows: dict[Case, Row], ratio: Row) -> str:
    row, own = rows[case], rows[case._replace(by=OURS)]
    if "failed" in row:
        return f"| {' | '.join(case)} | {row['failed']} |" + " |" * 6
    ops = row["ops"]
    cells = [
        *case, f"{row['error']:.1e}", str(sum(ops.values())),
        str(ops.get("TRANSPOSE", 0) + ops.get("Transpose", 0)), f"{row['bytes'] / 1e6:.1f}",
        f"{row['seconds']:.3f}",
        "" if case.by == OURS or "failed" in own else f"{row['seconds'] / own['seconds']:.0f}",
        f"{ratio['ratio']:.3f}" if ratio else "",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def summary(cases: list[Case], rows: dict[Case, Row], ratios: dict[Case, Row]) -> list[str]:
    """Say for each peer how much faster we convert, and how fast our files are beside its."""
    found: list[str] = []
    own: list[Any] = [rows[one] for one in cases if one.by == OURS]
    wrong = [row for row in own if "failed" in row]
    found.append(
        f"Ours: {len(own) - len(wrong)} of {len(own)} converted, largest error "
        f"{max((row['error'] for row in own if 'error' in row), default=0):.1e}."
    )
    for format, peers in PEERS.items():
        for peer in peers:
            mine = [one for one in cases if (one.format, one.by) == (format, peer)]
            done = [one for one in mine if "failed" not in rows[one]]
            if not done:
                continue
            faster = [rows[one]["seconds"] / rows[one._replace(by=OURS)]["seconds"] for one in done]
            text = (
                f"{peer}: {len(done)} of {len(mine)} converted; ours is {median(faster):.0f} times "
                f"as fast (median; {min(faster):.0f} to {max(faster):.0f})"
            )
            timed = sorted(ratios[one]["ratio"] for one in done if one in ratios)
            if timed:
                over = sum(one > 1.02 for one in timed)
                text += (
                    f"; latency {median(timed):.3f} of its file's (median; {timed[0]:.3f} to "
                    f"{timed[-1]:.3f}; over 1.02 in {over} of {len(timed)})"
                )
            found.append(text + ".")
    return found


if __name__ == "__main__":
    main()
