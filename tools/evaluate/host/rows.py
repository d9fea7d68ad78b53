"""Rows of the tables of `tools.evaluate.host.run`."""

from __future__ import annotations

from statistics import fmean, stdev

import numpy as np

from hwnas.architecture.architecture import Architecture
from hwnas.measurement.measurement import Measurement, compare
from hwnas.report.report import Report
from tools.evaluate.host.groups import Member

Row = dict[str, object]


def budget_row(report: Report, budget: str) -> Row:
    result = report.results[0]
    latency, budget_ms = result.latency, result.budget_ms
    assert latency is not None and budget_ms is not None and result.accuracy is not None
    predicted_ms = latency.predicted_ms or 0.0
    return {
        "target": result.target,
        "budget": budget.replace("%", " %"),
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


def cross_row(
    target: str,
    nets: dict[tuple[str, int], Architecture],
    measured: dict[str, Measurement],
    reports: dict[tuple[str, int], Report],
) -> Row:
    other = next(name for name, _ in nets if name != target)
    seeds = sorted({seed for _, seed in nets})
    own = [measured[nets[target, seed].digest] for seed in seeds]
    foreign = [measured[nets[other, seed].digest] for seed in seeds]
    ratios = [compare(a, b).ratio for a, b in zip(foreign, own, strict=True)]
    return {
        "measured on": target,
        "own_ms": round(fmean(measurement.median_ms for measurement in own), 4),
        "other's_ms": round(fmean(measurement.median_ms for measurement in foreign), 4),
        "other / own": round(float(np.exp(np.mean(np.log(ratios)))), 2),
        "each": ", ".join(f"{ratio:.2f}" for ratio in ratios),
        "own accuracy": round(fmean(_accuracy(reports[target, seed]) for seed in seeds), 3),
        "other's accuracy": round(fmean(_accuracy(reports[other, seed]) for seed in seeds), 3),
        "7x7 in own": sum(_count_7x7(nets[target, seed]) for seed in seeds),
        "7x7 in other's": sum(_count_7x7(nets[other, seed]) for seed in seeds),
    }


def _accuracy(report: Report) -> float:
    result = report.results[0].accuracy
    return 0.0 if result is None else result.artifact or result.torch


def _count_7x7(architecture: Architecture) -> int:
    return sum(block.kernel_size == 7 for block in architecture.blocks)


def group_row(
    target: str,
    budget: str,
    name: str,
    jobs: list[tuple[str, Member, int]],
    accuracies: list[float],
) -> Row:
    mine = [number for number, job in enumerate(jobs) if job[0] == name]
    scores = [100 * accuracies[number] for number in mine]
    nets = {jobs[number][1].architecture.digest: jobs[number][1] for number in mine}.values()
    return {
        "target": target,
        "budget": budget,
        "group": name,
        "networks": len(nets),
        "ms": round(fmean(member.median_ms for member in nets), 4),
        "test accuracy %": f"{fmean(scores):.2f} ± {stdev(scores) if len(scores) > 1 else 0:.2f}",
        "each": ", ".join(f"{score:.2f}" for score in scores),
        "M MACs": round(fmean(member.architecture.macs for member in nets) / 1e6, 2),
    }
