"""Loads a network by name: a published one, that of a run, or a module of the user's code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from hwnas.architecture.architecture import Architecture
from hwnas.errors import InvalidFile, UsageError
from hwnas.export.graph.interface import InputShapes, Interface, module_interface
from hwnas.export.metadata.architecture import read_embedded
from hwnas.export.metadata.input import Preprocessing
from hwnas.networks.exported_program import load_program
from hwnas.networks.factory import user_module
from hwnas.networks.folder import weights_in
from hwnas.networks.names import Kind, kind_of
from hwnas.networks.resolve import resolve_architecture
from hwnas.networks.weights import read_trained
from hwnas.nn.build import build
from hwnas.pretrained.sources import find_source, is_source, weights_file
from hwnas.training.checkpoint import load_weights
from hwnas.training.description import NetworkDescription, read_description

if TYPE_CHECKING:
    from hwnas.pretrained.network import PretrainedNetwork

Shape = tuple[int, int, int]


class LoadedNetwork(NamedTuple):
    """A network in evaluation mode."""

    module: nn.Module
    interface: Interface
    """Its inputs and the names of its outputs."""
    architecture: Architecture | None
    """None for a module of the user's code, or an exported program."""
    trained: bool
    """False: its weights are random."""
    preprocessing: Preprocessing | None = None
    """Normalisation of its images, and its classes, if the file of its weights states them."""

    @property
    def input_shape(self) -> Shape:
        """Channels, height and width of its images. Raises `UsageError` for other inputs."""
        shapes = [each.item_shape for each in self.interface.inputs]
        if len(shapes) != 1 or len(shapes[0]) != 3:
            listed = ", ".join("x".join(map(str, shape)) for shape in shapes)
            raise UsageError(
                f"a data set has images CxHxW, but the network takes {listed}; verify it on noise, "
                "without --data"
            )
        channels, height, width = shapes[0]
        return channels, height, width


def load_network(
    name: str,
    input_shape: InputShapes | None = None,
    checkpoint: Path | None = None,
    output_names: Sequence[str] = (),
) -> LoadedNetwork:
    """Return the network that ``name`` refers to, in any form of `hwnas.networks.names`.

    A published network has its trained weights if they are on this machine, else random ones that
    are the same each time. For ``module:factory`` the Python module is imported, also from the
    current folder, and its factory is called, which runs the user's code; then ``input_shape`` is
    needed, and has the shapes of several inputs, too. Raises `UsageError` for anything else.
    """
    path, kind = Path(name), kind_of(name)
    if kind == "program":
        if checkpoint is not None:
            raise UsageError(f"{name} holds its weights: --checkpoint cannot be combined with it")
        module, interface = load_program(path, input_shape, output_names)
        return LoadedNetwork(module, interface, None, True)
    if path.suffix == ".onnx" and kind == "model" and checkpoint is None:
        from hwnas.networks.onnx_file import load_onnx

        module, interface = load_onnx(path, input_shape, output_names)
        return LoadedNetwork(module, interface, embedded_architecture(path), True)
    if kind == "module":
        return _user_network(name, input_shape, checkpoint, output_names)
    shape = _image_shape(name, input_shape)
    pretrained = None if checkpoint else _pretrained(name, kind)
    if pretrained is None:
        architecture = resolve_architecture(name, input_shape=shape)
    else:
        architecture = pretrained.architecture
    if shape not in (None, architecture.input_shape):
        raise UsageError(f"{name} takes images of shape {architecture.input_shape}, not {shape}")
    if pretrained is not None:
        form = pretrained.preprocessing
        preprocessing = Preprocessing(form.mean, form.std, pretrained.classes)
        return _built(pretrained.network(), architecture, output_names, preprocessing)
    stored = weights_in(path) if kind == "folder" else path if kind == "weights" else None
    if checkpoint is None and stored is not None:
        trained = read_trained(stored)
        preprocessing = _preprocessing(trained.description)
        return _built(trained.network(), architecture, output_names, preprocessing)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # `hwnas verify --model NAME` has the weights of `hwnas export NAME`
        network = build(architecture)
    if checkpoint is not None:
        load_weights(network, checkpoint)
    return _built(network.eval(), architecture, output_names)._replace(
        trained=checkpoint is not None
    )


def _pretrained(name: str, kind: Kind) -> PretrainedNetwork | None:
    """Return the network with weights of other programs, None if they are not on this machine."""
    # imported where a name needs them: they take longer than compiling a small module of one's own
    path = Path(name)
    if kind == "timm":
        from hwnas.pretrained.hub import load_timm

        return load_timm(name)
    if kind == "weights" and not (path.suffix == ".safetensors" and read_description(path)):
        from hwnas.pretrained.identify import load_file

        return load_file(path)
    if kind == "published" and is_source(name) and weights_file(find_source(name)):
        from hwnas.pretrained.load import load_source

        return load_source(name)
    return None


def _built(
    network: nn.Module,
    architecture: Architecture,
    output_names: Sequence[str],
    preprocessing: Preprocessing | None = None,
) -> LoadedNetwork:
    interface = module_interface(network, architecture.input_shape, output_names)
    return LoadedNetwork(network, interface, architecture, True, preprocessing)


def _preprocessing(description: NetworkDescription) -> Preprocessing | None:
    normalisation = description.normalisation
    if normalisation is None:
        return None
    return Preprocessing(normalisation.mean, normalisation.std, description.classes)


def embedded_architecture(path: Path) -> Architecture | None:
    """Return the architecture inside a file that hwnas wrote, else None."""
    try:
        return read_embedded(path)
    except InvalidFile:
        return None


def _image_shape(name: str, input_shape: InputShapes | None) -> Shape | None:
    """Return channels, height and width, as architectures take them."""
    shapes: Any = input_shape
    if isinstance(shapes, list) and len(shapes) == 1:
        shapes = shapes[0]
    if shapes is None or (isinstance(shapes, tuple) and len(shapes) == 3):
        return shapes
    raise UsageError(f"{name} takes images; expected --input-shape with three sizes, CxHxW")


def _user_network(
    name: str,
    input_shape: InputShapes | None,
    checkpoint: Path | None,
    output_names: Sequence[str],
) -> LoadedNetwork:
    if input_shape is None:
        raise UsageError(f"{name}: a module of your own needs --input-shape, e.g. 3x224x224")
    module = user_module(name)
    if checkpoint is not None:
        load_weights(module, checkpoint)
    interface = module_interface(module, input_shape, output_names)
    return LoadedNetwork(module.eval(), interface, None, True)
