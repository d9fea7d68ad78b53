"""Does a difference of 5 % between two models keep its sign and its size when measured again?

    python -m tools.bench.measuring.repeatability [--comparisons 10] [--pairs 200] [--quiet]

Builds a network and, among slightly larger ones, the one that takes 5 % longer according to a long
interleaved run. It then makes independent comparisons in fresh processes, while another process
computes and sleeps on each other core (not with ``--quiet``). For each policy it reports the
coefficient of variation (CV) over the comparisons, and how often the sign was right:

* one after the other: the median of ``pairs`` calls of each model, each in a process of its own;
* one after the other, minima instead of medians;
* interleaved, ratio of medians: both in one process, call by call in alternating order;
* interleaved, median of paired ratios: the same calls;
* `hwnas benchmark`: rounds in five processes, both models beside the reference.

Appends a table to ``results/repeatability.md``. Ten comparisons take about four minutes.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from hwnas.devices.profile import find_profile
from hwnas.devices.runner import Subject, open_runner
from hwnas.devices.worker.runtimes.open import open_model
from hwnas.devices.worker.samples import Samples, Timer
from hwnas.measurement.measurement import compare
from tools.lib.busy import busy_cores
from tools.lib.results import command, results_folder, table, write_results

RESULTS = results_folder(__file__) / "repeatability.md"
TARGET_RATIO = 1.05
WIDTHS = range(33, 49)
"""Widths among which the slower network is chosen; that of the faster network is 32."""


@click.command()
@click.option(
    "--comparisons",
    default=10,
    show_default=True,
    type=click.IntRange(2),
    help="Comparisons by each policy; a spread needs two.",
)
@click.option(
    "--pairs",
    default=200,
    show_default=True,
    type=click.IntRange(1),
    help="Calls of each model in a comparison.",
)
@click.option("--quiet", is_flag=True, help="Leave the other cores alone.")
@click.option("--child", "request", hidden=True)
def main(comparisons: int, pairs: int, quiet: bool, request: str | None) -> None:
    """Compare two models again and again, by several policies."""
    if request is not None:  # the program calls itself as a worker
        click.echo(json.dumps(child(json.loads(request))))
        return
    with TemporaryDirectory() as folder:
        fast, slow, ratio = two_networks(Path(folder))
        other_cores = sorted(os.sched_getaffinity(0))[:-1]
        with nullcontext() if quiet else busy_cores(other_cores):
            ratios = collect(fast, slow, comparisons, pairs)
    load = "nothing else started" if quiet else "stress on every other core"
    called_as = command(
        __file__, f"--comparisons {comparisons} --pairs {pairs}", "--quiet" if quiet else ""
    )
    click.echo(write_report(ratios, ratio, load, called_as))


def two_networks(folder: Path) -> tuple[Path, Path, float]:
    """Return a network, one that takes `TARGET_RATIO` as long, and their ratio in a long run."""
    fast = _compile(folder / "fast.onnx", 32)

    def measure(files: Sequence[Path], calls: int) -> dict[Path, float]:
        return {file: paired_ratio(_time([fast, file], calls)) for file in files}

    def nearest(ratios: dict[Path, float], count: int) -> list[Path]:
        return sorted(ratios, key=lambda file: abs(ratios[file] - TARGET_RATIO))[:count]

    files = [_compile(folder / f"{width}.onnx", width) for width in WIDTHS]
    ratios = measure(nearest(measure(files, 400), 2), 3000)
    [slow] = nearest(ratios, 1)
    return fast, slow, ratios[slow]


def _compile(path: Path, width: int) -> Path:
    """Write a network of convolutions whose last but one has ``width`` channels."""
    from torch import nn

    from hwnas.export.compile import compile_model

    layers: list[nn.Module] = [nn.Conv2d(3, 32, 3, 2, 1), nn.ReLU()]
    for _ in range(4):
        layers += [nn.Conv2d(32, 32, 3, 1, 1), nn.ReLU()]
    layers += [nn.Conv2d(32, width, 3, 1, 1), nn.ReLU(), nn.Conv2d(width, 32, 1), nn.ReLU()]
    compile_model(nn.Sequential(*layers).eval(), (3, 64, 64), path)
    return path


def collect(fast: Path, slow: Path, comparisons: int, pairs: int) -> dict[str, list[float]]:
    """Return the slow model's time over the fast model's in each comparison, by policy."""
    ratios: dict[str, list[float]] = {}
    for number in range(comparisons):
        a = _time([fast], pairs)[0]
        b = _time([slow], pairs)[0]
        both = _time([fast, slow], pairs)
        policies: dict[str, Callable[[], float]] = {
            "one after the other, medians": lambda a=a, b=b: _ratio(statistics.median, a, b),
            "one after the other, minima": lambda a=a, b=b: _ratio(min, a, b),
            "interleaved, ratio of medians": lambda s=both: _ratio(statistics.median, *s),
            "interleaved, median of paired ratios": lambda s=both: paired_ratio(s),
            "hwnas benchmark": lambda n=number: by_hwnas(fast, slow, n),
        }
        for name, policy in policies.items():
            ratios.setdefault(name, []).append(policy())
        print(f"{number + 1}/{comparisons}", end=" ", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return ratios


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


def _time(files: list[Path], calls: int) -> list[list[float]]:
    """Run `child` in a fresh process."""
    request = json.dumps({"files": [str(file) for file in files], "calls": calls})
    program = [sys.executable, "-m", "tools.bench.measuring.repeatability", "--child", request]
    return json.loads(subprocess.run(program, capture_output=True, text=True, check=True).stdout)


def child(request: dict[str, Any]) -> list[list[float]]:
    """Return the times of the calls of each file in ms; calls take turns on the last core."""
    import numpy as np

    from hwnas.devices.worker.model import input_shapes

    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    models = [open_model(file, "onnxruntime", 1) for file in request["files"]]
    for model in models:
        shapes = input_shapes("", model.inputs)
        model.set_inputs([np.zeros(shape, np.float32) for shape in shapes])
    end, calls = time.monotonic() + 0.5, 0
    while calls < 5 or time.monotonic() < end:
        for model in models:
            model.run()
        calls += 1
    samples, timer = [Samples() for _ in models], Timer(1)
    for call in range(request["calls"]):
        order = range(len(models)) if call % 2 else reversed(range(len(models)))
        for index in order:
            timer.add(samples[index], models[index].run, 1)
    return [each.wall_ms for each in samples]


def write_report(
    ratios: dict[str, list[float]], long_run_ratio: float, load: str, called_as: str
) -> str:
    """Append a section for one run of this program to the results file, and return it."""
    rows = [
        (
            policy,
            f"{statistics.median(values):.3f}",
            f"{statistics.stdev(values) / statistics.fmean(values):.1%}",
            f"{min(values):.3f}",
            f"{max(values):.3f}",
            f"{sum(value > 1 for value in values)} of {len(values)}",
        )
        for policy, values in ratios.items()
    ]
    titles = ("policy", "median ratio", "CV of the ratio", "lowest", "highest", "sign right")
    return write_results(
        RESULTS,
        f"{time.strftime('%Y-%m-%d')}, {load}",
        called_as,
        f"The slower model takes {long_run_ratio:.3f} times as long in 3000 interleaved pairs, "
        "measured before the stress was started.",
        table(titles, rows),
        conditions=f"load {os.getloadavg()[0]:.1f}",
        append=True,
    )


if __name__ == "__main__":
    main()
