"""Models as users name them: a file, a bundle or a run folder, ours or of another program."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from hwnas.data.photos.labelled import ReadingOptions
from hwnas.errors import ExportError, HwnasError, InvalidFile, UsageError
from hwnas.evaluation.classifier import NORMALISATIONS, find_classifier
from hwnas.evaluation.predict import predict_files
from hwnas.report.report import Report
from hwnas.report.schema import ArtifactRow
from tests.conftest import NetWriter
from tests.support.data import colours
from tests.support.reporting.sample_report import fleet_report, measured_report


def artifact(path: str) -> ArtifactRow:
    return ArtifactRow(path=path, format="onnx", precision="fp32", sha256="", size_bytes=1)


def run_folder(folder: Path, report: Report, *files: str) -> Path:
    """Write the report of a run that delivered a file for each of its results."""
    results = tuple(
        msgspec.structs.replace(result, artifacts=(artifact(file),))
        for result, file in zip(report.results, files, strict=True)
    )
    folder.mkdir()
    msgspec.structs.replace(report, results=results).write(folder)
    return folder


def test_a_run_folder_means_the_file_that_it_delivered(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", measured_report(), "export/model.onnx")
    file = colours.colour_file(run / "export" / "model.onnx")
    classifier = find_classifier(run)
    assert classifier.path == file and classifier.labels == colours.COLOURS
    assert classifier.input_shape == colours.SHAPE
    dataset = measured_report().dataset
    assert dataset is not None and classifier.trained_on == dataset
    assert find_classifier(file).trained_on == dataset
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(file.read_bytes())
    assert find_classifier(copy).trained_on is None


def test_a_run_of_several_results_names_their_files(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", fleet_report(), "a/m.onnx", "b/m.onnx", "c/m.onnx")
    with pytest.raises(UsageError, match=r"several targets or budgets; name a file: .*/a/m\.onnx"):
        find_classifier(run)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ((), r"expected a model file .*, a bundle or the folder of a run"),
        (("config.toml",), "the run has not finished"),
        (("manifest.json",), r"expected a model file .*, a bundle or the folder of a run"),
    ],
)
def test_another_folder_is_an_error(tmp_path: Path, files: tuple[str, ...], message: str) -> None:
    for name in files:
        (tmp_path / name).write_text("")
    with pytest.raises(UsageError, match=message):
        find_classifier(tmp_path)


def test_a_pointer_of_git_lfs_is_named(tmp_path: Path) -> None:
    for suffix in ("onnx", "tflite"):
        file = tmp_path / f"net.{suffix}"
        file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
        with pytest.raises(InvalidFile, match="is a pointer of Git LFS"):
            find_classifier(file)


def test_a_file_of_another_program_needs_its_input_stated(tmp_path: Path) -> None:
    file = colours.foreign_file(tmp_path / "net.onnx")
    with pytest.raises(UsageError, match=r"net\.onnx: does not state .* --input, one of pixels, 0"):
        find_classifier(file)
    classifier = find_classifier(file, "imagenet")
    assert classifier.normalisation == NORMALISATIONS["imagenet"] and not classifier.labels


def test_labels_are_as_many_as_outputs(tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb\n")
    classifier = find_classifier(colours.colour_file(tmp_path / "net.onnx"), labels=labels)
    image = colours.write_colour(tmp_path / "a.png", colours.RED)
    with pytest.raises(UsageError, match="has 3 outputs, but there are 2 labels"):
        list(predict_files(classifier, [image], ReadingOptions()))
    labels.write_text("\n")
    with pytest.raises(InvalidFile, match=r"labels\.txt: has no lines"):
        find_classifier(tmp_path / "net.onnx", labels=labels)


@pytest.mark.parametrize(
    ("name", "content", "kind", "message"),
    [
        ("net.onnx", None, InvalidFile, "no such file"),
        ("net.onnx", b"no model", InvalidFile, "not a readable .onnx model"),
        ("net.tflite", b"no model at all", InvalidFile, "not a readable .tflite model"),
        ("net.pth", b"", UsageError, "is a network, not a model file; `hwnas export"),
    ],
)
def test_what_is_no_model_is_one_line(
    tmp_path: Path, name: str, content: bytes | None, kind: type[HwnasError], message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(kind, match=message):
        find_classifier(tmp_path / name, "0..1")


def test_outputs_that_are_not_finite_are_an_error(tmp_path: Path) -> None:
    file = colours.colour_file(tmp_path / "net.onnx", std=2e-39)
    image = colours.write_colour(tmp_path / "a.png", colours.RED)
    with pytest.raises(ExportError, match="an output is not a finite number"):
        list(predict_files(find_classifier(file), [image], ReadingOptions()))


def test_an_input_that_is_no_image_is_an_error(tmp_path: Path, write_net: NetWriter) -> None:
    import onnx

    model = onnx.load(str(write_net(tmp_path / "net.onnx")))
    for place, size in enumerate((1, 16, 16, 3)):
        model.graph.input[0].type.tensor_type.shape.dim[place].dim_value = size
    del model.graph.node[:]
    model.graph.node.append(onnx.helper.make_node("Identity", ["x0"], ["x2"]))
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    onnx.save(model, str(tmp_path / "nhwc.onnx"))
    with pytest.raises(
        InvalidFile, match=r"its input is \[1, 16, 16, 3\], expected \[1, C, H, W\]"
    ):
        find_classifier(tmp_path / "nhwc.onnx", "0..1")
