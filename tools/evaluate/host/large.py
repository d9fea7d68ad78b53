"""Are networks of 2 to 60 ms predicted, and do they keep budgets, with one and two threads?

    python -m tools.evaluate.host.large --work DIR [--threads 1,2] [--width-mult 1,2.5]

For each width of the space `mobile` at 224 px, number of threads and runtime: the latency model as
`hwnas latency measure` makes it, and fresh networks that it never saw against its predictions.
Then, for 70, 50 and 35 % of the largest network's latency, what `hwnas specialize` does for a
latency: random networks in the window below the budget that the model allows, measured; the one
that uses most of the budget and keeps it; and that network's file, measured again in other
processes. A file that misses the budget is followed by the next network. Nothing is trained, since
a latency does not depend on weights. Measurements are stored in DIR, and the same command continues
(``--seconds``: no step begins after that time). Writes results/large.md.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from statistics import median
from typing import NamedTuple

import click
import msgspec
import numpy as np

from hwnas.architecture.architecture import Architecture, Genotype
from hwnas.console import PlainConsole
from hwnas.devices.profile import DeviceProfile, find_profile
from hwnas.devices.runner import open_runner
from hwnas.latency_models.fitting.fit import score_predictions
from hwnas.latency_models.storage.store import measured_folder, read_measured
from hwnas.measurement.disturbance import joined
from hwnas.measurement.measurement import Measurement
from hwnas.profiling.bench import Bench, block_keys, network_job
from hwnas.profiling.check import fresh_networks
from hwnas.profiling.measure import measure_latency_model
from hwnas.profiling.plan import MeasurePlan
from hwnas.search.knapsack import window_samples
from hwnas.spaces.mobile.space import MobileSpace, mobile_space, scaled
from hwnas.specialize.steps.deliver import MAX_DISAGREEMENT, MAX_TRAINED_FACTOR
from hwnas.specialize.steps.screening import window
from tools.evaluate.host.rows import Row
from tools.lib.options import work_option
from tools.lib.results import table_of, write_part

TARGETS = ("host-cpu", "host-cpu-litert")
BUDGETS = (0.7, 0.5, 0.35)
INPUT_SHAPE, CLASSES = (3, 224, 224), 2
SCREENED = 8
"""Networks that are measured for a budget."""


class MeasuredNetwork(NamedTuple):
    """A network and its latency, as screened or as measured of its file."""

    network: Architecture
    measurement: Measurement

    @property
    def latency_ms(self) -> float:
        return self.measurement.median_ms


class Case(msgspec.Struct, frozen=True):
    """A device with a number of threads, and a width of the space."""

    profile: DeviceProfile
    space: MobileSpace
    width_mult: str

    @property
    def folder(self) -> Path:
        return measured_folder(self.profile.name, self.space)

    @property
    def names(self) -> Row:
        spec = self.profile.measure
        target = self.profile.name.removesuffix(f"-{spec.threads}")
        return {"target": target, "threads": spec.threads, "width": self.width_mult}


@click.command()
@work_option
@click.option("--threads", "counts", default="1,2", show_default=True, help="Numbers of threads.")
@click.option("--width-mult", "widths", default="1,2.5", show_default=True)
@click.option("--fresh", default=24, show_default=True, help="Fresh networks of each case.")
@click.option("--networks", default=24, show_default=True, help="Most networks of a model.")
@click.option("--seconds", default=0.0, help="Begin no step after this time; 0: do all.")
def main(
    work: Path,
    counts: str,
    widths: str,
    fresh: int,
    networks: int,
    seconds: float,
) -> None:
    """Measure, predict, search; print the tables."""
    os.environ["HWNAS_HOME"] = str(work / "home")
    end_s = time.monotonic() + (seconds or float("inf"))
    predictions: list[Row] = []
    budgets: list[Row] = []
    for case in cases(widths.split(","), [int(c) for c in counts.split(",")]):
        fresh_ms = work / f"fresh-{case.profile.name}-{case.width_mult}.jsonl"
        if not (time.monotonic() < end_s or fresh_ms.exists()):
            continue
        predictions.append(case.names | predict(case, fresh_ms, fresh, networks))
        click.echo(str(predictions[-1]), err=True)
        for share in BUDGETS:
            file = work / f"budget-{case.profile.name}-{case.width_mult}-{share:.0%}.jsonl"
            if (row := search(case, share, file, time.monotonic() < end_s)) is not None:
                budgets.append(case.names | row)
                click.echo(str(budgets[-1]), err=True)
    within_budget = sum(row["kept"] == "yes" for row in budgets)
    text = (
        f"Space `mobile`, 224x224. fresh: networks that the model never saw, measured in other "
        f"processes than the fitted ones. {within_budget} of {len(budgets)} final files keep the "
        "budget."
    )
    arguments = f"--work DIR --threads {counts} --width-mult {widths}"
    arguments += f" --fresh {fresh} --networks {networks}"
    tables = [table_of(rows) for rows in (predictions, budgets) if rows]
    click.echo(write_part(__file__, "large", "Evaluation on one machine", arguments, text, *tables))


def cases(widths: Sequence[str], counts: Sequence[int]) -> Iterator[Case]:
    """Yield the devices and widths to measure; a profile with several threads has its own name."""
    space = mobile_space(INPUT_SHAPE, CLASSES)
    for width, threads, target in product(widths, counts, TARGETS):
        profile = find_profile(target)
        if threads > 1:
            spec = msgspec.structs.replace(profile.measure, threads=threads)
            name = f"{target}-{threads}"
            profile = msgspec.structs.replace(profile, name=name, measure=spec)
        own = space if width == "1" else scaled(space, float(width))
        yield Case(profile, own, width)


def predict(case: Case, file: Path, count: int, networks: int) -> Row:
    """Measure the latency model, then ``count`` fresh networks; return how it predicts them."""
    with open_runner(case.profile) as runner:
        plan, console = MeasurePlan(networks=networks), PlainConsole()
        model = measure_latency_model(
            case.profile, runner, case.space, case.folder, console, plan=plan
        )
    fresh = fresh_networks(model, case.space, count, seed=1)
    measurements = measure(case, fresh, file, 100)
    truth_ms = np.array([measurement.median_ms for measurement in measurements])
    predictions = model.predict([network.blocks for network in fresh])
    errors = predictions.mean_ms / truth_ms - 1
    score = score_predictions(predictions, truth_ms)
    return {
        "blocks, networks fitted": f"{len(model.isolated_ms())}, {len(model.networks)}",
        "fresh": len(fresh),
        "fastest ms": f"{truth_ms.min():.2f}",
        "slowest ms": f"{truth_ms.max():.2f}",
        "within 5 %": f"{score.within_5:.0%}",
        "RMSPE": f"{score.rmspe:.2%}",
        "mean error": f"{errors.mean():+.2%}",
        "largest error": f"{errors[np.abs(errors).argmax()]:+.1%}",
        "90 % interval": f"{score.covered_90:.0%}",
        "half-width": f"{np.median(1.645 * predictions.std_ms / predictions.mean_ms):.1%}",
    }


def search(case: Case, share: float, file: Path, may_begin: bool) -> Row | None:
    """Return the row of a budget; ``None`` if it was not measured and may not begin."""
    final = file.with_stem(f"{file.stem}-final")
    if not (may_begin or final.exists()):
        return None
    model, space = read_measured(case.folder), case.space
    assert model is not None
    costs = model.cost_table(space)
    budget_ms = share * costs.largest_ms
    low_ms, high_ms = (part * budget_ms for part in window(space, model, is_measured=True))
    level = [[0.0] * len(row) for row in costs.mean_ms]
    rng = np.random.default_rng(0)
    drawn = window_samples(level, costs, low_ms, high_ms, SCREENED, rng)
    networks = [space.architecture(Genotype(space.name, choices)) for choices in drawn]
    screened = list(map(MeasuredNetwork, networks, measure(case, networks, file, 200)))
    within = [each for each in screened if each.latency_ms <= budget_ms]
    # the interval, too, else it may be within the budget by chance
    surely = [each for each in within if each.measurement.ci95_ms[1] <= budget_ms]
    ordered = sorted(surely or within or screened, key=lambda each: each.latency_ms)
    files = deliver(case, screened, ordered[-1 if within else 0], file, budget_ms)
    chosen, final_ms = files[-1].network, files[-1].latency_ms
    screened_ms = {each.network.digest: each.latency_ms for each in screened}
    predicted_ms = model.network_ms(chosen.blocks)
    return {
        "budget": f"{share:.0%}",
        "budget ms": f"{budget_ms:.3f}",
        "screened within": f"{len(within)} of {len(networks)}",
        "predicted ms": f"{predicted_ms:.3f}",
        "screened ms": f"{screened_ms[chosen.digest]:.3f}",
        "files measured": len(files),
        "final ms": f"{final_ms:.3f}",
        "final / predicted": f"{final_ms / predicted_ms - 1:+.1%}",
        "used": f"{final_ms / budget_ms:.1%}",
        "kept": "yes" if final_ms <= budget_ms else "no",
    }


def deliver(
    case: Case,
    screened: Sequence[MeasuredNetwork],
    first: MeasuredNetwork,
    file: Path,
    budget_ms: float,
) -> list[MeasuredNetwork]:
    """Return the files that a run would measure for a budget, the delivered one last.

    A file that misses the budget is followed by the network that should use most of it by the
    median ratio of measured to screened latency. If all miss it, the fastest is delivered.
    """
    final = file.with_stem(f"{file.stem}-final")
    files: list[MeasuredNetwork] = []
    ratios: list[float] = []
    subject: MeasuredNetwork | None = first
    while subject is not None:
        network, screening = subject
        [measurement] = measure(case, [network], final, 300)
        if abs(measurement.median_ms / screening.median_ms - 1) > MAX_DISAGREEMENT:
            [again] = measure(case, [network], file.with_stem(f"{file.stem}-again"), 400)
            measurement = joined(measurement, again)
        files.append(MeasuredNetwork(network, measurement))
        ratios.append(measurement.median_ms / screening.median_ms)
        if files[-1].latency_ms <= budget_ms or len(files) == MAX_TRAINED_FACTOR:
            break
        known = {each.network.digest for each in files}
        further = [
            each
            for each in screened
            if each.network.digest not in known and each.latency_ms * median(ratios) <= budget_ms
        ]
        subject = max(further, key=lambda each: each.latency_ms, default=None)
    return sorted(files, key=lambda each: -each.latency_ms)


def measure(
    case: Case, networks: Sequence[Architecture], file: Path, seed: int
) -> list[Measurement]:
    """Return calibrated measurements of networks; those that are missing in the journal are
    made."""
    model = read_measured(case.folder)
    assert model is not None and model.conditions is not None
    calibrated_ms = model.conditions.reference_ms
    with open_runner(case.profile) as runner:
        bench = Bench(case.profile, runner, file.parent, journal=file.name, session=1, seed=seed)
        entries = bench.measure([network_job(network) for network in networks])
    known = {entry.keys: entry.measurement for entry in entries}
    return [
        msgspec.structs.replace(known[block_keys(network)], calibrated_reference_ms=calibrated_ms)
        for network in networks
    ]


if __name__ == "__main__":
    main()
