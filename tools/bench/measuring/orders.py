"""How well does a latency repeat between fresh worker processes, by what is reported of it?

    python -m tools.bench.measuring.orders [--disturb] [--processes 8] [--runtime litert]

Compiles six files (two blocks, four networks of the mobile space at 1 x 28 x 28), measures them in
fresh processes beside the shipped reference model, once for each burst order (`ORDERS`), the orders
taken in turn so that the machine's drift hits all alike, and prints for each order the coefficient
of variation (CV) over processes of

* the plain median of all samples, in ms,
* the minimum of all samples, in ms,
* the ratio to the reference: median over rounds of (median / reference's median), as hwnas does;

the spread of the rounds' ratios within a process (interquartile range over median: it decides how
many rounds a wanted precision takes), and how far an order's ratios are from those of "sandwich".
``--disturb`` runs a process on every core that computes and sleeps for random times. Tables are
appended to ``tools/bench/measuring/results/orders.md``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hwnas.architecture.runtimes import RUNTIMES, RuntimeName
from hwnas.devices.runner import reference_file
from hwnas.devices.worker import main as worker
from hwnas.devices.worker import rounds
from hwnas.devices.worker.rounds import timed_ms
from hwnas.measurement.measurement import quantile

RESULTS = Path(__file__).parent / "results" / "orders.md"
SPEC = {
    "warmup_runs": 5,
    "warmup_s": 0.5,
    "runs": 7,
    "min_rounds": 15,
    "max_rounds": 15,
    "ci": 0.0,
    "max_s": 60.0,
}
Run = Callable[[], None]
Samples = tuple[list[float], list[float]]


def bursts(run: Run, reference: Run, runs: int) -> Samples:
    """All of the reference, then all of the model."""
    reference()
    reference_ms = timed_ms(reference, runs)
    run()
    return timed_ms(run, runs), reference_ms


def half_bursts(run: Run, reference: Run, runs: int) -> Samples:
    """Reference, model, reference, model, in half-bursts."""
    first, first_reference = bursts(run, reference, runs // 2)
    second, second_reference = bursts(run, reference, runs - runs // 2)
    return first + second, first_reference + second_reference


def call_by_call(run: Run, reference: Run, runs: int) -> Samples:
    """Reference and model in turn: each finds the other's data in the caches."""
    reference()
    run()
    pairs = [(timed_ms(reference, 1)[0], timed_ms(run, 1)[0]) for _ in range(runs)]
    return [own for _, own in pairs], [ref for ref, _ in pairs]


ORDERS: dict[str, Callable[[Run, Run, int], Samples]] = {
    "sandwich": rounds.visit,
    "bursts": bursts,
    "half_bursts": half_bursts,
    "call_by_call": call_by_call,
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runtime", choices=["onnxruntime", "litert"], default="onnxruntime")
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--disturb", action="store_true", help="let other programs come and go")
    parser.add_argument("--order", choices=ORDERS, help="be a worker (the program calls itself)")
    asked = parser.parse_args(arguments)
    if asked.order:
        rounds.visit = ORDERS[asked.order]
        sys.exit(worker.main())
    with TemporaryDirectory() as folder:
        files = compiled(Path(folder), asked.runtime)
        with disturbance() if asked.disturb else nullcontext():
            found = collect(files, asked.runtime, asked.processes)
    text = table(found, asked)
    print(text)
    RESULTS.parent.mkdir(exist_ok=True)
    with open(RESULTS, "a", encoding="utf-8") as file:
        file.write(text + "\n")


def compiled(folder: Path, runtime: RuntimeName) -> list[Path]:
    """Write the six files: unlike each other in size and in kind of operator."""
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
    for place in (space.blocks[1], space.blocks[-1]):
        block = place[0]
        shape = block.in_channels, block.in_size, block.in_size
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
    found: dict[str, list[dict[str, Any]]] = {order: [] for order in ORDERS}
    for process in range(processes):
        for order in random.Random(process).sample(sorted(ORDERS), len(ORDERS)):
            request = {
                "runtime": runtime,
                "threads": 1,
                "affinity": [max(os.sched_getaffinity(0))],
                "seed": process,
                "models": [{"name": file.stem, "path": str(file)} for file in files],
                "reference": str(reference_file(runtime)),
                "spec": SPEC,
            }
            found[order].append(_worker(order, request))
            print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return found


def _worker(order: str, request: dict[str, Any]) -> dict[str, Any]:
    command = [sys.executable, "-m", "tools.bench.measuring.orders", "--order", order]
    done = subprocess.run(
        command, input=json.dumps(request), capture_output=True, text=True, check=False
    )
    last = json.loads(done.stdout.splitlines()[-1])
    if "result" not in last:
        raise SystemExit(f"worker: {last}")
    return last["result"]


def table(found: dict[str, list[dict[str, Any]]], asked: argparse.Namespace) -> str:
    """Return the Markdown section of one run of this program."""
    first = next(iter(found.values()))[0]
    lines = [
        f"## {asked.runtime}, {'disturbed' if asked.disturb else 'as the machine was'}",
        "",
        "`python -m tools.bench.measuring.orders "
        f"--runtime {asked.runtime} --processes {asked.processes}"
        f"{' --disturb' if asked.disturb else ''}`: "
        f"{first['environment']['cpu']}, {first['environment']['runtime_version']}, "
        f"{len(first['models'])} files, {SPEC['max_rounds']} rounds of {SPEC['runs']} calls, "
        f"load {first['environment']['load_before']:.2f}; "
        "CV over processes: median over files (worst file).",
        "",
        "| burst order | plain median | minimum | ratio to the reference "
        "| spread of rounds | ratio against sandwich |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    base = _ratios(found["sandwich"])
    for order, results in found.items():
        ratios = _ratios(results)
        bias = statistics.median(
            statistics.median(ratios[name]) / statistics.median(base[name]) - 1 for name in base
        )
        cells = [
            _spread(_by_name(results, lambda model: statistics.median(_samples(model)))),
            _spread(_by_name(results, lambda model: min(_samples(model)))),
            _spread(ratios),
            f"{_round_spread(results):.1%}",
        ]
        lines.append(f"| {order} | {' | '.join(cells)} | {bias:+.1%} |")
    return "\n".join([*lines, ""])


def _ratios(results: list[dict[str, Any]]) -> dict[str, list[float]]:
    return _by_name(
        results,
        lambda model: statistics.median(
            statistics.median(round["samples_ms"]) / statistics.median(round["reference_ms"])
            for round in model["rounds"]
        ),
    )


def _round_spread(results: list[dict[str, Any]]) -> float:
    spreads: list[float] = []
    for model in (model for result in results for model in result["models"]):
        ratios = sorted(
            statistics.median(round["samples_ms"]) / statistics.median(round["reference_ms"])
            for round in model["rounds"]
        )
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


def _spread(values: dict[str, list[float]]) -> str:
    spreads = [statistics.stdev(v) / statistics.fmean(v) for v in values.values()]
    return f"{statistics.median(spreads):.1%} ({max(spreads):.1%})"


@contextmanager
def disturbance() -> Iterator[None]:
    """Let one process a core compute and sleep, each for 0.05 to 1.5 s."""
    code = (
        "import random, time\n"
        "while True:\n"
        "    end = time.time() + random.uniform(0.05, 1.5)\n"
        "    while time.time() < end: sum(range(10000))\n"
        "    time.sleep(random.uniform(0.05, 1.5))\n"
    )
    busy = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(os.cpu_count() or 1)]
    try:
        time.sleep(0.5)
        yield
    finally:
        for process in busy:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
