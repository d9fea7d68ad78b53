"""The layers of a PyTorch module in the order of their computation, from its torch.fx graph."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any, Literal, NamedTuple, cast

import torch.nn.functional as F
from torch import fx, nn

from hwnas.errors import UsageError, first_line

IMAGE = -1
"""The index that stands for the network's input."""

Kind = Literal[
    "conv", "norm", "act", "pool", "grid_pool", "max_pool", "avg_pool", "linear", "add", "mul",
    "concat", "first_half", "second_half", "shuffle", "layer_norm", "scale", "other",
]  # fmt: skip
"""``grid_pool``: an average pool to a number of pixels in height and width above 1.
``first_half``, ``second_half``, ``shuffle``: of channels, the latter in two groups. ``scale``: a
product with a parameter, which the path names."""

ACTIVATIONS = {
    "relu": "relu",
    "relu6": "relu6",
    "hardswish": "hswish",
    "silu": "silu",
    "gelu": "gelu",
    "swish": "silu",
    "sigmoid": "sigmoid",
    "hardsigmoid": "hardsigmoid",
}
"""Our names of activations, by the names of classes, functions and methods in lower case."""

UNCHANGED = {"dropout", "dropout2d", "droppath", "identity", "stochasticdepth", "stochastic_depth"}
"""Layers that return their input in evaluation mode."""

SHUFFLE = "channel_shuffle"
TO_LAST, TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
"""Permutations that move the channels to the last place, for linear layers of pixels, and back."""
RESHAPES = {"flatten"}
"""Layers that only change the shape ``[N, C, H, W]`` to ``[N, C * H * W]``."""


class Layer(NamedTuple):
    """A layer and the indices of the layers whose outputs it takes."""

    kind: Kind
    path: str
    """Name of the module in the network, or of the function that is called."""
    inputs: tuple[int, ...]
    module: nn.Module | None = None
    activation: str = ""


def layers_of(network: nn.Module) -> tuple[list[Layer], int]:
    """Return the layers of ``network`` in order, and the index of the one that is its output.

    Layers that do nothing in evaluation mode are left out. Raises `UsageError` for a network whose
    computation depends on its input, which torch.fx cannot trace.
    """
    tracer = _Tracer(autowrap_functions=tuple(_shuffles(network)))
    try:
        graph = tracer.trace(network)
    except Exception as error:  # whatever the module's code raises on a symbolic input
        raise UsageError(
            f"{type(network).__name__}: torch.fx cannot trace it ({first_line(error)})"
        ) from None
    modules = dict(network.named_modules())
    layers: list[Layer] = []
    places: dict[fx.Node, int] = {}
    parameters: dict[fx.Node, str] = {}
    for node in graph.nodes:
        if node.op == "placeholder":
            places[node] = IMAGE
        elif node.op == "output":
            return layers, _places(node, places)[0]
        elif (parameter := _parameter(node, parameters)) is not None:
            parameters[node] = parameter
        elif (scale := _scale(node, parameters)) is not None:
            layers.append(Layer("scale", scale, _places(node, places)))
            places[node] = len(layers) - 1
        else:
            places[node] = _append(layers, node, modules, _places(node, places))
    raise AssertionError("a graph ends in its output")


def _parameter(node: fx.Node, parameters: dict[fx.Node, str]) -> str | None:
    """Return the name of the parameter that a node is, whatever its shape."""
    if node.op == "get_attr":
        return str(node.target)
    if node.target in ("reshape", "view") and isinstance(node.args[0], fx.Node):
        return parameters.get(node.args[0])
    return None


def _scale(node: fx.Node, parameters: dict[fx.Node, str]) -> str | None:
    """Return the name of the parameter that a node multiplies a feature map with."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    names = [parameters[source] for source in node.all_input_nodes if source in parameters]
    multiplies = name.strip("_") in ("mul", "imul", "multiply") and len(node.all_input_nodes) == 2
    return names[0] if multiplies and len(names) == 1 else None


class _Tracer(fx.Tracer):
    """Traces down to the layers of torch.nn and their subclasses."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        kinds = nn.Conv2d | nn.BatchNorm2d | nn.Linear | nn.LayerNorm
        known = isinstance(m, kinds) or _name(m) in ACTIVATIONS.keys() | UNCHANGED
        return known or super().is_leaf_module(m, module_qualified_name)


def _shuffles(network: nn.Module) -> set[Callable[..., Any]]:
    """Return the functions ``channel_shuffle`` in the files of the network's modules, which compute
    with sizes; whether they do what the name says is verified with the logits."""
    spaces = (sys.modules.get(type(module).__module__) for module in network.modules())
    functions = (getattr(space, SHUFFLE, None) for space in spaces)
    return {function for function in functions if isinstance(function, FunctionType)}


