"""What people write without hwnas: fine-tune a network of timm with PyTorch, export it.

    python -m tools.peers.plain_tuning --photos DIR --budget-ms MS --cpu-s SECONDS --out FOLDER

EfficientNet-Lite0 with its ImageNet weights learns at the largest resolution whose file keeps the
budget: AdamW, a warm-up and a cosine, label smoothing, random crops and flips, the best epoch on
the validation photos. It may take SECONDS of the processor. The file is made by `torch.onnx`. Only
the weights, the split of the photos and the measurement are hwnas's. Writes ``result.json``.
"""

from __future__ import annotations

import functools
import math
import tempfile
from pathlib import Path
from time import process_time
from typing import Any

import click
import msgspec
import numpy as np
import onnxruntime
import timm
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms import v2

import hwnas
from hwnas.data.datasets import load_dataset
from hwnas.files import write_json
from hwnas.pretrained.load import load_source
from hwnas.pretrained.sources import Preprocessing
from hwnas.pretrained.weights import COUNTER
from tools.lib.options import PATH

NETWORK, TIMM_NETWORK, TARGET = "efficientnet_lite0", "tf_efficientnet_lite0", "host-cpu"
SIZES = range(160, 48, -8)
BATCH, RATE, WEIGHT_DECAY, SMOOTHING = 32, 1e-3, 0.05, 0.1
MIN_CROP_AREA = 0.35
WARM_UP = 0.1
"""Warm-up as a share of the steps."""
RESERVED = 0.05
"""Share of the time that the export and the test take at most."""


class Tuned(msgspec.Struct, frozen=True):
    """Result of the script: ``result.json``."""

    pixels: int
    epochs: int
    cpu_s: float
    """Processor time of training and validation."""
    validation: float
    test: float
    """Test accuracy of the file; `validation` is that of the network on the validation photos."""


@click.command()
@click.option("--photos", type=PATH, required=True)
@click.option("--budget-ms", type=float, required=True)
@click.option("--cpu-s", type=float, required=True, help="Processor time.")
@click.option("--out", type=PATH, required=True)
@click.option("--seed", default=0, show_default=True)
def main(photos: Path, budget_ms: float, cpu_s: float, out: Path, seed: int) -> None:
    """Fine-tune within the budget and the time."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    data = load_dataset(str(photos), input_shape=(3, SIZES[0], SIZES[0]))
    pixels = largest_size(budget_ms)
    network = _network(data.num_classes)
    splits = [_images(split) for split in (data.train, data.valid, data.test)]
    begin = process_time()
    epochs, validation = tune(network, splits[0], splits[1], pixels, cpu_s * (1 - RESERVED))
    spent_s = process_time() - begin
    file = export(network, pixels, out / "model.onnx")
    result = Tuned(pixels, epochs, round(spent_s, 1), validation, file_accuracy(file, splits[2]))
    write_json(out / "result.json", result)
    click.echo(result)


def largest_size(budget_ms: float) -> int:
    """Return the largest resolution at which the file takes at most the budget."""
    with tempfile.TemporaryDirectory() as folder:
        files = [export(_network(10), size, Path(folder) / f"{size}.onnx") for size in SIZES]
        rows = hwnas.benchmark(files, target=TARGET).results
    fitting = [size for size, row in zip(SIZES, rows, strict=True) if row.median_ms <= budget_ms]
    return max(fitting, default=SIZES[-1])


def tune(
    network: nn.Module, train: TensorDataset, valid: TensorDataset, pixels: int, cpu_s: float
) -> tuple[int, float]:
    """Train for as many epochs as the time allows; return their number and the best accuracy,
    whose weights the network has then."""
    changes = v2.Compose(
        [v2.RandomResizedCrop(pixels, (MIN_CROP_AREA, 1.0)), v2.RandomHorizontalFlip()]
    )
    loader = DataLoader(train, BATCH, shuffle=True, drop_last=True)
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=WEIGHT_DECAY)
    begin = process_time()
    _steps(network, optimizer, [next(iter(loader))] * 2, changes, lambda step: 0.0)
    step_s = (process_time() - begin) / 2
    begin = process_time()
    accuracy(network, valid, pixels)
    valid_s = process_time() - begin
    epochs = max(1, int((cpu_s - 2 * step_s - valid_s) / (step_s * len(loader) + valid_s)))
    total = epochs * len(loader)
    best, best_state = -1.0, network.state_dict()
    for epoch in range(epochs):
        first = epoch * len(loader)
        _steps(
            network, optimizer, loader, changes, lambda step, first=first: rate(first + step, total)
        )
        if (now := accuracy(network, valid, pixels)) > best:
            best = now
            best_state = {key: value.clone() for key, value in network.state_dict().items()}
    network.load_state_dict(best_state)
    return epochs, best


def rate(step: int, total: int) -> float:
    """Return the learning rate of a step: linear to `RATE`, then a cosine to zero."""
    warm_up = WARM_UP * total
    if step < warm_up:
        return RATE * (step + 1) / warm_up
    return RATE * 0.5 * (1 + math.cos(math.pi * (step - warm_up) / (total - warm_up)))


def _steps(
    network: nn.Module, optimizer: torch.optim.Optimizer, batches: Any, changes: Any, rate_of: Any
) -> None:
    network.train()
    for step, (images, labels) in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = rate_of(step)
        pixels = torch.stack([changes(image) for image in images])
        loss = nn.functional.cross_entropy(
            network(normalised(pixels)), labels, label_smoothing=SMOOTHING
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.inference_mode()
def accuracy(network: nn.Module, data: TensorDataset, pixels: int) -> float:
    network.eval()
    right = 0
    for images, labels in DataLoader(data, BATCH):
        logits = network(normalised(v2.functional.resize(images, [pixels, pixels])))
        right += int((logits.argmax(1) == labels).sum())
    return right / len(data)


def normalised(images: Tensor) -> Tensor:
    own = preprocessing()
    return v2.functional.normalize(images.float() / 255, list(own.mean), list(own.std))


@functools.cache
def preprocessing() -> Preprocessing:
    return load_source(NETWORK).preprocessing


def export(network: nn.Module, pixels: int, file: Path) -> Path:
    image = torch.zeros(1, 3, pixels, pixels)
    torch.onnx.export(network.eval(), (image,), str(file), verbose=False, external_data=False)
    return file


def file_accuracy(file: Path, data: TensorDataset) -> float:
    """Return the accuracy of a model file of one image, in ONNX Runtime."""
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    [taken] = session.get_inputs()
    pixels = taken.shape[-1]
    right = 0
    for image, label in data:
        resized = v2.functional.resize(image[None], [pixels, pixels])
        [logits] = session.run(None, {taken.name: normalised(resized).numpy()})
        right += int(np.asarray(logits).argmax() == int(label))
    return right / len(data)


def _network(classes: int) -> nn.Module:
    """Return timm's network with the weights of the package, and a new classifier."""
    network = timm.create_model(TIMM_NETWORK, num_classes=classes)
    state = network.state_dict()
    names = [name for name in state if not name.endswith(COUNTER)][:-2]
    weights = list(load_source(NETWORK).weights.values())[:-2]  # both in the order of the layers
    network.load_state_dict(state | dict(zip(names, weights, strict=True)))
    return network


def _images(split: Any) -> TensorDataset:
    return TensorDataset(
        torch.from_numpy(np.asarray(split.images[:])), torch.from_numpy(np.asarray(split.labels))
    )


if __name__ == "__main__":
    main()
