"""Runs of `hwnas specialize` that an evaluation needs, each made once and gone on with."""

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
    further = "" if effort == "trial" else effort
    parts = (target, budget.rstrip("%") or "0", str(seed), width_mult, further)
    name = "-".join(filter(None, parts))
    return work / "budgets" / name


def specialised(
    work: Path,
    target: str,
    budget: str,
    seed: int,
    effort: str,
    width_mult: str = "",
    data: str = "",
) -> Report:
    """Return the report of a run; an empty budget or data set is the default one."""
    folder = folder_of(work, target, budget, seed, width_mult, effort)
    if not (folder / "report.json").exists():
        command = [sys.executable, "-m", "hwnas", "specialize", "--quiet", "--out", str(folder)]
        asked = ["--target", target, "--seed", str(seed)]
        asked += ["--budget", budget] if budget else []
        asked += ["--width-mult", width_mult] if width_mult else []
        asked += ["--data", data] if data else []
        begun = (folder / "config.toml").exists()
        command += ["--resume"] if begun else [*asked, "--effort", effort]
        ended = subprocess.run(command, stdout=subprocess.DEVNULL)
        if ended.returncode not in (0, 5):
            raise SystemExit(f"{folder}: hwnas specialize ended with {ended.returncode}")
    return Report.read(folder / "report.json")


def outcomes_of(folder: Path) -> list[VariantResult]:
    """Return what each width of a run came to; of one with one width nothing is kept."""
    if not (folder / "variants.json").exists():
        return []
    return msgspec.json.decode((folder / "variants.json").read_bytes(), type=list[VariantResult])


def found_by(folder: Path) -> Architecture:
    """Return the network that a run handed over."""
    if outcomes := outcomes_of(folder):
        folder = folder / "variants" / f"fp32-x{outcomes[best_variant(outcomes)].width_mult:g}"
    path = folder / "search" / "architecture.json"
    return msgspec.json.decode(path.read_bytes(), type=Architecture)


def all_found(work: Path, target: str, budget: str, width_mult: str = "") -> list[Architecture]:
    """Return what the runs of all seeds handed over."""
    folders = [folder_of(work, target, budget, seed, width_mult) for seed in range(100)]
    return [found_by(one) for one in folders if (one / "report.json").exists()]
