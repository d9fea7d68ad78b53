"""The measuring worker, which also notes what its time went into (run by `processes`).

    python -P tools/bench/measuring/phases.py < REQUEST

Appends a line of JSON, seconds by phase, to the file that ``PHASES_FILE`` names.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[3]))

from hwnas.devices.worker import main as worker


def noted(spent_s: dict[str, float], phase: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that adds the time of its calls to a phase."""

    def timed(*arguments: Any, **named: Any) -> Any:
        start_s = time.perf_counter()
        try:
            return call(*arguments, **named)
        finally:
            spent_s[phase] += time.perf_counter() - start_s

    return timed


PHASES = {
    "TimedModel": "opening models",
    "choose_references": "opening models",
    "warm_up": "warm-up",
    "take_rounds": "rounds",
    "measure": "all",
}
"""Phase of each function of the worker; `measure` is all but the start of Python."""


def main() -> int:
    spent_s = dict.fromkeys(PHASES.values(), 0.0)
    for name, phase in PHASES.items():
        setattr(worker, name, noted(spent_s, phase, getattr(worker, name)))
    status = worker.main()
    with open(os.environ["PHASES_FILE"], "a", encoding="utf-8") as file:
        file.write(json.dumps(spent_s) + "\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
