"""Do random networks compute the same in both runtimes as in PyTorch?

    OMP_NUM_THREADS=1 python -m tools.bench.compiler.fuzz [--networks 20000] [--seed 0]

Each network of ``tests/support/networks/random_networks.py`` is compiled to both formats and run on
two images. A line for each is appended to ``--work``/networks.jsonl, so that a run that was cut off
goes on there; with ``--again`` the networks that failed are tried again. A network that ended the
process has failed, too. Writes ``tools/bench/compiler/results/fuzz.md``; the exit code is 1 if a
network failed.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import NamedTuple

import click
import msgspec
import torch

from hwnas.architecture.runtimes import COMPILED
from hwnas.errors import first_line
from tests.support.networks.random_networks import MAX_ERROR, file_error, random_network
from tools.lib.options import PATH, out_option
from tools.lib.results import command, results_folder, table, write_results

RESULTS = results_folder(__file__) / "fuzz.md"


class Outcome(NamedTuple):
    """What became of a network."""

    seed: int
    error: float
    """Of the file that differs more."""
    failure: str
    """Format and message; empty if both files are right."""


@click.command()
@click.option("--networks", default=20_000, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=0, show_default=True, help="Seed of the first network.")
@click.option("--again", is_flag=True, help="Try networks again that failed.")
@click.option("--work", type=PATH, default=Path("build/fuzz"), show_default=True)
@out_option(RESULTS)
def main(networks: int, seed: int, again: bool, work: Path, out: Path) -> None:
    """Compile random networks to both formats and compare them with PyTorch."""
    torch.set_num_threads(1)
    work.mkdir(parents=True, exist_ok=True)
    lines, running = work / "networks.jsonl", work / "running"
    outcomes = {line.seed: line for line in read(lines)}
    if running.exists() and int(running.read_text()) not in outcomes:
        record(lines, outcomes, Outcome(int(running.read_text()), 0.0, "it ended the process"))
    for number in range(seed, seed + networks):
        if number in outcomes and not (again and outcomes[number].failure):
            continue
        running.write_text(str(number))
        outcome = tried(number)
        record(lines, outcomes, outcome)
        if outcome.failure:
            print(f"network {number}: {outcome.failure}", file=sys.stderr, flush=True)
    running.unlink(missing_ok=True)
    called_as = command(__file__, f"--networks {networks} --seed {seed}")
    title, conditions = "Random networks", f"torch {torch.__version__}"
    parts = report_parts(sorted(outcomes.values()))
    click.echo(write_results(out, title, called_as, *parts, conditions=conditions))
    sys.exit(any(outcome.failure for outcome in outcomes.values()))


def tried(seed: int) -> Outcome:
    """Compile a network to both formats and compare its files with PyTorch."""
    errors, format = [0.0], "PyTorch"
    with tempfile.TemporaryDirectory() as folder:
        try:
            module = random_network(seed)
            for format in COMPILED:
                errors.append(file_error(module, seed, format, Path(folder)))
                if not errors[-1] < MAX_ERROR:
                    return Outcome(seed, errors[-1], f"{format}: differs by {errors[-1]:.2g}")
        except Exception as error:  # whatever it is, it is a finding
            return Outcome(seed, 0.0, f"{format}: {type(error).__name__}: {first_line(error)}")
    return Outcome(seed, max(errors), "")


def read(lines: Path) -> list[Outcome]:
    """Return the networks that were tried, without a line that was being written."""
    text = lines.read_bytes().rpartition(b"\n")[0] if lines.exists() else b""
    return [msgspec.json.decode(line, type=Outcome) for line in text.splitlines()]


def record(lines: Path, outcomes: dict[int, Outcome], outcome: Outcome) -> None:
    with lines.open("ab") as file:
        file.write(msgspec.json.encode(outcome) + b"\n")
    outcomes[outcome.seed] = outcome


def report_parts(outcomes: list[Outcome]) -> list[str]:
    """Return the paragraphs and the table of the results file."""
    failed = [outcome for outcome in outcomes if outcome.failure]
    errors = [outcome.error for outcome in outcomes if not outcome.failure]
    count = f"{len(outcomes):,} networks of six random steps in both formats: {len(failed)} failed"
    spread = f"; largest error of the others {max(errors):.1e}, median {median(errors):.1e}"
    rows = [[str(outcome.seed), outcome.failure] for outcome in failed]
    return [
        f"{count}{spread if errors else ''}. A file fails if it differs by {MAX_ERROR:g} of the "
        "largest value, or if the network is refused.",
        table(("seed", "failure"), rows) if rows else "",
    ]


if __name__ == "__main__":
    main()
