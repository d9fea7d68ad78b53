"""Evaluations whose numbers are counted by hand, and the page."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import hwnas
from hwnas.data.photos.labelled import ReadingOptions
from hwnas.errors import InvalidFile, UsageError
from hwnas.evaluation.classifier import find_classifier
from hwnas.evaluation.confusion import confusion_svg
from hwnas.evaluation.evaluate import EvaluationRun, evaluate_model
from hwnas.evaluation.page import confused_pairs, page
from hwnas.evaluation.result import Confusion, Scores, Source, summarise
from hwnas.measurement.statistics import wilson_interval
from tests.support.data import colours
from tests.support.data.colours import BLUE, GREEN, RED, REDDISH

MIXED = {"blue": [BLUE] * 3, "green": [GREEN, REDDISH], "red": [RED] * 4 + [BLUE]}
"""Two mistakes of ten: a green image looks red, but little; a red image looks blue."""


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    return colours.colour_folder(tmp_path / "mixed", MIXED)


def evaluated(model: Path, data: Path) -> EvaluationRun:
    return evaluate_model(find_classifier(model), str(data), "all", ReadingOptions())


@pytest.mark.parametrize("format", ["onnx", "tflite"])
def test_counts_are_those_made_by_hand(tmp_path: Path, mixed: Path, format: str) -> None:
    result = evaluated(colours.colour_file(tmp_path / f"net.{format}"), mixed).evaluation
    assert (result.images, result.accuracy) == (10, 0.8)
    assert result.ci95 == wilson_interval(0.8, 10)
    assert result.balanced_accuracy == pytest.approx((1 + 1 / 2 + 4 / 5) / 3)
    assert result.top5_accuracy is None
    assert result.confusion.rows == result.confusion.columns == colours.COLOURS
    assert result.confusion.counts == [[3, 0, 0], [0, 1, 1], [1, 0, 4]]
    by_recall = [(each.name, each.recall, each.precision) for each in result.classes]
    assert by_recall == [("green", 0.5, 1.0), ("red", 0.8, 0.8), ("blue", 1.0, 0.75)]
    assert [(each.confused_with, each.confused) for each in result.classes] == [
        ("red", 1),
        ("blue", 1),
        (None, 0),
    ]


def test_the_worst_image_has_the_lowest_probability_of_its_class(
    tmp_path: Path, mixed: Path
) -> None:
    run = evaluated(colours.colour_file(tmp_path / "net.onnx"), mixed)
    first, second, *others = run.evaluation.worst
    assert (first.label, first.predicted) == ("red", "blue")
    assert Path(first.image) == mixed / "red" / "4.png"
    blue, _, red = colours.colour_scores(BLUE)
    assert first.label_score == pytest.approx(red, rel=1e-4)
    assert first.score == pytest.approx(blue, rel=1e-4)
    assert first.loss == pytest.approx(-np.log(red), rel=1e-4)
    assert (second.label, second.predicted) == ("green", "red")
    assert all(each.label == each.predicted for each in others) and len(others) == 8
    assert len(run.thumbnails) == 10


def test_classes_are_matched_by_name_not_by_order(tmp_path: Path) -> None:
    data = colours.colour_folder(tmp_path / "two", {"red": [RED] * 2, "green": [GREEN, BLUE]})
    result = evaluated(colours.colour_file(tmp_path / "net.onnx"), data).evaluation
    assert result.accuracy == 0.75
    assert result.notes == ("two has 2 of the model's 3 classes",)
    assert result.confusion == Confusion(
        ("green", "red"), ("green", "red", "blue"), [[1, 0, 1], [0, 2, 0]]
    )


def test_a_file_without_names_takes_those_of_the_data(tmp_path: Path, mixed: Path) -> None:
    model = colours.foreign_file(tmp_path / "net.tflite")
    result = hwnas.evaluate(model, mixed, split="all", input_values="0..1")
    assert result.accuracy == 0.8 and len(result.notes) == 1
    few = colours.colour_folder(tmp_path / "few", {"a": [RED], "b": [RED]})
    with pytest.raises(UsageError, match="has 3 outputs without names, few has 2 classes"):
        hwnas.evaluate(model, few, input_values="0..1")


def test_a_broken_image_is_named_or_left_out_and_counted(tmp_path: Path, mixed: Path) -> None:
    model = colours.colour_file(tmp_path / "net.onnx")
    (mixed / "red" / "4.png").write_bytes(b"no image")
    with pytest.raises(InvalidFile, match=r"red/4\.png: not a readable image"):
        hwnas.evaluate(model, mixed, split="all")
    result = hwnas.evaluate(model, mixed, split="all", skip_broken=True)
    assert (result.images, result.skipped, result.accuracy) == (9, 1, 8 / 9)


def test_the_page_is_self_contained_and_escapes_names(tmp_path: Path) -> None:
    name = "<b>red & 'green'"
    data = colours.colour_folder(tmp_path / "data", {"blue": [BLUE] * 3, name: [BLUE, RED]})
    model = colours.colour_file(tmp_path / "net.onnx", labels=("blue", "green", name))
    text = page(evaluated(model, data))
    assert "<b>red" not in text and "&lt;b&gt;red &amp;" in text
    assert not re.search(r'(src|href)="(?!data:)', text) and "default-src 'none'" in text
    assert text.count('<img src="data:image/png;base64,') == 5
    assert "80.0 %" in text and "4 of 5 images" in text


def test_the_matrix_of_a_hundred_classes_has_all_its_cells_and_names() -> None:
    names = tuple(f"class {number}" for number in range(100))
    counts = np.diag(np.full(100, 7))
    counts[3, 96] = 2
    confusion = Confusion(names, names, counts.tolist())
    drawing = confusion_svg(confusion)
    assert drawing.count("<rect") == 1 + 101
    assert "<title>class 3 as class 96: 2 of 9 (22.2%)</title>" in drawing
    assert drawing.count("<text") == 200
    width = re.search(r'width="(\d+)"', drawing)
    assert width is not None and int(width[1]) < 1136
    assert [pair[:4] for pair in confused_pairs(confusion)] == [("class 3", "class 96", 2, 9)]


def test_a_thousand_classes_fit_into_a_drawing_without_names() -> None:
    names = tuple(map(str, range(1000)))
    drawing = confusion_svg(Confusion(names, names, np.eye(1000, dtype=int).tolist()))
    assert drawing.count("<text") == 0 and drawing.count("<rect") == 1001


def test_top_5_accuracy_counts_images_whose_class_is_among_the_five_largest() -> None:
    names = tuple(map(str, range(20)))
    probabilities = np.tile(np.linspace(1, 0, 20, dtype=np.float32), (4, 1))
    scores = Scores(["a", "b", "c", "d"], np.array([0, 4, 5, 19]), probabilities)
    result = summarise(Source("m", "r", "d", "c", 0, ()), scores, names)
    assert (result.accuracy, result.top5_accuracy) == (0.25, 0.5)
    assert [each.image for each in result.worst] == ["d", "c", "b", "a"]
