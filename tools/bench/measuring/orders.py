"""How well does a latency repeat between fresh worker processes, by burst order and statistic?

    python -m tools.bench.measuring.orders [--disturb] [--processes 8] [--runtime litert]

Compiles six files (two blocks and four networks of the mobile space at 1 x 28 x 28) and measures
them in fresh processes beside the shipped reference model, once for each burst order (`ORDERS`).
The orders take turns, so that drift of the machine affects all alike. For each order the program
reports the coefficient of variation (CV) over processes of

* the plain median of all samples, in ms,
* the minimum of all samples, in ms,
* the ratio to the reference: the median over rounds of (median / reference's median), as in hwnas;

the spread of the rounds' ratios within a process (interquartile range over median; it decides how
many rounds a given precision takes), and how far the order's ratios are from those of "sandwich".
``--disturb`` runs a process on every core that computes and sleeps for random times. Tables are
appended to ``tools/bench/measuring/results/orders.md``.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from hwnas.architecture.runtimes import RUNTIMES, RuntimeName
from hwnas.devices.runner import reference_file
from hwnas.devices.worker import main as worker
from hwnas.devices.worker import rounds
from hwnas.devices.worker.samples import Samples, Timer
from hwnas.measurement.measurement import quantile
from tools.lib.busy import busy_cores
from tools.lib.results import command, results_folder, table, write_results

RESULTS = results_folder(__file__) / "orders.md"
SPEC = {
    "warmup_runs": 5,
    "warmup_s": 0.5,
    "runs": 7,
    "min_rounds": 15,
    "max_rounds": 15,
    "ci": 0.0,
    "max_s": 60.0,
    "threads": 1,
}
Run = Callable[[], None]
Pair = tuple[Samples, Samples]


def bursts(run: Run, reference: Run, runs: int, timer: Timer) -> Pair:
    """Call the reference in one burst, then the model."""
    own, other = Samples(), Samples()
    _bursts(run, reference, runs, timer, (own, other))
    return own, other


def half_bursts(run: Run, reference: Run, runs: int, timer: Timer) -> Pair:
    """Call reference, model, reference, model in half-bursts."""
    pair = Samples(), Samples()
    _bursts(run, reference, runs // 2, timer, pair)
    _bursts(run, reference, runs - runs // 2, timer, pair)
    return pair


def call_by_call(run: Run, reference: Run, runs: int, timer: Timer) -> Pair:
    """Alternate single calls: each model finds the other's data in the caches."""
    own, other = Samples(), Samples()
    reference()
    run()
    for _ in range(runs):
        timer.add(other, reference, 1)
        timer.add(own, run, 1)
    return own, other


def _bursts(run: Run, reference: Run, runs: int, timer: Timer, pair: Pair) -> None:
    own, other = pair
    reference()
    timer.add(other, reference, runs)
    run()
    timer.add(own, run, runs)


ORDERS: dict[str, Callable[[Run, Run, int, Timer], Pair]] = {
    "sandwich": rounds.visit,
    "bursts": bursts,
    "half_bursts": half_bursts,
    "call_by_call": call_by_call,
}


@click.command()
@click.option(
    "--runtime",
    type=click.Choice(["onnxruntime", "litert"]),
    default="onnxruntime",
    show_default=True,
)
@click.option(
    "--processes",
    default=8,
    show_default=True,
    type=click.IntRange(2),
    help="Processes of each order; a spread needs two.",
)
@click.option("--disturb", is_flag=True, help="Let other programs come and go.")
@click.option("--order", type=click.Choice(list(ORDERS)), hidden=True)
def main(runtime: RuntimeName, processes: int, disturb: bool, order: str | None) -> None:
    """Compare burst orders by how well latencies repeat between processes."""
    if order is not None:  # the program calls itself as a worker
        rounds.visit = ORDERS[order]
        sys.exit(worker.main())
    with TemporaryDirectory() as folder:
        files = compile_files(Path(folder), runtime)
        with busy_cores() if disturb else nullcontext():
            results = collect(files, runtime, processes)
    called_as = command(
        __file__,
        f"--runtime {runtime} --processes {processes}",
        "--disturb" if disturb else "",
    )
    title = f"{runtime}, {'disturbed' if disturb else 'nothing else started'}"
    click.echo(write_report(results, runtime, title, called_as))