def _append(
    layers: list[Layer], node: fx.Node, modules: dict[str, nn.Module], inputs: tuple[int, ...]
) -> int:
    """Append the layers of a node; return the index of its output."""
    if node.op == "call_module":
        new = list(_module_layers(str(node.target), modules[str(node.target)], inputs))
    else:
        new = list(_function_layers(node, inputs))
    for layer in new:
        if layer.inputs == ():  # takes the output of the layer before it
            layer = layer._replace(inputs=(len(layers) - 1,))
        layers.append(layer)
    return len(layers) - 1 if new else inputs[0]


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
        case nn.LayerNorm():
            yield Layer("layer_norm", path, inputs, module)
        case nn.GELU(approximate="tanh"):
            yield Layer("other", path, inputs, module)
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
        case _ if name in ACTIVATIONS:
            yield Layer("act", path, inputs, module, ACTIVATIONS[name])
        case _ if name in UNCHANGED | RESHAPES:
            return
        case _:
            yield Layer("other", path, inputs, module)


def _function_layers(node: fx.Node, inputs: tuple[int, ...]) -> Iterator[Layer]:
    target: Any = node.target
    name = (target if isinstance(target, str) else target.__name__).strip("_")
    path = f"{node.name} ({name})"
    if name in ("add", "iadd") and len(inputs) == 2:
        yield Layer("add", path, inputs)
    elif name in ("mul", "imul") and len(inputs) == 2:
        yield Layer("mul", path, inputs)
    elif name in ACTIVATIONS and node.kwargs.get("approximate", "none") == "none":
        yield Layer("act", path, inputs, activation=ACTIVATIONS[name])
    elif _pools_globally(node, name):
        yield Layer("pool", path, inputs)
    elif _is_half(node):
        yield Layer("second_half" if node.args[1] else "first_half", path, inputs)
    elif _concatenates(node, name):
        if len(inputs) > 1:
            yield Layer("concat", path, inputs)
    elif name == SHUFFLE and _argument(node, 1, "groups") == 2:
        yield Layer("shuffle", path, inputs)
    elif _halves(node) or _moves_channels(node, name):
        return
    elif name not in UNCHANGED | RESHAPES:
        yield Layer("other", path, inputs)


def _concatenates(node: fx.Node, name: str) -> bool:
    """Return whether a node concatenates different feature maps along the channels."""
    if name not in ("cat", "concat") or _argument(node, 1, "dim") not in (1, -3):
        return False
    parts = _argument(node, 0, "tensors")
    return isinstance(parts, list | tuple) and len(parts) == len(node.all_input_nodes)


def _halves(node: fx.Node) -> bool:
    """Return whether a node divides the channels into halves, each of which is taken."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    dim = _argument(node, 2, "dim")
    taken_apart = all(user.target is operator.getitem for user in node.users)
    return name == "chunk" and _argument(node, 1, "chunks") == 2 and dim in (1, -3) and taken_apart


def _moves_channels(node: fx.Node, name: str) -> bool:
    """Return whether a node moves the channels to the last place or back; that both belong together
    is verified with the logits."""
    dims = node.args[1:] or (node.kwargs.get("dims"),)
    axes = dims[0] if isinstance(dims[0], list | tuple) else dims
    return name == "permute" and tuple(cast(Any, axes)) in (TO_LAST, TO_FIRST)


def _is_half(node: fx.Node) -> bool:
    if node.target is not operator.getitem:
        return False
    source, item = node.args
    return isinstance(source, fx.Node) and _halves(source) and item in (0, 1)


def _argument(node: fx.Node, place: int, name: str) -> Any:
    return node.args[place] if len(node.args) > place else node.kwargs.get(name)


def _pools_globally(node: fx.Node, name: str) -> bool:
    argument = _argument(node, 1, "dim")
    if node.target is F.adaptive_avg_pool2d:
        return argument in (1, (1, 1), [1, 1])
    return name == "mean" and argument in ((2, 3), [2, 3], (-2, -1), [-2, -1])


def _places(node: fx.Node, places: dict[fx.Node, int]) -> tuple[int, ...]:
    """Return the indices of the layers whose outputs a node takes; parameters have none."""
    return tuple(places[each] for each in node.all_input_nodes if each in places) or (IMAGE,)


def _name(module: nn.Module) -> str:
    return type(module).__name__.lower()
