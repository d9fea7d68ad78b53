"""`hwnas latency check`: does the latency model still hold on this device, now?"""

from __future__ import annotations

import click

NETWORKS = 10
LEAST_INSIDE = 7
"""Of ten 90 % intervals so many must hold: a true model fails that in 1.3 % of checks."""


@click.command("check")
@click.option("--target", default="host-cpu", show_default=True, help="Device name or profile.")
@click.option("--space", default="mobile", show_default=True, help="Search space.")
@click.option("--data", default="fashion-mnist-6k", show_default=True)
@click.option("--precision", default="fp32", show_default=True, help="fp32 or int8.")
@click.option("--seed", default=0, show_default=True, help="Of the networks drawn.")
@click.option("--add", is_flag=True, help="Correct the model by what was measured.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.option("--quiet", is_flag=True, help="No progress.")
def check(
    target: str,
    space: str,
    data: str,
    precision: str,
    seed: int,
    add: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure ten fresh networks now and compare them with the model's predictions.

    Exit 0 if the model holds (perhaps with one common factor), 1 if it does not.
    """
    import sys
    from datetime import datetime
    from random import Random
    from statistics import median

    import numpy as np

    from hwnas.cli.latency_fit import place_of, reachable
    from hwnas.cli.tables import print_json, print_table
    from hwnas.devices.runner import file_sha256, reference_file
    from hwnas.errors import HwnasError
    from hwnas.latency_models.fit import observe
    from hwnas.latency_models.journal import observation_of
    from hwnas.latency_models.store import outdated, read_measured, write_measured
    from hwnas.measurement import median_interval
    from hwnas.pipeline.console import console
    from hwnas.profiling import Bench, block_keys, network_job

    place = place_of(target, space, data, precision)
    runner, model = reachable(place), read_measured(place.folder)
    again = f"hwnas latency measure --target {target}"
    again += f" --precision {precision}" if precision != "fp32" else ""
    if model is None or model.conditions is None:
        raise HwnasError(f"{place.profile.name}: no measured latency model yet: `{again}` makes it")
    reference = file_sha256(reference_file(place.profile.runtime))
    if (reason := outdated(model, runner.probe(), reference)) is not None:
        raise HwnasError(f"the latency model does not hold: {reason}; `{again}` makes a new one")
    fitted = {one.keys for one in model.networks}
    rng, networks = Random(f"check {seed}"), []
    while len(networks) < NETWORKS:
        one = place.space.architecture(place.space.random(rng))
        if block_keys(one) not in fitted:
            networks.append(one)
    journal = f"check-{datetime.now():%Y%m%d-%H%M%S-%f}.jsonl"
    bench = Bench(
        place.profile, runner, place.folder, None, seed, reference, journal=journal, session=1
    )
    with console(quiet).step(f"measuring {NETWORKS} networks"):
        entries = bench.measure([network_job(one) for one in networks])
    found = model.predict([one.blocks for one in networks])
    measured = [observation_of(entry, model.conditions.reference_ms) for entry in entries]
    ms = np.array([one.ms for one in measured])
    ratios = sorted((ms / found.mean_ms).tolist())
    ratio, (low, high) = median(ratios), median_interval(ratios)
    half = found.interval_ms()[1] - found.mean_ms
    inside = int((np.abs(ms - found.mean_ms) <= half).sum())
    scaled = int((np.abs(ms / ratio - found.mean_ms) <= half).sum())
    drift = median(entry.measurement.reference_ms for entry in entries)
    drift = drift / model.conditions.reference_ms - 1
    if inside >= LEAST_INSIDE:
        verdict, said = "holds", "the model holds"
    elif scaled >= LEAST_INSIDE:
        verdict = "holds with a factor"
        said = f"the model holds with a common factor of {ratio:.3f}; `--add` learns it"
    else:
        verdict, said = "does not hold", f"the model does not hold: `{again} --again`"
    if add:
        write_measured(observe(model, measured), place.folder)
    if as_json:
        print_json({
            "verdict": verdict, "networks": NETWORKS, "inside_90": inside, "ratio": ratio,
            "ratio_ci95": (low, high), "reference_drift": drift, "measured_ms": ms.tolist(),
            "predicted_ms": found.mean_ms.tolist(), "std_ms": found.std_ms.tolist(),
        })  # fmt: skip
    else:
        print_table(
            ["predicted, ms", "measured, ms", "difference", "inside"],
            [
                [f"{mean:.4g} ± {std:.2g}", f"{one:.4g}", f"{one / mean - 1:+.1%}",
                 "yes" if abs(one - mean) <= width else "no"]
                for mean, std, one, width in zip(
                    found.mean_ms, found.std_ms, ms, half, strict=True
                )
            ],
        )  # fmt: skip
        click.echo(
            f"{inside} of {NETWORKS} inside the 90 % interval; measured / predicted {ratio:.3f} "
            f"(95 % {low:.3f} to {high:.3f}); the reference runs {drift:+.0%} against calibration"
        )
        click.echo(said + ("; the networks were added to it" if add else ""))
    if verdict == "does not hold":
        sys.exit(1)
