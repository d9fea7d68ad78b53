"""`hwnas evaluate`: the accuracy of a model file on a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwnas.cli.deliver.options import input_option, labels_option
from hwnas.cli.framework.command import command, json_option, option, quiet_option
from hwnas.cli.framework.options import skip_broken_option
from hwnas.cli.framework.params import DATA, FILE, PATH
from hwnas.cli.tables import print_json, print_table

if TYPE_CHECKING:
    from hwnas.evaluation.result import ClassResult, Evaluation

SHOWN_CLASSES = 10
"""Classes in the terminal, those of the lowest accuracy; the page has all."""


@command(
    "evaluate",
    example=(
        "hwnas evaluate runs/first --data photos",
        "hwnas evaluate model.tflite --data new-photos --split all --out new-photos.html",
    ),
)
@click.argument("model", type=PATH)
@option(
    "--data",
    group="Images",
    required=True,
    type=DATA,
    help="Data set: name, folder of images, list (.csv), tar shards, .npz or .packed file.",
)
@option(
    "--split",
    group="Images",
    type=click.Choice(["test", "valid", "train", "all"]),
    default_help="test; all of a folder that the run did not use",
    help="Images of the data set, divided as for a training.",
)
@skip_broken_option("Images")
@input_option
@labels_option
@option(
    "--out",
    group="Output",
    type=FILE,
    metavar="FILE",
    default=Path("evaluation.html"),
    help="HTML page to write.",
)
@json_option
@quiet_option
def evaluate(
    model: Path,
    data: str,
    split: Any,
    skip_broken: bool,
    input_values: Any,
    labels: Path | None,
    out: Path,
    as_json: bool,
    quiet: bool,
) -> None:
    """Measure the accuracy of MODEL on labelled images, and write a page on its errors.

    MODEL is an .onnx or .tflite file, a bundle or a run folder, and runs in its own runtime. Its
    classes and those of the data are matched by their names. The page has the accuracy with its
    confidence interval, each class, the confusion matrix and the images of the highest loss.
    """
    from hwnas.console import console
    from hwnas.data.photos.labelled import ReadingOptions
    from hwnas.evaluation.classifier import find_classifier
    from hwnas.evaluation.evaluate import evaluate_model
    from hwnas.evaluation.page import page
    from hwnas.files import write_atomic

    output = console(quiet)
    options = ReadingOptions(skip_broken, output.say, output.step)
    classifier = find_classifier(model, input_values, labels)
    run = evaluate_model(classifier, data, split, options)
    if as_json:
        print_json(run.evaluation)
    else:
        _print(run.evaluation)
    write_atomic(out, page(run))  # after the result, which is not lost with a full disk
    if not as_json:
        click.echo(f"page: {out}")


def _print(evaluation: Evaluation) -> None:
    low, high = evaluation.ci95
    click.echo(
        f"accuracy {evaluation.accuracy:.1%} (95 % interval {low:.1%} to {high:.1%}) on "
        f"{evaluation.images} images: {evaluation.choice}"
    )
    for note in evaluation.notes:
        click.echo(f"note: {note}")
    if evaluation.skipped:
        click.echo(f"images that could not be read: {evaluation.skipped}")
    click.echo(f"mean accuracy of the classes {evaluation.balanced_accuracy:.1%}")
    if evaluation.top5_accuracy is not None:
        click.echo(f"top-5 accuracy {evaluation.top5_accuracy:.1%}")
    shown = evaluation.classes[:SHOWN_CLASSES]
    print_table(("class", "taken for", "images", "accuracy", "precision"), map(_cells, shown), 2)
    more = len(evaluation.classes) - len(shown)
    if more:
        click.echo(f"{more} more classes are on the page")


def _cells(result: ClassResult) -> list[str]:
    confused = f"{result.confused_with} ({result.confused})" if result.confused else "–"  # noqa: RUF001
    precision = "–" if result.precision is None else f"{result.precision:.1%}"  # noqa: RUF001
    return [result.name, confused, str(result.images), f"{result.recall:.1%}", precision]
