"""A whole run on a realistic folder: unusual names of classes, grey images among coloured ones.

Every class keeps its name from the folder to the answer of the bundle's script.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from hwnas.cli.main import cli
from hwnas.data.datasets import load_dataset
from tests.support.data.photos import noise_image
from tests.support.reporting.sample_run import make_small

CLASSES = ("2", "10", "-x", "<b>bold", "a, b", 'it\'s "so"', "日本")
COLOURS = ("red", "lime", "blue", "yellow", "cyan", "magenta", "white")
GREY = "日本"
"""The class whose photos are stored without colour."""
PHOTOS = 15
SIZE = 16


def call(*words: str) -> Result:
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.stderr or result.exception
    return result


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with photos, the run on them, and its bundle."""
    folder = tmp_path_factory.mktemp("messy")
    write_photos(folder / "photos")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HWNAS_HOME", str(folder / "home"))
        make_small(patch)
        run = ["--data", str(folder / "photos"), "--target", "simulated-phone", "--threads", "1"]
        call(
            "specialize",
            *run,
            "--from",
            "scratch",
            "--budget",
            "50%",
            "--quiet",
            "--out",
            str(folder / "run"),
        )
        call("deploy", str(folder / "run"), "--no-device", "--out", str(folder / "bundle"))
    yield folder


def write_photos(folder: Path) -> None:
    for label, (name, colour) in enumerate(zip(CLASSES, COLOURS, strict=True)):
        (folder / name).mkdir(parents=True)
        for row in range(PHOTOS):
            noise = noise_image(100 * label + row, SIZE, SIZE)
            image = Image.blend(noise, Image.new("RGB", noise.size, colour), 0.7)
            image = image.convert("L") if name == GREY else image
            image.save(folder / name / f"{row} photo.png")
    odd = os.fsencode(folder / "10") + b"/caf\xe9.png"
    with open(odd, "wb") as file:
        Image.new("RGB", (SIZE, SIZE), "lime").save(file, format="PNG")


def test_grey_photos_among_colour_are_three_equal_channels(desk: Path) -> None:
    data = load_dataset(str(desk / "photos"))
    assert data.input_shape == (3, SIZE, SIZE)
    parts = [part.loaded() for part in (data.train, data.valid, data.test)]
    grey = data.classes.index(GREY)
    for part in parts:
        images = part.images[part.labels == grey]
        assert (images[:, 0] == images[:, 1]).all() and (images[:, 1] == images[:, 2]).all()
    assert sum(len(part.labels) for part in parts) == len(CLASSES) * PHOTOS + 1


def test_files_bundle_and_report_name_the_classes_in_one_order(desk: Path) -> None:
    labels = json.loads((desk / "run/export/manifest.json").read_bytes())["labels"]
    assert sorted(labels) == sorted(CLASSES)
    assert (desk / "bundle/labels.txt").read_text("utf-8").splitlines() == labels
    report = json.loads((desk / "run/report.json").read_bytes())
    assert [each["name"] for each in report["dataset"]["card"]["classes"]] == labels


def test_names_are_text_on_the_page_and_no_markup(desk: Path) -> None:
    page = (desk / "run/report.html").read_text("utf-8")
    assert "<b>bold" not in page and "&lt;b&gt;bold" in page


@pytest.mark.parametrize("name", CLASSES)
def test_the_script_of_the_bundle_answers_with_the_name_of_the_folder(
    desk: Path, name: str
) -> None:
    photos = sorted((desk / "photos" / name).iterdir())
    script = [sys.executable, str(desk / "bundle/run.py"), *map(str, photos)]
    done = subprocess.run(script, capture_output=True, check=True, cwd=desk)
    answers = [answer["label"] for answer in json.loads(done.stdout).values()]
    assert len(answers) == PHOTOS + (name == "10")
    assert answers.count(name) > 0.7 * len(answers), answers
