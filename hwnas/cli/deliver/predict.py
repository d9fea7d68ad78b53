"""`hwnas predict`: the classes of images by a model file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hwnas.cli.deliver.options import input_option, labels_option
from hwnas.cli.framework.command import command, json_option
from hwnas.cli.framework.options import skip_broken_option
from hwnas.cli.framework.params import PATH
from hwnas.cli.tables import print_json

if TYPE_CHECKING:
    from hwnas.evaluation.predict import Prediction


@command(
    "predict",
    example=(
        "hwnas predict runs/first photo.jpg",
        "hwnas predict mobilenet.tflite photos/*.jpg --input imagenet --labels labels.txt",
    ),
)
@click.argument("model", type=PATH)
@click.argument("images", type=PATH, nargs=-1, required=True, metavar="IMAGE...")
@skip_broken_option("Images")
@input_option
@labels_option
@json_option
def predict(
    model: Path,
    images: tuple[Path, ...],
    skip_broken: bool,
    input_values: Any,
    labels: Path | None,
    as_json: bool,
) -> None:
    """Print the five most probable classes of each IMAGE with their probabilities.

    MODEL is an .onnx or .tflite file, a bundle or a run folder, and runs in its own runtime. Images
    are turned, resized and normalised as in the training; an .npy file has uint8 pixels [C, H, W],
    as the run.py of a bundle takes them.
    """
    from hwnas.console import PlainConsole
    from hwnas.data.photos.labelled import ReadingOptions
    from hwnas.evaluation.classifier import find_classifier
    from hwnas.evaluation.predict import predict_files

    classifier = find_classifier(model, input_values, labels)
    say = PlainConsole().say
    if not classifier.labels:
        say(f"{classifier.path}: names no classes; --labels FILE names them")
    predictions = predict_files(classifier, images, ReadingOptions(skip_broken, say))
    if as_json:
        print_json({"model": str(classifier.path), "predictions": list(predictions)})
        return
    for prediction in predictions:
        click.echo(_line(prediction))


def _line(prediction: Prediction) -> str:
    classes = ", ".join(f"{each.name} {each.score:.1%}" for each in prediction.classes)
    return f"{prediction.image}: {classes}"
