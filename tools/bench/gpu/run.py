"""Does a GPU compute what the CPU does, and how fast does it train and search?

    python -m tools.bench.gpu.run [--device cuda:0] [--only agreement]
    python -m tools.bench.gpu.run --device cpu --small

Takes at most eight minutes. Each part is a process of its own with a time limit, so that one that
hangs or fails costs its own figures only. Writes ``results/gpu.md`` and ``results/gpu.json`` beside
itself; a small run writes nothing, because its sizes are tiny: it checks this program.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec

from hwnas.errors import last_line
from hwnas.files import write_json
from tools.bench.gpu import agreement, throughput, whole
from tools.bench.gpu.scale import Rows, Scale
from tools.lib.results import command, results_folder, table_of, write_results

LIMIT_S = 480.0
"""Limit of all parts together."""
SMALL_LIMIT_S = 120.0
"""Limit of a part at tiny sizes; most of it is for the start of a process on a busy machine."""


class Part(NamedTuple):
    title: str
    limit_s: float
    run: Callable[[Scale], Rows]


PARTS = {
    "machine": Part("Versions, card and memory", 20, whole.machine),
    "agreement": Part("CPU and device", 60, agreement.agreement),
    "training": Part("MobileNetV2, training", 75, throughput.training),
    "search": Part("Supernet of the default space", 75, throughput.search),
    "thumbnails": Part("28 px on the device tier", 30, throughput.thumbnails),
    "memory": Part("Memory of an image", 30, throughput.memory),
    "processes": Part("Several trainings at once, 28 px", 60, whole.processes),
    "determinism": Part("The same weights twice", 40, agreement.determinism),
    "norms": Part("SyncBatchNorm and torch.compile", 90, throughput.norms_and_compile),
    "program": Part("MobileNetV2 in the torch runner", 40, whole.program),
    "specialize": Part("hwnas specialize on CIFAR-10", 180, whole.specialize),
}


class Outcome(msgspec.Struct, frozen=True):
    """The figures of a part, or its error."""

    title: str
    seconds: float
    rows: list[dict[str, Any]] = []
    failure: str = ""


@click.command()
@click.option("--device", default="cuda:0", show_default=True)
@click.option("--small", is_flag=True, help="Tiny sizes: check this program, write no results.")
@click.option("--only", type=click.Choice(list(PARTS)), help="Run one part.")
@click.option("--here", is_flag=True, hidden=True, help="Print the rows of a part as JSON.")
def main(device: str, small: bool, only: str | None, here: bool) -> None:
    """Evaluate a GPU in at most eight minutes."""
    scale = Scale(device, small)
    if only and here:
        click.echo(msgspec.json.encode(PARTS[only].run(scale)).decode())
        return
    end_s = time.monotonic() + LIMIT_S
    outcomes: dict[str, Outcome] = {}
    for name in [only] if only else PARTS:
        outcomes[name] = run_part(name, scale, end_s - time.monotonic())
        click.echo(_text(outcomes[name]) + "\n")
    if not small:
        _write(outcomes, device)
    if any(outcome.failure for outcome in outcomes.values()):
        sys.exit(1)


def run_part(name: str, scale: Scale, left_s: float) -> Outcome:
    """Run a part in its own process, within the time limits of the part and of the whole
    program."""
    part, start = PARTS[name], time.monotonic()
    arguments = ["--device", scale.device, "--only", name, "--here", *["--small"] * scale.small]
    limit_s = SMALL_LIMIT_S if scale.small else min(part.limit_s, left_s)
    if limit_s <= 0:
        return Outcome(part.title, 0.0, failure=f"no time left of {LIMIT_S:.0f} s")
    try:
        process = subprocess.run(
            [sys.executable, "-m", "tools.bench.gpu.run", *arguments],
            capture_output=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Outcome(part.title, limit_s, failure=f"not done in {limit_s:.0f} s")
    seconds = time.monotonic() - start
    if process.returncode != 0:
        return Outcome(part.title, seconds, failure=last_line(process.stderr))
    rows = msgspec.json.decode(process.stdout.splitlines()[-1], type=list[dict[str, Any]])
    return Outcome(part.title, seconds, rows)


def _text(outcome: Outcome) -> str:
    head = f"## {outcome.title} ({outcome.seconds:.0f} s)"
    if outcome.failure:
        return f"{head}\n\nFailed: {outcome.failure}"
    rows = [{name: _cell(value) for name, value in row.items()} for row in outcome.rows]
    return f"{head}\n\n{table_of(rows)}"


def _cell(value: Any) -> Any:
    return f"{value:.4g}" if isinstance(value, float) else "-" if value is None else value


def _write(outcomes: dict[str, Outcome], device: str) -> None:
    folder: Path = results_folder(__file__)
    write_results(
        folder / "gpu.md",
        "Training and search on a GPU",
        command(__file__, f"--device {device}"),
        *map(_text, outcomes.values()),
    )
    write_json(folder / "gpu.json", outcomes)


if __name__ == "__main__":
    main()
