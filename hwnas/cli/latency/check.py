"""`hwnas latency check`: does the latency model still hold on this device, now?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from hwnas.profiling.check import Checked

NETWORKS = 10


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

    from hwnas.cli.latency.fit import place_of, reachable
    from hwnas.cli.tables import print_json
    from hwnas.console import console
    from hwnas.errors import HwnasError
    from hwnas.latency_models.storage.store import published_model, read_measured
    from hwnas.profiling.check import ModelOutdated, add_to_model, check_model

    place = place_of(target, space, data, precision)
    runner, name = reachable(place), place.profile.name
    measured = read_measured(place.folder)
    model = measured or published_model(name, place.space)
    again = f"hwnas latency measure --target {target}"
    again += f" --precision {precision}" if precision != "fp32" else ""
    if model is None:
        raise HwnasError(f"{name}: no latency model yet: `{again}` makes it")
    if add and measured is None:
        raise HwnasError(f"--add: the model of {name} was not measured here: `{again}` does it")
    try:
        done = check_model(
            model, place.profile, runner, place.space, place.folder, console(quiet), NETWORKS, seed
        )
    except ModelOutdated as error:
        raise HwnasError(f"{error}; `{again}` makes a new one") from None
    if add:
        add_to_model(model, done, place.folder)
    found = done.comparison
    if as_json:
        print_json({
            "verdict": found.verdict, "networks": found.networks, "inside_90": found.inside,
            "inside_90_after_factor": found.inside_after_factor, "ratio": found.factor,
            "ratio_ci95": found.factor_ci95, "reference_drift": done.drift, "notes": done.notes,
            "journal": str(done.journal),
        })  # fmt: skip
    else:
        _print(done, add, f"{again} --again")
    if found.verdict == "does not hold":
        sys.exit(1)


def _print(done: Checked, added: bool, again: str) -> None:
    from hwnas.cli.tables import print_table

    found = done.comparison
    print_table(
        ["predicted, ms", "90 % interval, ms", "measured, ms", "difference", "inside"],
        [
            [f"{one.predicted_ms:.4g}", f"{one.interval_ms[0]:.4g} to {one.interval_ms[1]:.4g}",
             f"{one.measured_ms:.4g}", f"{one.measured_ms / one.predicted_ms - 1:+.1%}",
             "yes" if one.inside else "no"]
            for one in found.networks
        ],
    )  # fmt: skip
    low, high = found.factor_ci95
    click.echo(
        f"{found.inside} of {len(found.networks)} inside the 90 % interval; measured / predicted "
        f"{found.factor:.3f} (95 % {low:.3f} to {high:.3f}); the reference runs {done.drift:+.0%} "
        "against calibration"
    )
    for note in done.notes:
        click.echo(f"note: {note}")
    said = {
        "holds": "the model holds",
        "holds with a factor": f"the model holds with a common factor of {found.factor:.3f}; "
        "`--add` learns it",
        "does not hold": f"the model does not hold: `{again}` makes a new one",
    }
    click.echo(said[found.verdict] + ("; the networks were added to it" if added else ""))
    click.echo(f"measured: {done.journal}")
