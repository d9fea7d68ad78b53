"""Runs of `hwnas specialize` for an evaluation, each made once; an interrupted one goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec

from hwnas.architecture.architecture import Architecture
from hwnas.report.report import Report
from hwnas.specialize.sweep import VariantResult, best_variant


def folder_of(
    work: Path, target: str, budget: str, seed: int, width_mult: str = "", effort: str = "trial"
) -> Path:
    suffix = "" if effort == "trial" else effort
    parts = (target, budget.rstrip("%") or "0", str(seed), width_mult, suffix)
    name = "-".join(filter(None, parts))
    return work / "budgets" / name


def specialize_report(
    work: Path,
    target: str,
    budget: str,
    seed: int,
    effort: str,
    width_mult: str = "",
    data: str = "",
) -> Report:
    """Return the report of a run, made if missing; an empty budget or data set is the default."""
    folder = folder_of(work, target, budget, seed, width_mult, effort)
    if not (folder / "report.json").exists():
        command = [sys.executable, "-m", "hwnas", "specialize", "--quiet", "--out", str(folder)]
        options = ["--target", target, "--seed", str(seed)]
        options += ["--budget", budget] if budget else []
        options += ["--width-mult", width_mult] if width_mult else []
        options += ["--data", data] if data else []
        started = (folder / "config.toml").exists()
        command += ["--resume"] if started else [*options, "--effort", effort]
        process = subprocess.run(command, stdout=subprocess.DEVNULL)
        if process.returncode not in (0, 5):
            raise SystemExit(f"{folder}: hwnas specialize ended with {process.returncode}")
    return Report.read(folder / "report.json")


def variants_of(folder: Path) -> list[VariantResult]:
    """Return the result of each width of a run; a run with a single width has none stored."""
    if not (folder / "variants.json").exists():
        return []
    return msgspec.json.decode((folder / "variants.json").read_bytes(), type=list[VariantResult])


def delivered_network(folder: Path) -> Architecture:
    """Return the network that a run delivered."""
    if variants := variants_of(folder):
        folder = folder / "variants" / f"fp32-x{variants[best_variant(variants)].width_mult:g}"
    path = folder / "search" / "architecture.json"
    return msgspec.json.decode(path.read_bytes(), type=Architecture)


def delivered_networks(
    work: Path, target: str, budget: str, width_mult: str = ""
) -> list[Architecture]:
    """Return the delivered networks of the runs of all seeds."""
    folders = [folder_of(work, target, budget, seed, width_mult) for seed in range(100)]
    return [delivered_network(folder) for folder in folders if (folder / "report.json").exists()]
