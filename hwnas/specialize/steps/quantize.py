"""Quantises a trained network to int8, within the allowed loss of accuracy.

Post-training quantisation is tried first. If the file loses more than ``--max-drop`` on validation
images, the network is fine-tuned for a few epochs with quantised values, which keeps every layer in
int8. If that is not enough, the most sensitive layers stay in float32.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
from torch import nn

from hwnas.architecture.architecture import Architecture
from hwnas.architecture.artifact import Artifact, Format
from hwnas.data.datasets import Dataset
from hwnas.export.compile import compile_model
from hwnas.export.metadata.input import Preprocessing
from hwnas.export.metadata.preprocessing import with_normalisation
from hwnas.export.quantization.ptq import CALIBRATION_IMAGES, Int8, int8_quantization
from hwnas.export.quantization.qat import quantisation_aware
from hwnas.export.quantization.sensitivity import FloatModel, accuracy_drop, select_float_layers
from hwnas.export.verification.images import Verification
from hwnas.export.verification.metrics import Array, accuracy
from hwnas.export.verification.verify import torch_outputs
from hwnas.files import read_json, write_json
from hwnas.networks.verification_data import to_model_input
from hwnas.networks.weights import trained_network
from hwnas.nn.build import Network
from hwnas.specialize.context import RunContext
from hwnas.training.checkpoint import load_checkpoint, save_checkpoint
from hwnas.training.evaluation import RECALIBRATION_IMAGES, recalibrate
from hwnas.training.images.loader import as_data
from hwnas.training.loop import train
from hwnas.training.plan import TrainingPlan, one_cycle_plan
from hwnas.training.seeds import derived_seed

PEAK_LEARNING_RATE = 0.01
"""Peak learning rate of fine-tuning: a tenth of the training's."""


class Int8Decision(msgspec.Struct, frozen=True):
    """The steps that make a network's int8 file: ``int8-FORMAT.json`` beside its weights."""

    drop: float
    """Validation accuracy that plain post-training quantisation loses."""
    tuned_epochs: int = 0
    """Epochs of fine-tuning; the tuned weights are in ``int8-FORMAT.safetensors``."""
    float_layers: tuple[str, ...] = ()


def compile_trained(
    run: RunContext, architecture: Architecture, format: Format, path: Path
) -> Artifact:
    """Compile a trained network in its precision; a network always gives the same file."""
    folder = run.folder.path / "training" / architecture.digest
    network = trained_network(architecture, folder)
    int8 = None
    if architecture.precision == "int8":
        decision = _decision(run, architecture, network, format, folder)
        if decision.tuned_epochs:
            weights, _ = load_checkpoint(folder / f"int8-{format}.safetensors")
            network.load_state_dict(weights)
        images = _calibration_images(run, architecture)
        quantization = int8_quantization(format, run.spec.calibration)
        int8 = Int8(images, quantization, decision.float_layers)
    return compile_network(run, network, architecture, path, int8)


def compile_network(
    run: RunContext,
    network: Network,
    architecture: Architecture,
    path: Path,
    int8: Int8 | None = None,
) -> Artifact:
    """Compile a network with weights, and verify the file on the test images."""
    test = run.dataset_at(architecture.input_shape).test.loaded()
    return compile_model(
        network,
        architecture.input_shape,
        path,
        verification=Verification(_model_input(run, test.images), test.labels),
        int8=int8,
        architecture=architecture,
        preprocessing=preprocessing(run),
    )


def preprocessing(run: RunContext) -> Preprocessing:
    """Return the preprocessing of the files of this run."""
    data = run.dataset
    return Preprocessing(data.mean, data.std, data.classes, run.spec.pixels)


def _model_input(run: RunContext, images: Array) -> Array:
    return to_model_input(images, run.dataset, run.spec.pixels)


def _calibration_images(run: RunContext, architecture: Architecture) -> Array:
    """Return random training images ``[N, C, H, W]`` as input of the file."""
    rng = np.random.default_rng(derived_seed(run.spec.seed, "calibration"))
    train = run.dataset_at(architecture.input_shape).train
    return _model_input(run, train.images[rng.permutation(len(train.labels))[:CALIBRATION_IMAGES]])


def _decision(
    run: RunContext, architecture: Architecture, network: Network, format: Format, folder: Path
) -> Int8Decision:
    """Return the stored decision, or make one, which may change the weights of ``network``."""
    path = folder / f"int8-{format}.json"
    if path.exists():
        return read_json(path, Int8Decision)
    decision = _decide(run, architecture, network, format, folder)
    write_json(path, decision)
    return decision


def _decide(
    run: RunContext, architecture: Architecture, network: Network, format: Format, folder: Path
) -> Int8Decision:
    data = run.dataset_at(architecture.input_shape)
    spec, valid = run.spec, data.valid.loaded()
    verification = Verification(_model_input(run, valid.images), valid.labels)
    module = with_normalisation(network, preprocessing(run)) if spec.pixels else network
    quantization = int8_quantization(format, run.spec.calibration)
    int8 = Int8(_calibration_images(run, architecture), quantization)
    model = FloatModel(module, architecture.input_shape, format, int8)
    loss = accuracy_drop(model, verification)
    if loss <= spec.max_drop:
        return Int8Decision(loss)
    epochs = 0
    if spec.tune_epochs:
        run.console.say(
            f"{folder.name}: int8 loses {loss:.1%} of validation accuracy, more than the allowed "
            f"{spec.max_drop:.1%}; fine-tuning for {spec.tune_epochs} epochs with quantised values"
        )
        before = {name: value.clone() for name, value in network.state_dict().items()}
        float_accuracy = _accuracy(module, verification)
        tune(network, run, data, quantization.reduce_range)
        tuned_accuracy = _accuracy(module, verification) - accuracy_drop(model, verification)
        tuned_loss = float_accuracy - tuned_accuracy
        if tuned_loss < loss:
            save_checkpoint(folder / f"int8-{format}.safetensors", network.state_dict(), {})
            epochs = spec.tune_epochs
        else:
            network.load_state_dict(before)
        if tuned_loss <= spec.max_drop:
            return Int8Decision(loss, spec.tune_epochs)
    float_layers = select_float_layers(model, verification, spec.max_drop)
    layers = f"{len(float_layers)} layers stay in float32: {', '.join(float_layers)}"
    run.console.say(f"{folder.name}: {layers}")
    return Int8Decision(loss, epochs, float_layers)


def tune(network: Network, run: RunContext, dataset: Dataset, seven_bits: bool) -> None:
    """Fine-tune ``network`` in place on ``dataset``, with its values quantised."""
    spec = run.spec
    data = as_data(dataset.train, dataset)
    plan = TrainingPlan(
        batch_size=run.training_plan.batch_size,
        peak_learning_rate=PEAK_LEARNING_RATE,
        augmentation=run.training_plan.augmentation,
    )
    plan = one_cycle_plan(plan, spec.tune_epochs)
    with quantisation_aware(network, 7 if seven_bits else 8) as quantised:
        train(quantised, data, plan, derived_seed(spec.seed, "tune"))
        recalibrate(quantised, data.sample(RECALIBRATION_IMAGES, spec.seed))
    network.eval()


def _accuracy(network: nn.Module, verification: Verification) -> float:
    assert verification.labels is not None
    return accuracy(torch_outputs(network, verification.images), verification.labels)
