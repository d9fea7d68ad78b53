"""Loads a network as users name it: a run's, an architecture's, or a module of their own code."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from hwnas.architecture.architecture import Architecture
from hwnas.errors import InvalidFile, UsageError, first_line
from hwnas.export.graph.interface import InputShapes, Interface, module_interface
from hwnas.export.metadata.architecture import read_embedded
from hwnas.export.metadata.input import Preprocessing
from hwnas.networks.exported_program import load_program
from hwnas.networks.folder import weights_in
from hwnas.networks.resolve import resolve_architecture
from hwnas.networks.weights import read_trained
from hwnas.nn.build import build
from hwnas.training.checkpoint import load_weights
from hwnas.training.description import NetworkDescription

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
    """How its images are normalised, and its classes, where the file of its weights says it."""

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
    """Return the network that ``name`` means.

    ``name`` is a folder of a run or of a training, a file of weights that hwnas wrote, an
    architecture (see `resolve_architecture`), an ``.onnx`` file of any origin, a ``.pt2`` file of
    `torch.export`, or ``module:factory``: then the Python module is imported, also from the current
    folder, and its factory is called, which runs the user's code. ``input_shape`` has the shapes of
    several inputs, too. Raises `UsageError` for anything else.
    """
    if name.endswith(".pt2"):
        if checkpoint is not None:
            raise UsageError(f"{name} holds its weights: --checkpoint cannot be combined with it")
        module, interface = load_program(Path(name), input_shape, output_names)
        return LoadedNetwork(module, interface, None, True)
    if name.endswith(".onnx") and checkpoint is None:
        from hwnas.networks.onnx_file import load_onnx

        module, interface = load_onnx(Path(name), input_shape, output_names)
        return LoadedNetwork(module, interface, embedded_architecture(Path(name)), True)
    if ":" in name and not Path(name).exists():
        return _user_network(name, input_shape, checkpoint, output_names)
    if name.endswith(".py") or Path(f"{name}.py").is_file():
        raise UsageError(
            f"{name}: expected module:factory for a module of your own, e.g. {_stem(name)}:NAME "
            "(run in its folder)"
        )
    shape = _image_shape(name, input_shape)
    architecture = resolve_architecture(name, input_shape=shape)
    if shape not in (None, architecture.input_shape):
        raise UsageError(f"{name} takes images of shape {architecture.input_shape}, not {shape}")
    path, size = Path(name), architecture.input_shape
    stored = weights_in(path) if path.is_dir() else path if path.suffix == ".safetensors" else None
    if checkpoint is None and stored is not None:
        trained = read_trained(stored)
        network = trained.network()
        interface = module_interface(network, size, output_names)
        preprocessing = _preprocessing(trained.description)
        return LoadedNetwork(network, interface, architecture, True, preprocessing)
    network = build(architecture)
    if checkpoint is not None:
        load_weights(network, checkpoint)
    interface = module_interface(network, size, output_names)
    return LoadedNetwork(network.eval(), interface, architecture, checkpoint is not None)


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
    module_name, _, factory = name.partition(":")
    if not module_name or not factory or "/" in module_name or module_name.endswith(".py"):
        example = f"{_stem(module_name)}:{factory or 'NAME'}"
        raise UsageError(f"{name}: expected module:factory, e.g. {example}")
    if input_shape is None:
        raise UsageError(f"{name}: a module of your own needs --input-shape, e.g. 3x224x224")
    module = _call_factory(name, module_name, factory)
    if not isinstance(module, nn.Module):
        kind = type(module).__name__
        raise UsageError(f"{name}: expected a torch.nn.Module, got {kind}")
    if checkpoint is not None:
        load_weights(module, checkpoint)
    interface = module_interface(module, input_shape, output_names)
    return LoadedNetwork(module.eval(), interface, None, True)


def _call_factory(name: str, module_name: str, factory: str) -> Any:
    """Import the user's module and return what its factory returns, or the factory if a module."""
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        namespace = import_module(module_name)
    except ImportError as error:
        raise UsageError(f"{name}: cannot import {module_name!r} ({error})") from None
    except (Exception, SystemExit) as error:
        message = f"{name}: importing {module_name!r} raised {_describe(error)}"
        raise UsageError(message) from error
    if not hasattr(namespace, factory):
        near = get_close_matches(factory, vars(namespace), n=1)
        hint = f", did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"{name}: {module_name!r} has no {factory!r}{hint}")
    make: Any = getattr(namespace, factory)
    try:
        return make() if callable(make) and not isinstance(make, nn.Module) else make
    except (Exception, SystemExit) as error:
        raise UsageError(f"{name}: {factory}() raised {_describe(error)}") from error


def _describe(error: BaseException) -> str:
    """Return in one line the type, message and place of what a user's code raised."""
    message = first_line(error, "no message")
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f" ({Path(frame.filename).name}, line {frame.lineno})"
    return f"{type(error).__name__}: {message}{'' if isinstance(error, SyntaxError) else place}"


def _stem(name: str) -> str:
    """Return the name under which a Python file is imported from its folder."""
    return Path(name).name.removesuffix(".py") or "MODULE"