def compile_files(folder: Path, runtime: RuntimeName) -> list[Path]:
    """Write the six files, which differ in size and in kind of operator."""
    from hwnas.export.compile import compile_model
    from hwnas.nn.build import Network, build
    from hwnas.spaces.mobile.space import FUSED, MBCONVS, mobile_space

    space = mobile_space((1, 28, 28), 10)
    modules: dict[str, tuple[Any, tuple[int, int, int]]] = {}
    for candidate in (MBCONVS[0], MBCONVS[-1], FUSED[-1]):
        network = build(space.architecture(space.uniform(candidate)))
        modules[candidate.name] = network, space.input_shape
    network = build(space.architecture(space.random(random.Random(0))))
    modules["random"] = network, space.input_shape
    for block in (space.blocks[1][0], space.blocks[-1][0]):
        shape = block.in_shape
        modules[block.key] = Network((block,)), shape
    suffix = RUNTIMES[runtime].suffix
    files = [folder / f"{index}{suffix}" for index in range(len(modules))]
    for (module, shape), file in zip(modules.values(), files, strict=True):
        compile_model(module.eval(), shape, file)
    return files


def collect(
    files: list[Path], runtime: RuntimeName, processes: int
) -> dict[str, list[dict[str, Any]]]:
    """Return the results of all processes, by burst order."""
    results: dict[str, list[dict[str, Any]]] = {order: [] for order in ORDERS}
    for process in range(processes):
        for order in random.Random(process).sample(sorted(ORDERS), len(ORDERS)):
            request = {
                "runtime": runtime,
                "threads": 1,
                "affinity": [max(os.sched_getaffinity(0))],
                "seed": process,
                "models": [{"name": file.stem, "path": str(file)} for file in files],
                "together": len(files),
                "reference": str(reference_file(runtime)),
                "spec": SPEC,
            }
            results[order].append(_run_worker(order, request))
            print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return results


def _run_worker(order: str, request: dict[str, Any]) -> dict[str, Any]:
    program = [sys.executable, "-m", "tools.bench.measuring.orders", "--order", order]
    process = subprocess.run(
        program, input=json.dumps(request), capture_output=True, text=True, check=False
    )
    last = json.loads(process.stdout.splitlines()[-1])
    if "result" not in last:
        raise SystemExit(f"worker: {last}")
    return last["result"]


def write_report(
    results: dict[str, list[dict[str, Any]]], runtime: str, title: str, called_as: str
) -> str:
    """Append a section for one run of this program to the results file, and return it."""
    first = next(iter(results.values()))[0]
    baseline = _ratios(results["sandwich"])
    rows: list[tuple[str, ...]] = []
    for order, processes in results.items():
        ratios = _ratios(processes)
        bias = statistics.median(
            statistics.median(ratios[name]) / statistics.median(baseline[name]) - 1
            for name in baseline
        )
        rows.append(
            (
                order,
                _cv(_by_name(processes, lambda model: statistics.median(_samples(model)))),
                _cv(_by_name(processes, lambda model: min(_samples(model)))),
                _cv(ratios),
                f"{_round_spread(processes):.1%}",
                f"{bias:+.1%}",
            )
        )
    titles = (
        "burst order",
        "plain median",
        "minimum",
        "ratio to the reference",
        "spread of rounds",
        "ratio against sandwich",
    )
    return write_results(
        RESULTS,
        title,
        called_as,
        f"{len(first['models'])} files, {SPEC['max_rounds']} rounds of {SPEC['runs']} calls. "
        "CV over processes: median over files (worst file).",
        table(titles, rows),
        conditions=f"{runtime} {first['environment']['runtime_version']}, "
        f"load {first['environment']['load_before']:.2f}",
        append=True,
    )


def _ratios(results: list[dict[str, Any]]) -> dict[str, list[float]]:
    return _by_name(results, lambda model: statistics.median(_round_ratios(model)))


def _round_ratios(model: dict[str, Any]) -> list[float]:
    """Return the ratio to the reference in each round of a process."""
    return [
        statistics.median(round["samples_ms"]) / statistics.median(round["reference_ms"])
        for round in model["rounds"]
    ]


def _round_spread(results: list[dict[str, Any]]) -> float:
    spreads: list[float] = []
    for model in (model for result in results for model in result["models"]):
        ratios = sorted(_round_ratios(model))
        spread = quantile(ratios, 0.75) - quantile(ratios, 0.25)
        spreads.append(spread / statistics.median(ratios))
    return statistics.median(spreads)


def _by_name(
    results: list[dict[str, Any]], statistic: Callable[[dict[str, Any]], float]
) -> dict[str, list[float]]:
    values: dict[str, list[float]] = {}
    for result in results:
        for model in result["models"]:
            values.setdefault(model["name"], []).append(statistic(model))
    return values


def _samples(model: dict[str, Any]) -> list[float]:
    return [sample for round in model["rounds"] for sample in round["samples_ms"]]


def _cv(values: dict[str, list[float]]) -> str:
    spreads = [statistics.stdev(v) / statistics.fmean(v) for v in values.values()]
    return f"{statistics.median(spreads):.1%} ({max(spreads):.1%})"


if __name__ == "__main__":
    main()
