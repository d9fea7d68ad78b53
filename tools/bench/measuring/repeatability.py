"""Does a difference of 5 % between two models keep its sign and its size when measured again?

    python -m tools.bench.measuring.repeatability [--comparisons 10] [--pairs 200] [--quiet]

Builds a network and, of slightly larger ones, the one that takes 5 % longer (found by a long
interleaved run). Then makes independent comparisons, each in fresh processes, while another process
computes and sleeps on every other core (``--quiet``: not), and reports the coefficient of variation
(CV) over the comparisons and how often the sign was right, of

* one after the other: the median of ``pairs`` calls of each model, each in an own process;
* one after the other, minima instead of medians;
* interleaved, ratio of medians: both in one process, call by call in changing order;
* interleaved, median of paired ratios: the same calls;
* `hwnas benchmark`: rounds in five processes, both models beside the reference.

Appends a table to ``results/repeatability.md``. Ten comparisons take about four minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hwnas.devices.fingerprint import hardware
from hwnas.devices.profile import find_profile
from hwnas.devices.runner import Subject, open_runner
from hwnas.devices.worker.rounds import timed_ms
from hwnas.devices.worker.runtimes.open import open_model
from hwnas.measurement.measurement import compare

RESULTS = Path(__file__).parent / "results" / "repeatability.md"
WANTED = 1.05
WIDTHS = range(33, 49)
"""Widths that the slower network is looked for among; the faster one's is 32."""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--comparisons", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--quiet", action="store_true", help="leave the other cores alone")
    parser.add_argument("--child", help="be a worker (the program calls itself)")
    asked = parser.parse_args(arguments)
    if asked.child:
        print(json.dumps(child(json.loads(asked.child))))
        return
    with TemporaryDirectory() as folder:
        fast, slow, ratio = two_networks(Path(folder))
        with nullcontext() if asked.quiet else stress():
            found = collect(fast, slow, asked)
    text = table(found, ratio, asked)
    print(text)
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "a", encoding="utf-8") as file:
        file.write(text + "\n")


def two_networks(folder: Path) -> tuple[Path, Path, float]:
    """Return a network, one that takes `WANTED` as long, and the ratio found in a long run."""
    fast = _compiled(folder / "fast.onnx", 32)
    ratios: dict[Path, float] = {}
    for width in WIDTHS:
        file = _compiled(folder / f"{width}.onnx", width)
        ratios[file] = paired_ratio(_ask("interleaved", [fast, file], 400))
    nearest = sorted(ratios, key=lambda file: abs(ratios[file] - WANTED))[:2]
    found = {file: paired_ratio(_ask("interleaved", [fast, file], 3000)) for file in nearest}
    slow = min(found, key=lambda file: abs(found[file] - WANTED))
    return fast, slow, found[slow]


def _compiled(path: Path, width: int) -> Path:
    """Write convolutions of fixed width, and one of ``width`` in which the networks differ."""
    from torch import nn

    from hwnas.export.compile import compile_model

    layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU()]
    for _ in range(4):
        layers += [nn.Conv2d(32, 32, 3, 1, 1), nn.ReLU()]
    layers += [nn.Conv2d(32, width, 3, 1, 1), nn.ReLU(), nn.Conv2d(width, 32, 1), nn.ReLU()]
    compile_model(nn.Sequential(*layers).eval(), (3, 64, 64), path)
    return path


