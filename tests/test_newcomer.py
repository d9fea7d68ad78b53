"""A newcomer's first ten minutes: own photos in a messy folder, an own network, an own list, runs
that are cut off, on a machine with other work to do. Only what is said is checked, no times.
"""

from __future__ import annotations

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from PIL import Image

from tests.support.data.photos import noise_image
from tests.support.reporting.sample_run import ROOT
from tools.lib.busy import busy_programs

SIZE = 32
CLASSES = ("2 ants", "10 bees", "wasps, café")
PHOTOS = 20
"""Of a class."""
PATIENCE_S = 600.0
"""Longest wait for a command, so that a test never hangs."""

NETWORK = """
import torch
from torch import nn

def small():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
    )
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The newcomer's folder, while two other programs compute."""
    folder = tmp_path_factory.mktemp("desk")
    write_photos(folder / "photos")
    (folder / "nets.py").write_text(NETWORK)
    with busy_programs(2):
        yield folder


def write_photos(folder: Path) -> None:
    """Write coloured noise in three classes, some of it turned, and what computers leave behind."""
    for label, name in enumerate(CLASSES):
        inner = folder / name / ("more" if label == 0 else "")
        inner.mkdir(parents=True)
        for row in range(PHOTOS):
            image = noise_image(100 * label + row, SIZE + 8, SIZE)
            tint = Image.new("RGB", image.size, [(255, 0, 0), (0, 255, 0), (0, 0, 255)][label])
            image, exif = Image.blend(image, tint, 0.5), Image.Exif()
            if row % 4 == 0:
                image, exif[0x0112] = image.transpose(Image.Transpose.ROTATE_90), 6
            image.save(inner / f"{row}.jpg", quality=95, exif=exif)
    (folder / "__MACOSX" / CLASSES[0]).mkdir(parents=True)
    (folder / "__MACOSX" / CLASSES[0] / "._1.jpg").write_bytes(b"\0\5\x16\7")
    (folder / CLASSES[1] / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (folder / CLASSES[1] / "page.jpg").write_text("<html>not found</html>")
    half = (folder / CLASSES[1] / "1.jpg").read_bytes()
    (folder / CLASSES[1] / "half.jpg").write_bytes(half[: len(half) // 2])


def start(desk: Path, *words: str) -> subprocess.Popen[str]:
    def undo_ignoring() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a shell ignores it in background jobs

    return subprocess.Popen(
        [sys.executable, "-m", "hwnas", *words],
        cwd=desk,
        env={
            **os.environ,
            "HWNAS_HOME": str(desk / "home"),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=undo_ignoring,
    )


def hwnas(desk: Path, *words: str) -> tuple[int, str, str]:
    """Return exit code, output and errors of a command."""
    process = start(desk, *words)
    out, errors = process.communicate(timeout=PATIENCE_S)
    assert "Traceback" not in errors, errors
    return process.returncode, out, errors


def cut_off(desk: Path, words: list[str], moment: str, number: signal.Signals) -> tuple[int, str]:
    """Send a signal once a file of the run matches ``moment``; return exit code and errors."""
    process = start(desk, *words)
    end_s = time.monotonic() + PATIENCE_S
    while not list((desk / "run").glob(moment)):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end_s, f"no {moment}"
        time.sleep(0.05)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    errors = process.communicate(timeout=PATIENCE_S)[1]
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
    return process.returncode, errors


RUN = [
    *("specialize", "--target", "simulated-phone", "--data", "photos", "--budget", "60%"),
    *("--from", "scratch", "--effort", "trial", "--out", "run"),
]


def test_all_broken_photos_are_named_before_any_work(desk: Path) -> None:
    code, _, errors = hwnas(desk, *RUN)
    assert code == 2 and not (desk / "run" / "search").exists()
    assert all(name in errors for name in ("page.jpg", "half.jpg", "--skip-broken"))
    code, out, _ = hwnas(desk, "data", "show", "photos")
    assert code == 0 and "page.jpg" in out and "half.jpg" in out
    assert all(f"\n{name} " in out for name in CLASSES) and "\n__MACOSX" not in out


def test_a_run_that_is_cut_off_twice_ends_with_a_report(desk: Path) -> None:
    code, errors = cut_off(desk, [*RUN, "--skip-broken"], "search/**/*", signal.SIGINT)
    *_, last = errors.splitlines()
    assert code == 130 and last.startswith("hwnas: interrupted; continue with: hwnas ")
    assert "about " in errors and "as fast as the first steps" in errors
    resume = shlex.split(last.partition("continue with: hwnas ")[2])
    assert resume == ["specialize", "--resume", "--out", "run"]

    code, _ = cut_off(desk, resume, "training/*/job.json", signal.SIGKILL)
    assert code == -signal.SIGKILL
    code, out, errors = hwnas(desk, *resume)
    assert code in (0, 5), errors  # 5: the file missed its budget, which the report says, too
    report = json.loads((desk / "run" / "report.json").read_bytes())
    [result] = report["results"]
    assert result["latency"]["kind"] == "simulated" and "simulated" in out
    assert result["accuracy"]["test_images"] > 0
    assert (desk / "run" / "report.html").exists()
    assert [each["name"] for each in report["dataset"]["card"]["classes"]] == sorted(CLASSES)
    assert {each["name"] for each in result["accuracy"]["classes"]} == set(CLASSES)
    for artifact in result["artifacts"]:
        assert (desk / "run" / artifact["path"]).exists()
    assert not list((desk / "run").rglob("*.tmp"))
    code, out, _ = hwnas(desk, "runs", "list")
    assert code == 0


def test_the_file_answers_an_own_list_by_the_names_of_its_classes(desk: Path) -> None:
    with (desk / "mine.csv").open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["File", "Label"])
        for name in CLASSES:
            for photo in sorted((desk / "photos" / name).rglob("[2-9].jpg")):
                rows.writerow([photo.relative_to(desk), name])
    code, out, errors = hwnas(desk, "evaluate", "run", "--data", "mine.csv", "--split", "all")
    assert code == 0, errors
    assert "on 24 images" in out and all(name in out for name in CLASSES)


def test_an_own_network_is_compiled_verified_and_measured_or_says_why_not(desk: Path) -> None:
    own = ["--input-shape", f"3x{SIZE}x{SIZE}"]
    code, out, errors = hwnas(desk, "export", "nets:smal", *own)
    assert (code, out) == (2, "") and "did you mean 'small'" in errors
    code, out, errors = hwnas(
        desk, "export", "nets:small", *own, "--format", "onnx", "--out", "own"
    )
    assert code == 0 and out.startswith("own.onnx: "), errors
    code, _, errors = hwnas(desk, "verify", "own.onnx", "--model", "nets:small", *own)
    assert code == 0, errors
    code, out, errors = hwnas(desk, "benchmark", "own.onnx", "run", "--target", "host-cpu")
    assert code in (0, 6), errors
    if code == 0:
        assert "own.onnx" in out and "model.tflite" in out
    else:  # the machine is too busy, which is said with what to do
        assert "load" in errors.splitlines()[-1] or "noisy" in errors
