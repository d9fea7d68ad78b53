"""The layers of a PyTorch module in the order of their computation, from its torch.fx graph."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

from torch import fx, nn

from hwnas.errors import UsageError, first_line
from hwnas.pretrained.recognise.functions import (
    RESHAPES,
    function_layers,
    name_of,
    pools_all_pixels,
    size_source,
    takes_size_of,
)
from hwnas.pretrained.recognise.kinds import (
    ACTIVATIONS,
    IMAGE,
    RESPONSE_NORM,
    SHUFFLE,
    UNCHANGED,
    Layer,
)

WITH_WEIGHTS = (nn.Conv2d, nn.BatchNorm2d, nn.Linear, nn.LayerNorm)
"""Layers that are read as such, subclasses included, whatever the code of these."""


def layers_of(network: nn.Module) -> tuple[list[Layer], int]:
    """Return the layers of ``network`` in order, and the index of the one that is its output.

    Layers that do nothing in evaluation mode are left out. Raises `UsageError` for a network whose
    computation depends on its input, which torch.fx cannot trace, and for several outputs.
    """
    tracer = _Tracer(autowrap_functions=tuple(_shuffles(network)))
    try:
        graph = tracer.trace(network)
    except Exception as error:  # whatever the module's code raises on a symbolic input
        raise UsageError(
            f"{type(network).__name__}: torch.fx cannot trace it ({first_line(error)})"
        ) from None
    reader = _Reader(network)
    for node in graph.nodes:
        if node.op == "output":
            if not isinstance(node.args[0], fx.Node):
                raise UsageError(
                    f"{type(network).__name__}: returns several values, a list or a dict; expected "
                    "the logits"
                )
            return reader.layers, reader.inputs(node)[0]
        reader.read(node)
    raise AssertionError("a graph ends in its output")


class _Reader:
    """Reads the nodes of a graph one by one, as layers, parameters and sizes of feature maps."""

    def __init__(self, network: nn.Module) -> None:
        self.modules = dict(network.named_modules())
        self.trained = dict(network.named_parameters(remove_duplicate=False))
        self.layers: list[Layer] = []
        self.places: dict[fx.Node, int] = {}
        self.parameters: dict[fx.Node, str] = {}
        self.sizes: dict[fx.Node, fx.Node] = {}

    def inputs(self, node: fx.Node) -> tuple[int, ...]:
        """Return the indices of the layers whose outputs a node takes; parameters have none."""
        sources = node.all_input_nodes
        return tuple(self.places[each] for each in sources if each in self.places) or (IMAGE,)

    def read(self, node: fx.Node) -> None:
        if node.op == "placeholder":
            self.places[node] = IMAGE
        elif (parameter := self._parameter(node)) is not None:
            self.parameters[node] = parameter
        elif (scale := self._scale(node)) is not None:
            count = self.trained[scale].numel()
            self.layers.append(Layer("scale", scale, self.inputs(node), span=(0, count)))
            self.places[node] = len(self.layers) - 1
        elif (source := size_source(node, self.sizes)) is not None:
            self.sizes[node] = source
        else:
            self.places[node] = self._append(node)

    def _parameter(self, node: fx.Node) -> str | None:
        """Return the name of the parameter that a node is, whatever its shape."""
        if node.op == "get_attr":
            return str(node.target)
        if node.target in ("reshape", "view") and isinstance(node.args[0], fx.Node):
            return self.parameters.get(node.args[0])
        return None

    def _scale(self, node: fx.Node) -> str | None:
        """Return the name of the parameter that a node multiplies a feature map with."""
        if node.op == "call_module" or name_of(node) not in ("mul", "imul", "multiply"):
            return None
        sources = node.all_input_nodes
        names = [self.parameters[source] for source in sources if source in self.parameters]
        is_scale = len(sources) == 2 and len(names) == 1 and names[0] in self.trained
        return names[0] if is_scale else None

    def _append(self, node: fx.Node) -> int:
        """Append the layers of a node; return the index of its output."""
        inputs = self.inputs(node)
        if node.op == "call_module":
            new = list(_module_layers(str(node.target), self.modules[str(node.target)], inputs))
        elif (like := takes_size_of(node, self.sizes)) is not None and like in self.places:
            path = f"{node.name} ({name_of(node)})"
            new = [Layer("resize", path, (inputs[0], self.places[like]))]
        elif pools_all_pixels(node, self.sizes):
            new = [Layer("pool", f"{node.name} ({name_of(node)})", inputs)]
        else:
            new = list(function_layers(node, inputs))
        for layer in new:
            if layer.inputs == ():  # takes the output of the layer before it
                layer = layer._replace(inputs=(len(self.layers) - 1,))
            self.layers.append(layer)
        return len(self.layers) - 1 if new else inputs[0]


class _Tracer(fx.Tracer):
    """Traces down to the layers of torch.nn and their subclasses."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        known = isinstance(m, WITH_WEIGHTS) or _name(m) in ACTIVATIONS.keys() | UNCHANGED | {
            RESPONSE_NORM
        }
        return known or super().is_leaf_module(m, module_qualified_name)


def _shuffles(network: nn.Module) -> set[Callable[..., Any]]:
    """Return the functions ``channel_shuffle`` in the files of the network's modules, which compute
    with sizes; whether they do what the name says is verified with the logits."""
    spaces = (sys.modules.get(type(module).__module__) for module in network.modules())
    functions = (getattr(space, SHUFFLE, None) for space in spaces)
    return {function for function in functions if isinstance(function, FunctionType)}


def _module_layers(path: str, module: nn.Module, inputs: tuple[int, ...]) -> Iterator[Layer]:
    name = _name(module)
    match module:
        case nn.Conv2d():
            yield Layer("conv", path, inputs, module)
        case nn.BatchNorm2d():
            yield Layer("norm", path, inputs, module)
            act = getattr(module, "act", None)  # timm's norm with an activation
            if isinstance(act, nn.Module) and not isinstance(act, nn.Identity):
                yield from _module_layers(f"{path}.act", act, ())
        case nn.LeakyReLU():
            slope = module.negative_slope
            yield Layer("act", path, inputs, module, "leaky_relu", value=slope)
        case nn.LayerNorm():
            yield Layer("layer_norm", path, inputs, module)
        case nn.GELU(approximate="tanh"):
            yield Layer("act", path, inputs, module, "gelu_tanh")
        case nn.Linear():
            yield Layer("linear", path, inputs, module)
        case nn.AdaptiveAvgPool2d(output_size=1 | (1, 1)):
            yield Layer("pool", path, inputs)
        case nn.AdaptiveAvgPool2d():
            yield Layer("grid_pool", path, inputs, module)
        case nn.MaxPool2d():
            yield Layer("max_pool", path, inputs, module)
        case nn.AvgPool2d():
            yield Layer("avg_pool", path, inputs, module)
        case nn.ChannelShuffle(groups=2):
            yield Layer("shuffle", path, inputs)
        case _ if name == RESPONSE_NORM:
            yield Layer("response_norm", path, inputs, module)
        case _ if name in ACTIVATIONS:
            yield Layer("act", path, inputs, module, ACTIVATIONS[name])
        case _ if name in UNCHANGED | RESHAPES:
            return
        case _:
            yield Layer("other", path, inputs, module)


def _name(module: nn.Module) -> str:
    return type(module).__name__.lower()
