"""From a trained network to its int8 file, with no more loss of accuracy than asked.

First post-training quantisation. Where the file loses more than ``--max-drop`` on validation
images, the network is trained on for a few epochs with its values rounded; that keeps every layer
in int8. Where that is not enough, the most sensitive layers stay in float32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from torch import nn

from hwnas.architecture.architecture import Architecture
from hwnas.architecture.artifact import Artifact, Format
from hwnas.data.datasets import Dataset, Split, normalise
from hwnas.export.compile import compile_model
from hwnas.export.metadata.preprocessing import Preprocessing, taking_pixels
from hwnas.export.quantization.ptq import CALIBRATION_IMAGES, quantization_of
from hwnas.export.quantization.qat import quantisation_aware
from hwnas.export.quantization.sensitivity import Model, drop, layers_to_keep
from hwnas.files import write_json
from hwnas.networks.trained import trained_network
from hwnas.nn.build import Network
from hwnas.specialize.context import RunContext
from hwnas.training.checkpoint import load_checkpoint, save_checkpoint
from hwnas.training.loader import as_data, derived_seed
from hwnas.training.loop import RECALIBRATED, TrainingPlan, recalibrate, train

Array = np.ndarray[Any, Any]


PEAK_LEARNING_RATE = 0.01
"""Of the fine-tuning: a tenth of the training's."""


class Decision(msgspec.Struct, frozen=True):
    """How a network's int8 file is made: ``int8-FORMAT.json`` beside its weights."""

    drop: float
    """Accuracy that plain post-training quantisation loses on validation images."""
    tuned_epochs: int = 0
    """Of fine-tuning; its weights are in ``int8-FORMAT.safetensors``."""
    tuned_drop: float | None = None
    """What is lost after it, against the network as trained in float32."""
    float_layers: tuple[str, ...] = ()


def compile_trained(
    run: RunContext, architecture: Architecture, format: Format, path: Path
) -> Artifact:
    """Compile a trained network in its precision; the same network gives the same file again."""
    folder = run.folder.path / "training" / architecture.digest
    said = preprocessing(run)
    images, labels = taken(run, run.dataset.test.images), run.dataset.test.labels
    network = trained_network(architecture, folder)
    shape = architecture.input_shape
    if architecture.precision == "fp32":
        return compile_model(
            network, shape, format, path, images, labels, architecture, preprocessing=said
        )
    decision = _decided(run, network, format, folder)
    if decision.tuned_epochs:
        weights, _ = load_checkpoint(folder / f"int8-{format}.safetensors")
        network.load_state_dict(weights)
    return compile_model(
        network,
        shape,
        format,
        path,
        images,
        labels,
        architecture,
        precision="int8",
        calibration=_calibration_images(run),
        float_layers=decision.float_layers,
        preprocessing=said,
    )


def preprocessing(run: RunContext) -> Preprocessing:
    """Return what a file of this run takes."""
    data = run.dataset
    return Preprocessing(data.mean, data.std, data.classes, run.spec.pixels)


def taken(run: RunContext, images: Array) -> Array:
    """Return uint8 images as a file of this run takes them."""
    return as_taken(run.dataset, images, run.spec.pixels)


def as_taken(dataset: Dataset, images: Array, pixels: bool) -> Array:
    """Return uint8 images as they are, in float32, for a file of ``pixels``; else normalised."""
    return images.astype(np.float32) if pixels else normalise(images, dataset)


def _calibration_images(run: RunContext) -> Array:
    """Return training images ``[N, C, H, W]``, drawn at random, as the file takes them."""
    rng = np.random.default_rng(derived_seed(run.spec.seed, "calibration"))
    train = run.dataset.train
    return taken(run, train.images[rng.permutation(len(train.labels))[:CALIBRATION_IMAGES]])


def _decided(run: RunContext, network: Network, format: Format, folder: Path) -> Decision:
    """Return what was decided before, or decide; ``network`` may be changed by it."""
    path = folder / f"int8-{format}.json"
    if path.exists():
        return msgspec.json.decode(path.read_bytes(), type=Decision)
    decision = _decide(run, network, format, folder)
    write_json(path, decision)
    return decision


def _decide(run: RunContext, network: Network, format: Format, folder: Path) -> Decision:
    config = run.spec
    valid: Split = run.dataset.valid
    images, labels = taken(run, valid.images), valid.labels
    said = preprocessing(run)
    module = taking_pixels(network, said) if said.inside else network
    model = Model(
        module,
        run.space.input_shape,
        format,
        _calibration_images(run),
        quantization_of(format),
    )
    lost = drop(model, images, labels)
    if lost <= config.max_drop:
        return Decision(lost)
    if config.tune_epochs:
        run.console.say(
            f"{folder.name}: int8 loses {lost:.1%} of validation accuracy, asked is at most "
            f"{config.max_drop:.1%}; trained on for {config.tune_epochs} epochs with rounded values"
        )
        before = {name: value.clone() for name, value in network.state_dict().items()}
        float_accuracy = _accuracy(module, images, labels)
        tune(network, run, model.how.reduce_range)
        tuned = float_accuracy - _accuracy(module, images, labels) + drop(model, images, labels)
        if tuned < lost:
            save_checkpoint(folder / f"int8-{format}.safetensors", network.state_dict(), {})
        else:
            network.load_state_dict(before)
        if tuned <= config.max_drop:
            return Decision(lost, config.tune_epochs, tuned)
        epochs = config.tune_epochs if tuned < lost else 0
    else:
        tuned, epochs = None, 0
    kept = layers_to_keep(model, images, labels, config.max_drop)
    run.console.say(f"{folder.name}: {len(kept)} layers stay in float32: {', '.join(kept)}")
    return Decision(lost, epochs, tuned, kept)


def tune(network: Network, run: RunContext, seven_bits: bool) -> None:
    """Train ``network`` on with its values rounded, in place."""
    config = run.spec
    data = as_data(run.dataset.train, run.dataset)
    plan = TrainingPlan(
        epochs=config.tune_epochs,
        batch_size=run.training_plan.batch_size,
        peak_learning_rate=PEAK_LEARNING_RATE,
        flip=config.flip,
    )
    with quantisation_aware(network, 7 if seven_bits else 8) as rounded:
        train(rounded, data, plan, derived_seed(config.seed, "tune"))
        recalibrate(rounded, data.drawn(RECALIBRATED, config.seed))
    network.eval()


def _accuracy(network: nn.Module, images: Array, labels: Array) -> float:
    from hwnas.export.verification.verify import torch_outputs

    return float((torch_outputs(network, images).argmax(axis=1) == labels).mean())
