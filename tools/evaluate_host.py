"""Does the budget hold, and what does the search gain, on this machine's two runtimes?

    python tools/evaluate_host.py budgets  --work DIR [--effort trial] [--seeds 3]
    python tools/evaluate_host.py cross    --work DIR
    python tools/evaluate_host.py accuracy --work DIR [--data NAME] [--epochs 3] [--seeds 5]

Each part goes on where it was cut off, prints its model and writes it to
tools/results/evaluate_host_PART.md (``--json OUT``: the rows as JSON too). ``cross`` and
``accuracy`` use the networks that ``budgets`` found.
"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path
from random import Random
from statistics import fmean, stdev

import click
import msgspec
import numpy as np

from hwnas.architecture import Architecture, Genotype
from hwnas.devices.fingerprint import hardware
from hwnas.devices.profile import find_profile
from hwnas.devices.runner import Subject, open_runner
from hwnas.export.compile import compile_model
from hwnas.files import append_line, home, read_lines, write_json
from hwnas.latency_models.model import LatencyModel
from hwnas.latency_models.store import read_model
from hwnas.measurement import Measurement, compare
from hwnas.nn.build import Network
from hwnas.pipeline.training_job import TrainResult
from hwnas.profiling import FORMATS
from hwnas.report.report import Report
from hwnas.search.derive import window_samples
from hwnas.spaces.mobile import FUSED, Candidate, mobile_space, mobilenet_v2_like

TARGETS = ("host-cpu", "host-cpu-litert")
SHARES = (35, 50, 70)
RESULTS = Path(__file__).parent / "results"
FAMILIES = (Candidate("mbconv", 3, 3), Candidate("mbconv", 3, 6), *FUSED)
SPACE = mobile_space((1, 28, 28), 10)


@click.group()
def cli() -> None:
    """Evaluate on this machine."""


@cli.command()
@click.option("--work", required=True, type=click.Path(path_type=Path))
@click.option("--effort", default="trial", show_default=True)
@click.option("--seeds", default=3, show_default=True)
@click.option("--target", "targets", multiple=True, default=TARGETS, show_default=True)
@click.option("--json", "out", type=click.Path(path_type=Path))
def budgets(
    work: Path, effort: str, seeds: int, targets: tuple[str, ...], out: Path | None
) -> None:
    """Specialise for 35, 50 and 70 % of the largest network on both runtimes."""
    rows: list[dict[str, object]] = []
    for target in targets:
        for share in SHARES:
            for seed in range(seeds):
                report = _specialised(work, target, share, seed, effort)
                rows.append(_budget_row(report, share))
                click.echo(msgspec.json.encode(rows[-1]).decode(), err=True)
    kept = sum(row["verdict"] == "kept" for row in rows)
    filled = sum(row["used"] >= 0.85 and row["verdict"] == "kept" for row in rows)  # type: ignore[operator]
    close = sum(abs(row["error"]) <= 0.10 for row in rows)  # type: ignore[arg-type]
    summary = (
        f"{kept} of {len(rows)} keep the budget, {filled} of them use at least 85 % of it; "
        f"predicted within 10 % of measured in {close}."
    )
    _write("budgets", rows, summary, f"--effort {effort} --seeds {seeds}", out)


@cli.command()
@click.option("--work", required=True, type=click.Path(path_type=Path))
@click.option("--effort", default="trial", show_default=True)
@click.option("--seeds", default=3, show_default=True)
@click.option("--json", "out", type=click.Path(path_type=Path))
def cross(work: Path, effort: str, seeds: int, out: Path | None) -> None:
    """Specialise for each runtime at the default budget; measure all on both, interleaved."""
    reports = {
        (target, seed): _specialised(work, target, 0, seed, effort)
        for target in TARGETS
        for seed in range(seeds)
    }
    nets = {key: _architecture(work, *key, 0) for key in reports}
    rows: list[dict[str, object]] = []
    for target in TARGETS:
        measured = _measure(target, list(nets.values()), work / "cross" / target)
        rows.append(_cross_row(target, nets, measured, reports))
    text = (
        "Budget of each run: the latency of the uniform MobileNetV2-like network on its runtime. "
        "`other / own`: latency on this runtime of the networks specialised for the other one over "
        "that of its own; paired rounds of one batch, geometric mean over seeds. Accuracy: test "
        "images, mean over seeds."
    )
    _write("cross", rows, text, f"--effort {effort} --seeds {seeds}", out)


@cli.command()
@click.option("--work", required=True, type=click.Path(path_type=Path))
@click.option("--data", default="fashion-mnist", show_default=True)
@click.option("--epochs", default=3, show_default=True)
@click.option("--seeds", default=5, show_default=True)
@click.option("--share", default=50, show_default=True, help="Budget, percent of the largest.")
@click.option("--target", "targets", multiple=True, default=TARGETS, show_default=True)
@click.option("--workers", default=2, show_default=True)
@click.option("--json", "out", type=click.Path(path_type=Path))
def accuracy(
    work: Path, data: str, epochs: int, seeds: int, share: int, targets: tuple[str, ...],
    workers: int, out: Path | None,
) -> None:  # fmt: skip
    """Train searched, uniform and random networks of equal measured latency alike.

    The networks with their latencies and every finished training are kept in tools/results/, so
    that the trainings can go on in another folder or on another machine.
    """
    rows: list[dict[str, object]] = []
    for target in targets:
        groups = _kept_groups(work, target, share, seeds)
        jobs = [
            (name, nets[seed % len(nets)], seed)
            for seed in range(seeds)
            for name, nets in groups.items()
        ]
        with ThreadPoolExecutor(workers) as pool:
            accuracies = list(
                pool.map(
                    lambda job: _trained(work, job[1].architecture, data, epochs, job[2]), jobs
                )
            )
        rows += [_group_row(target, share, name, jobs, accuracies) for name in groups]
    text = (
        f"{data}, epochs: {epochs}, {seeds} trainings a group, accuracy on the test images; "
        "latency measured interleaved. ±: standard deviation over trainings."
    )
    _write("accuracy", rows, text, f"--data {data} --epochs {epochs} --seeds {seeds}", out)


def _specialised(work: Path, target: str, share: int, seed: int, effort: str) -> Report:
    folder = work / "budgets" / f"{target}-{share}-{seed}"
    if not (folder / "report.json").exists():
        command = [sys.executable, "-m", "hwnas", "specialize", "--quiet", "--out", str(folder)]
        asked = ["--target", target, "--seed", str(seed)]
        asked += ["--budget", f"{share}%"] if share else []
        begun = (folder / "config.toml").exists()
        command += ["--resume"] if begun else [*asked, "--effort", effort]
        ended = subprocess.run(command, stdout=subprocess.DEVNULL)
        if ended.returncode not in (0, 5):
            raise SystemExit(f"{folder}: hwnas specialize ended with {ended.returncode}")
    return Report.read(folder / "report.json")


def _budget_row(report: Report, share: int) -> dict[str, object]:
    result = report.results[0]
    latency, budget_ms = result.latency, result.budget_ms
    assert latency is not None and budget_ms is not None and result.accuracy is not None
    predicted_ms = latency.predicted_ms or 0.0
    return {
        "target": result.target,
        "budget": f"{share} %",
        "seed": report.seed,
        "budget_ms": round(budget_ms, 4),
        "measured_ms": round(latency.median_ms, 4),
        "predicted_ms": round(predicted_ms, 4),
        "used": round(latency.median_ms / budget_ms, 3),
        "error": round(predicted_ms / latency.median_ms - 1, 3),
        "verdict": result.verdict,
        "rounds": result.rounds,
        "drift": round(latency.reference_drift or 0.0, 3),
        "k7": sum(block.kernel_size == 7 for block in result.architecture.blocks),
        "test_accuracy": round(result.accuracy.artifact or 0.0, 3),
        "minutes": round(sum(report.stages_s.values()) / 60, 1),
    }


def _architecture(work: Path, target: str, seed: int, share: int) -> Architecture:
    path = work / "budgets" / f"{target}-{share}-{seed}" / "search" / "architecture.json"
    return msgspec.json.decode(path.read_bytes(), type=Architecture)


def _measure(target: str, nets: list[Architecture], folder: Path) -> dict[str, Measurement]:
    """Compile networks with fresh weights and measure them in one interleaved batch."""
    profile = find_profile(target)
    format = FORMATS[profile.runtime]
    subjects = [Subject(one.digest, folder / f"{one.digest}.{format}") for one in nets]
    for one, subject in zip(nets, subjects, strict=True):
        compile_model(Network(one.blocks), one.input_shape, format, subject.path)
    reference_ms = _model_of(target).conditions.reference_ms  # type: ignore[union-attr]
    measured = open_runner(profile).measure(subjects, calibrated_reference_ms=reference_ms)
    return {one.name: one for one in measured}


def _model_of(target: str) -> LatencyModel:
    return read_model(home() / "latency_models" / target / "mobile-1x28-10" / "model.json")


def _cross_row(
    target: str,
    nets: dict[tuple[str, int], Architecture],
    measured: dict[str, Measurement],
    reports: dict[tuple[str, int], Report],
) -> dict[str, object]:
    other = next(name for name in TARGETS if name != target)
    seeds = sorted({seed for _, seed in nets})
    own = [measured[nets[target, seed].digest] for seed in seeds]
    foreign = [measured[nets[other, seed].digest] for seed in seeds]
    ratios = [compare(a, b).ratio for a, b in zip(foreign, own, strict=True)]
    return {
        "measured on": target,
        "own_ms": round(fmean(one.median_ms for one in own), 4),
        "other's_ms": round(fmean(one.median_ms for one in foreign), 4),
        "other / own": round(float(np.exp(np.mean(np.log(ratios)))), 2),
        "each": ", ".join(f"{ratio:.2f}" for ratio in ratios),
        "own accuracy": round(fmean(_accuracy(reports[target, seed]) for seed in seeds), 3),
        "other's accuracy": round(fmean(_accuracy(reports[other, seed]) for seed in seeds), 3),
        "7x7 in own": sum(_sevens(nets[target, seed]) for seed in seeds),
        "7x7 in other's": sum(_sevens(nets[other, seed]) for seed in seeds),
    }


def _accuracy(report: Report) -> float:
    found = report.results[0].accuracy
    return 0.0 if found is None else found.artifact or found.torch


def _sevens(one: Architecture) -> int:
    return sum(block.kernel_size == 7 for block in one.blocks)


class Member(msgspec.Struct, frozen=True):
    """A network of a group, with its latency measured in turns with all others of its target."""

    architecture: Architecture
    median_ms: float


def _kept_groups(work: Path, target: str, share: int, seeds: int) -> dict[str, list[Member]]:
    kept = RESULTS / f"evaluate_host_{target}_{share}.json"
    if kept.exists():
        return msgspec.json.decode(kept.read_bytes(), type=dict[str, list[Member]])
    groups = _groups(work, target, share, seeds)
    nets = list({one.digest: one for group in groups.values() for one in group}.values())
    measured = _measure(target, nets, work / "accuracy" / target)
    members = {
        name: [Member(one, measured[one.digest].median_ms) for one in group]
        for name, group in groups.items()
    }
    write_json(kept, members)
    return members


def _groups(work: Path, target: str, share: int, seeds: int) -> dict[str, list[Architecture]]:
    """Return networks of equal latency on a target: searched, random, uniform of each family."""
    model = _model_of(target)
    costs = model.cost_table(SPACE)
    budget_ms = share / 100 * costs.largest_ms
    searched = [
        msgspec.json.decode(path.read_bytes(), type=Architecture)
        for path in sorted((work / "budgets").glob(f"{target}-{share}-*/search/architecture.json"))
    ]
    level = [[0.0] * len(row) for row in costs.mean_ms]
    rng = np.random.default_rng(Random(0).randrange(2**32))
    draws = window_samples(level, costs, 0.95 * budget_ms, budget_ms, seeds + 1, rng)[1:]
    random = [SPACE.architecture(Genotype(SPACE.name, choices)) for choices in draws]
    uniform = _uniform(work, target, budget_ms)
    return {"searched": searched, "random": random, **{k: [v] for k, v in uniform.items()}}


def _uniform(work: Path, target: str, budget_ms: float) -> dict[str, Architecture]:
    """Return of each uniform family the widest network whose measured latency keeps the budget."""
    nets = {
        (family.name, width): mobilenet_v2_like(SPACE, family, width)
        for family in FAMILIES
        for width in np.arange(0.25, 3.01, 0.125).tolist()
    }
    distinct = list({one.digest: one for one in nets.values()}.values())
    cached = work / "accuracy" / f"{target}-uniform.json"
    if cached.exists():
        latency_ms = msgspec.json.decode(cached.read_bytes(), type=dict[str, float])
    else:
        measured = _measure(target, distinct, work / "accuracy" / target)
        latency_ms = {digest: one.median_ms for digest, one in measured.items()}
        write_json(cached, latency_ms)
    best: dict[str, Architecture] = {}
    for (family, width), one in nets.items():
        if latency_ms[one.digest] <= budget_ms:
            best[f"uniform {family}"] = one
            del width
    return best


class Training(msgspec.Struct, frozen=True):
    """One finished training of ``trainings.jsonl``."""

    digest: str
    data: str
    epochs: int
    seed: int
    test_accuracy: float


TRAININGS = RESULTS / "evaluate_host_trainings.jsonl"


def _trained(work: Path, one: Architecture, data: str, epochs: int, seed: int) -> float:
    """Train one network and return its accuracy on the test images."""
    for done in read_lines(TRAININGS, Training):
        if (done.digest, done.data, done.epochs, done.seed) == (one.digest, data, epochs, seed):
            return done.test_accuracy
    folder = work / "accuracy" / f"{data}-{epochs}" / f"{one.digest}-{seed}"
    write_json(folder / "architecture.json", one)
    command = [sys.executable, "-m", "hwnas", "train", "--resume", "--epochs", str(epochs)]
    command += ["--architecture", str(folder / "architecture.json"), "--data", data]
    command += ["--out", str(folder), "--seed", str(seed)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found = _test_accuracy(one, folder, data)
    append_line(TRAININGS, Training(one.digest, data, epochs, seed, found))
    return found


def _test_accuracy(one: Architecture, folder: Path, data: str) -> float:
    from hwnas.datasets import load_dataset
    from hwnas.pipeline.training_job import trained_network
    from hwnas.training import accuracy, as_data

    msgspec.json.decode((folder / "result.json").read_bytes(), type=TrainResult)
    dataset = load_dataset(data, input_shape=one.input_shape)
    return accuracy(trained_network(one, folder), as_data(dataset.test, dataset))


def _group_row(
    target: str,
    share: int,
    name: str,
    jobs: list[tuple[str, Member, int]],
    accuracies: list[float],
) -> dict[str, object]:
    mine = [number for number, job in enumerate(jobs) if job[0] == name]
    scores = [100 * accuracies[number] for number in mine]
    nets = {jobs[number][1].architecture.digest: jobs[number][1] for number in mine}.values()
    return {
        "target": target,
        "budget": f"{share} %",
        "group": name,
        "networks": len(nets),
        "ms": round(fmean(one.median_ms for one in nets), 4),
        "test accuracy %": f"{fmean(scores):.2f} ± {stdev(scores) if len(scores) > 1 else 0:.2f}",
        "each": ", ".join(f"{score:.2f}" for score in scores),
        "M MACs": round(fmean(one.architecture.macs for one in nets) / 1e6, 2),
    }


def _write(
    part: str, rows: list[dict[str, object]], text: str, options: str, out: Path | None
) -> None:
    titles = list(rows[0])
    lines = [f"| {' | '.join(titles)} |", f"|{' --- |' * len(titles)}"]
    lines += [f"| {' | '.join(str(row[title]) for title in titles)} |" for row in rows]
    command = f"`python tools/evaluate_host.py {part} --work DIR {options}`".replace(" `", "`")
    head = f"# Evaluation on one machine: {part}\n\n{command}, {date.today()}, {hardware()}."
    model = "\n".join(lines)
    click.echo(f"{text}\n\n{model}")
    (RESULTS / f"evaluate_host_{part}.md").write_text(f"{head}\n\n{text}\n\n{model}\n")
    if out is not None:
        write_json(out, rows)


if __name__ == "__main__":
    cli()
