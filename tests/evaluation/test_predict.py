"""Predictions: those of a network known by hand, and those of a bundle's own program."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import hwnas
from hwnas.architecture.artifact import Format
from hwnas.data.datasets import VALID_SHARE, load_dataset
from hwnas.data.photos.labelled import TEST, ReadingOptions
from hwnas.data.photos.reading import ORIENTATION
from hwnas.data.photos.sources.find import find_photos
from hwnas.deploy.bundle import write_bundle
from hwnas.deploy.samples import data_samples, image_input
from hwnas.errors import InvalidFile
from hwnas.evaluation.classifier import find_classifier
from hwnas.evaluation.predict import Prediction, predict_files
from tests.support.data import colours
from tests.support.data.photos import noise_image

FORMATS = pytest.mark.parametrize("format", ["onnx", "tflite"])


def scores(prediction: Prediction) -> dict[str, float]:
    return {each.name: each.score for each in prediction.classes}


def by_hand(colour: colours.Colour) -> dict[str, float]:
    return dict(zip(colours.COLOURS, colours.colour_scores(colour), strict=True))


@FORMATS
@pytest.mark.parametrize("embedded", [False, True])
def test_scores_are_the_softmax_of_what_the_network_computes(
    tmp_path: Path, format: Format, embedded: bool
) -> None:
    model = colours.colour_file(tmp_path / f"net.{format}", embedded=embedded)
    file = colours.write_colour(tmp_path / "a.png", colours.REDDISH)
    [prediction] = hwnas.predict(model, [file])
    assert [each.name for each in prediction.classes] == ["red", "green", "blue"]
    assert scores(prediction) == pytest.approx(by_hand(colours.REDDISH), abs=1e-5)
    assert prediction.image == str(file)


def test_an_int8_file_takes_the_same_images(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_quantizer")
    model = colours.colour_file(tmp_path / "net.tflite", int8=True)
    files = [colours.write_colour(tmp_path / f"{c}.png", c) for c in (colours.RED, colours.BLUE)]
    red, blue = hwnas.predict(model, files)
    assert (red.classes[0].name, blue.classes[0].name) == ("red", "blue")
    assert red.classes[0].score == pytest.approx(by_hand(colours.RED)["red"], abs=0.02)


@FORMATS
def test_probabilities_of_other_programs_are_taken_as_they_are(
    tmp_path: Path, format: Format
) -> None:
    model = colours.foreign_file(tmp_path / f"net.{format}", softmax=True)
    file = colours.write_colour(tmp_path / "a.png", colours.REDDISH)
    (tmp_path / "names.txt").write_text("\n".join(colours.COLOURS) + "\n")
    [named] = hwnas.predict(model, [file], input_values="0..1", labels=tmp_path / "names.txt")
    expected = colours.colour_scores(colours.REDDISH, mean=0.0, std=1.0)
    assert scores(named) == pytest.approx(
        dict(zip(colours.COLOURS, expected, strict=True)), abs=1e-5
    )
    [numbered] = hwnas.predict(model, [file], input_values="0..1")
    assert numbered.classes[0].name == "2"


def test_arrays_have_the_scores_of_their_files(tmp_path: Path) -> None:
    model = colours.colour_file(tmp_path / "net.onnx")
    images = np.stack([np.asarray(noise_image(seed)) for seed in range(3)])
    for number, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        np.save(tmp_path / f"{number}.npy", image.transpose(2, 0, 1))
    expected = [scores(each) for each in hwnas.predict(model, images)]
    for suffix in ("png", "npy"):
        files = [tmp_path / f"{number}.{suffix}" for number in range(3)]
        assert [scores(each) for each in hwnas.predict(model, files)] == expected


@FORMATS
def test_original_files_have_the_outputs_of_the_program_in_the_bundle(
    tmp_path: Path, format: Format
) -> None:
    folder = tmp_path / "photos"
    for row in range(24):
        file = folder / colours.COLOURS[row % 3] / f"{row}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[ORIENTATION] = 1 + row % 8
        noise_image(row, 14 + row % 7, 17).save(file, exif=exif, quality=95)
    data = load_dataset(str(folder), input_shape=colours.SHAPE)
    model = colours.colour_file(tmp_path / f"net.{format}", mean=data.mean[0], std=data.std[0])
    bundle, written = tmp_path / "bundle", tmp_path / "outputs.npz"
    samples, image = data_samples(data), image_input(data)
    write_bundle(bundle, model, samples, "host-cpu", image=image, labels=data.classes)
    run_bundle(bundle, ["--outputs", str(written)])
    expected = np.load(written)["output_0"][:, 0].tolist()

    photos = find_photos(str(folder), VALID_SHARE)
    assert photos is not None
    files = [photos.photos.name(row) for row in np.flatnonzero(photos.parts == TEST).tolist()]
    assert 3 <= len(files) == len(expected) < 24
    for prediction, outputs in zip(
        hwnas.predict(tmp_path / "bundle", files), expected, strict=True
    ):
        own = {each.name: each.output for each in prediction.classes}
        assert own == pytest.approx(dict(zip(data.classes, outputs, strict=True)), abs=1e-5)

    by_file = json.loads(run_bundle(tmp_path / "bundle", files))
    for prediction in hwnas.predict(tmp_path / "bundle", files):
        result = by_file[prediction.image]
        assert result["label"] == prediction.classes[0].name
        own = {each.name: each.output for each in prediction.classes}
        assert own == pytest.approx(dict(zip(data.classes, result["outputs"], strict=True)), abs=0)


def run_bundle(folder: Path, files: Sequence[str] = ()) -> str:
    command = [sys.executable, str(folder / "run.py"), *files]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_names_that_are_no_text_are_escaped(tmp_path: Path) -> None:
    model = colours.colour_file(tmp_path / "net.onnx")
    file = colours.write_colour(tmp_path / "a.png", colours.RED)
    odd = file.rename(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9\n.png"))
    [prediction] = hwnas.predict(model, [odd])
    assert prediction.image == str(tmp_path / "caf\\xe9\\n.png")


def test_a_broken_image_is_named_or_left_out(tmp_path: Path) -> None:
    classifier = find_classifier(colours.colour_file(tmp_path / "net.onnx"))
    good, bad = colours.write_colour(tmp_path / "a.png", colours.RED), tmp_path / "b.png"
    bad.write_bytes(good.read_bytes()[:40])
    with pytest.raises(InvalidFile, match=r"b\.png: not a readable image .*--skip-broken"):
        list(predict_files(classifier, [good, bad, good], ReadingOptions()))
    messages: list[str] = []
    options = ReadingOptions(skip_broken=True, say=messages.append)
    predictions = list(predict_files(classifier, [good, bad, good], options))
    assert [each.image for each in predictions] == [str(good), str(good)]
    assert len(messages) == 1 and "b.png" in messages[0]


def test_a_missing_file_a_folder_and_a_wrong_array_are_one_line(tmp_path: Path) -> None:
    model = colours.colour_file(tmp_path / "net.onnx")
    np.save(tmp_path / "floats.npy", np.zeros((3, 8, 8)))
    for name, why in (
        ("no.png", "no such file$"),
        (".", "is a folder, expected an image$"),
        ("floats.npy", r"is float64 \[3, 8, 8\], expected uint8 pixels \[C, H, W\]"),
    ):
        with pytest.raises(InvalidFile, match=why):
            hwnas.predict(model, [tmp_path / name])