def collect(fast: Path, slow: Path, asked: argparse.Namespace) -> dict[str, list[float]]:
    """Return the slow model's time over the fast one's, by policy, for each comparison."""
    found: dict[str, list[float]] = {}
    for number in range(asked.comparisons):
        a = _ask("alone", [fast], asked.pairs)[0]
        b = _ask("alone", [slow], asked.pairs)[0]
        both = _ask("interleaved", [fast, slow], asked.pairs)
        policies: dict[str, Callable[[], float]] = {
            "one after the other, medians": lambda a=a, b=b: _ratio(statistics.median, a, b),
            "one after the other, minima": lambda a=a, b=b: _ratio(min, a, b),
            "interleaved, ratio of medians": lambda s=both: _ratio(statistics.median, *s),
            "interleaved, median of paired ratios": lambda s=both: paired_ratio(s),
            "hwnas benchmark": lambda n=number: by_hwnas(fast, slow, n),
        }
        for name, policy in policies.items():
            found.setdefault(name, []).append(policy())
        print(f"{number + 1}/{asked.comparisons}", end=" ", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return found


def _ratio(
    statistic: Callable[[list[float]], float], fast: list[float], slow: list[float]
) -> float:
    return statistic(slow) / statistic(fast)


def paired_ratio(samples: list[list[float]]) -> float:
    fast, slow = samples
    return statistics.median(b / a for a, b in zip(fast, slow, strict=True))


def by_hwnas(fast: Path, slow: Path, seed: int) -> float:
    with open_runner(find_profile("host-cpu")) as runner:
        a, b = runner.measure([Subject("fast", fast), Subject("slow", slow)], seed=seed)
    return compare(b, a).ratio


def _ask(how: str, files: list[Path], calls: int) -> list[list[float]]:
    request = json.dumps({"how": how, "files": [str(file) for file in files], "calls": calls})
    command = [sys.executable, "-m", "tools.bench.measuring.repeatability", "--child", request]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def child(request: dict[str, Any]) -> list[list[float]]:
    """Time files call by call on the last core, the order within a pair alternating; ms."""
    import numpy as np

    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    models = [open_model(file, "onnxruntime", 1) for file in request["files"]]
    for model in models:
        model.set_input(np.zeros(model.input_shape, np.float32))
    end, calls = time.monotonic() + 0.5, 0
    while calls < 5 or time.monotonic() < end:
        for model in models:
            model.run()
        calls += 1
    samples: list[list[float]] = [[] for _ in models]
    for call in range(request["calls"]):
        places = range(len(models)) if call % 2 else reversed(range(len(models)))
        for place in places:
            samples[place] += timed_ms(models[place].run, 1)
    return samples


def table(found: dict[str, list[float]], ratio: float, asked: argparse.Namespace) -> str:
    """Return the Markdown section of one run of this program."""
    options = f"--comparisons {asked.comparisons} --pairs {asked.pairs}"
    options += " --quiet" if asked.quiet else ""
    stressed = "nothing else started" if asked.quiet else "stress on every other core"
    lines = [
        f"## {time.strftime('%Y-%m-%d')}, {stressed}",
        "",
        f"`python -m tools.bench.measuring.repeatability {options}`: {hardware()}, Python "
        f"{platform.python_version()}, load {os.getloadavg()[0]:.1f}. The slower model takes "
        f"{ratio:.3f} times as long by 3000 interleaved pairs on the machine as it was.",
        "",
        "| policy | median ratio | CV of the ratio | lowest | highest | sign right |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, ratios in found.items():
        spread = statistics.stdev(ratios) / statistics.fmean(ratios)
        right = sum(one > 1 for one in ratios)
        lines.append(
            f"| {name} | {statistics.median(ratios):.3f} | {spread:.1%} | {min(ratios):.3f} "
            f"| {max(ratios):.3f} | {right} of {len(ratios)} |"
        )
    return "\n".join([*lines, ""])


@contextmanager
def stress() -> Iterator[None]:
    """Let one process on each core but the last compute and sleep, each for 0.05 to 1.5 s."""
    code = (
        "import os, random, sys, time\n"
        "os.sched_setaffinity(0, {int(sys.argv[1])})\n"
        "while True:\n"
        "    end = time.time() + random.uniform(0.05, 1.5)\n"
        "    while time.time() < end: sum(range(10000))\n"
        "    time.sleep(random.uniform(0.05, 1.5))\n"
    )
    cores = sorted(os.sched_getaffinity(0))[:-1]
    busy = [subprocess.Popen([sys.executable, "-c", code, str(core)]) for core in cores]
    try:
        yield
    finally:
        for process in busy:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
