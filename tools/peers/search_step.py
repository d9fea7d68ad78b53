"""How much time and memory does a step of a ProxylessNAS search take beside NNI's?

    python -m tools.peers.search_step --nni PYTHON [--rounds 3] [--steps 10] [--batch 64]

``PYTHON`` has NNI and hwnas: ``pip install nni pytorch-lightning torchmetrics`` beside hwnas's own
requirements, in an environment of its own. The libraries take turns, each time in a fresh process
(`proxyless_step`). Writes results/search_step.md.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from statistics import median

import click
import msgspec

from tools.lib.options import PATH
from tools.lib.results import ROOT, command, results_folder, table, write_results

RESULTS = results_folder(__file__) / "search_step.md"
LIBRARIES = ("hwnas", "nni")
WARM_UP = 2
"""Steps of a process that are not counted."""


class Steps(msgspec.Struct, frozen=True):
    """Output of `proxyless_step`."""

    steps_ms: tuple[float, ...]
    mb: float
    version: str

    @property
    def step_ms(self) -> float:
        return median(self.steps_ms[WARM_UP:])


@click.command()
@click.option("--nni", "python", type=PATH, required=True, help="Python with NNI and hwnas.")
@click.option("--rounds", default=3, show_default=True, type=click.IntRange(1))
@click.option("--steps", default=10, show_default=True, type=click.IntRange(WARM_UP + 1))
@click.option("--batch", default=64, show_default=True, type=click.IntRange(2))
def main(python: Path, rounds: int, steps: int, batch: int) -> None:
    """Time search steps of both libraries in turns."""
    runs: dict[str, list[Steps]] = {library: [] for library in LIBRARIES}
    for _ in range(rounds):
        for library in LIBRARIES:
            runs[library].append(_run(python, library, steps, batch))
            click.echo(f"{library}: {runs[library][-1].step_ms:.0f} ms")
    called_as = command(__file__, f"--nni PYTHON --rounds {rounds} --steps {steps} --batch {batch}")
    text, rows = report(runs, batch)
    title = "A search step of ProxylessNAS beside NNI"
    click.echo(write_results(RESULTS, title, called_as, text, rows))


def _run(python: Path, library: str, steps: int, batch: int) -> Steps:
    words = [str(python), str(Path(__file__).with_name("proxyless_step.py")), library]
    words += ["--steps", str(steps), "--batch", str(batch)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    output = subprocess.run(words, env=environment, check=True, capture_output=True, text=True)
    return msgspec.json.decode(output.stdout.strip().splitlines()[-1], type=Steps)


def report(runs: dict[str, list[Steps]], batch: int) -> tuple[str, str]:
    """Return paragraph and table of the results file."""
    own, peer = (runs[library] for library in LIBRARIES)
    times = [a.step_ms / b.step_ms for a, b in zip(own, peer, strict=True)]
    memory = [a.mb / b.mb for a, b in zip(own, peer, strict=True)]
    text = (
        f"One weight step and one architecture step on {batch} images of 28 px, supernet of the "
        "`mobile` space whose candidates own their weights (10 decisions, the same modules for "
        "both; hwnas places them in channels-last memory, as it always does), one thread. Median "
        "processor time of the steps of a process, and the growth of its peak memory over the "
        "steps; then the median over the processes with their range. "
        f"Ratio of hwnas to NNI {peer[0].version} in turn: time {_range(times)}, memory "
        f"{_range(memory)}."
    )
    rows = [
        [
            "NNI, nni.nas.strategy.Proxyless" if library == "nni" else "hwnas, proxyless",
            len(taken),
            _range([run.step_ms for run in taken], 0),
            _range([run.mb for run in taken], 0),
        ]
        for library, taken in runs.items()
    ]
    return text, table(["library", "processes", "step, ms", "memory, MB"], rows)


def _range(values: list[float], digits: int = 2) -> str:
    low, high = min(values), max(values)
    return f"{median(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


if __name__ == "__main__":
    main()
