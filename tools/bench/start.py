"""How long the commands that should feel instant take, as whole processes.

    python -m tools.bench.start

Prints a table and writes results/start.md.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from statistics import median

RUNS = 9
GOALS_S = {("--help",): 0.4, ("devices", "list"): 0.6, ("report", "--help"): 0.4}
RESULT = Path(__file__).parent / "results" / "start.md"


def main() -> None:
    rows = ["| command | median s | least s | goal s |", "| --- | --- | --- | --- |"]
    for words, goal_s in GOALS_S.items():
        times = sorted(_seconds(words) for _ in range(RUNS + 1))[:RUNS]
        rows.append(
            f"| `hwnas {' '.join(words)}` | {median(times):.2f} | {times[0]:.2f} | {goal_s} |"
        )
    text = "\n".join(rows)
    print(text)
    command = "`python -m tools.bench.start`"
    RESULT.write_text(f"# Start of commands\n\n{command}, {RUNS} runs on a warm disk.\n\n{text}\n")


def _seconds(words: tuple[str, ...]) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "hwnas", *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
