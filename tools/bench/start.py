"""How long do commands that should feel instant take, as whole processes?

    python -m tools.bench.start

Prints a table and writes ``tools/bench/results/start.md``.
"""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median

import click

from tools.lib.results import command, results_folder, table, write_results

RUNS = 9
GOALS_S = {("--help",): 0.4, ("devices", "list"): 0.6, ("report", "--help"): 0.4}
RESULTS = results_folder(__file__) / "start.md"


@click.command()
def main() -> None:
    """Time the start of commands as whole processes."""
    rows: list[tuple[str, ...]] = []
    for arguments, goal_s in GOALS_S.items():
        times_s = sorted(_wall_s(arguments) for _ in range(RUNS + 1))[:RUNS]
        name = f"`hwnas {' '.join(arguments)}`"
        rows.append((name, f"{median(times_s):.2f}", f"{times_s[0]:.2f}", str(goal_s)))
    text = write_results(
        RESULTS,
        "Start of commands",
        command(__file__),
        f"{RUNS} runs with the files in the disk cache.",
        table(("command", "median s", "minimum s", "goal s"), rows),
    )
    click.echo(text)


def _wall_s(arguments: tuple[str, ...]) -> float:
    start = time.perf_counter()
    program = [sys.executable, "-m", "hwnas", *arguments]
    subprocess.run(program, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
