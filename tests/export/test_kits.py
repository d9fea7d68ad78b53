"""The examples in ``export/kits`` predict the classes that PyTorch predicts."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from hwnas.architecture.artifact import Format
from hwnas.architecture.block import Block
from hwnas.data.images import fit_image
from hwnas.data.photos.reading import decoded, opened
from hwnas.export.compile import compile_model
from hwnas.export.metadata.input import Preprocessing
from hwnas.export.quantization.ptq import Int8
from hwnas.export.verification.verify import torch_outputs
from hwnas.nn.build import untrained
from hwnas.shipped import shipped

KITS = Path(str(shipped("export") / "kits"))
SHAPE = (3, 12, 12)
LABELS = ("ant", "bee", "cat", "dog", "eel")
BLOCKS = (Block("conv", 3, 8, 3, 2, 1, 12), Block("logits", 8, 5, 1, 1, 1, 6))


@pytest.fixture(scope="module")
def images() -> Any:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 64, (5, *SHAPE), dtype=np.uint8)
    noise[1, 0] += 150
    noise[2, 1] += 150
    noise[3, 2] += 150
    noise[4] += 150
    return noise


@pytest.fixture(scope="module")
def network(images: Any) -> nn.Module:
    """A network whose last layer tells the images apart by a wide margin."""
    torch.manual_seed(0)
    network = untrained(BLOCKS).eval()
    heads: list[torch.Tensor] = []
    linear = [part for part in network.modules() if isinstance(part, nn.Linear)][-1]
    linear.register_forward_pre_hook(lambda _, inputs: heads.append(inputs[0]))
    torch_outputs(network, normalised(images))
    features = heads[0]
    with torch.no_grad():
        centred = features - features.mean(0)
        linear.weight.copy_(torch.linalg.pinv(centred).T)
        linear.bias.copy_(-linear.weight @ features.mean(0))
    linear._forward_pre_hooks.clear()
    assert torch_outputs(network, normalised(images)).argmax(1).tolist() == [0, 1, 2, 3, 4]
    return network


def normalised(images: Any) -> Any:
    return ((images / 255 - 0.5) / 0.25).astype(np.float32)


def compiled(
    network: nn.Module, images: Any, format: Format, precision: Any, pixels: bool, folder: Path
) -> Path:
    path = folder / f"model.{format}"
    preprocessing = Preprocessing((0.5,) * 3, (0.25,) * 3, LABELS, embedded=pixels)
    inputs = images.astype(np.float32) if pixels else normalised(images)
    int8 = Int8(inputs) if precision == "int8" else None
    compile_model(network, SHAPE, path, int8=int8, preprocessing=preprocessing)
    return path


def saved(images: Any, folder: Path, suffix: str) -> list[str]:
    paths = [folder / f"{number}{suffix}" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        Image.fromarray(image.transpose(1, 2, 0)).save(path)
    return [str(path) for path in paths]


@pytest.mark.parametrize("pixels", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("format", ["onnx", "tflite"])
def test_the_python_examples_name_the_class_of_every_image(
    format: Format, precision: str, pixels: bool, network: nn.Module, images: Any, tmp_path: Path
) -> None:
    if precision == "int8":
        pytest.importorskip("ai_edge_quantizer")
    path = compiled(network, images, format, precision, pixels, tmp_path)
    script = KITS / {"onnx": "classify_onnxruntime.py", "tflite": "classify_litert.py"}[format]
    paths = saved(images, tmp_path, ".png")
    result = subprocess.run(
        [sys.executable, str(script), str(path), *paths], capture_output=True, text=True, check=True
    )
    assert [line.split()[-1] for line in result.stdout.splitlines()] == list(LABELS)


def varied_files(folder: Path) -> list[Path]:
    """Return images of several sizes, modes and orientations."""
    rng = np.random.default_rng(0)
    files: list[Path] = []
    for number, mode in enumerate(("RGB", "L", "P", "LA", "RGBA", "1", "CMYK", "I;16") * 4):
        height, width = rng.integers(5, 40, 2)
        if mode == "I;16":
            image = Image.fromarray(rng.integers(0, 65536, (height, width), dtype=np.uint16))
        else:
            noise = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            image = Image.fromarray(noise).convert(mode)
        exif = Image.Exif()
        exif[0x0112] = 1 + number % 8
        files.append(folder / f"{number}.{'jpg' if mode == 'CMYK' else 'png'}")
        image.save(files[-1], exif=exif)
    return files


@pytest.mark.parametrize("shape", [(3, 12, 12), (1, 12, 12), (3, 20, 9), (1, 7, 30)])
def test_the_examples_read_images_as_the_training_does(
    shape: tuple[int, int, int], tmp_path: Path
) -> None:
    read_pixels = runpy.run_path(str(KITS / "image_pixels.py"))["read_pixels"]
    for file in varied_files(tmp_path):
        with opened(file, file.name) as image:
            expected = fit_image(decoded(image), shape)
        np.testing.assert_array_equal(read_pixels(file, *shape), expected, file.name)


@pytest.fixture(scope="module")
def classify(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec, compiler = find_spec("ai_edge_litert"), shutil.which("cc") or shutil.which("gcc")
    if compiler is None or spec is None or spec.origin is None:
        pytest.skip("no C compiler here")
    folder = Path(spec.origin).parent
    if not (folder / "libLiteRt.so").exists():
        pytest.skip("this ai-edge-litert has no libLiteRt.so")
    program = tmp_path_factory.mktemp("kit") / "classify"
    sources = ["-Wall", "-Werror", str(KITS / "classify_litert.c"), "-o", str(program)]
    libraries = ["-lm", str(folder / "libLiteRt.so"), f"-Wl,-rpath,{folder}"]
    command = [compiler, *sources, *libraries]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return program


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_c_example_numbers_the_class_of_every_image(
    precision: str, classify: Path, network: nn.Module, images: Any, tmp_path: Path
) -> None:
    if precision == "int8":
        pytest.importorskip("ai_edge_quantizer")
    path = compiled(network, images, "tflite", precision, True, tmp_path)
    answers = [
        subprocess.run(
            [str(classify), str(path), image], capture_output=True, text=True, check=True
        ).stdout.strip()
        for image in saved(images, tmp_path, ".ppm")
    ]
    assert answers == ["0", "1", "2", "3", "4"]


def test_the_c_example_refuses_an_image_of_another_size(
    classify: Path, network: nn.Module, images: Any, tmp_path: Path
) -> None:
    path = compiled(network, images, "tflite", "fp32", True, tmp_path)
    [small] = saved(images[:1, :, :6, :6], tmp_path, ".ppm")
    result = subprocess.run([str(classify), str(path), small], capture_output=True, text=True)
    assert result.returncode == 1 and "the image has 108 values" in result.stderr
