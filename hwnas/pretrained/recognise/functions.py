"""What the functions and methods in a torch.fx graph compute, as layers."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping
from math import isfinite
from typing import Any, NamedTuple, cast

import torch.nn.functional as F
from torch import fx, nn

from hwnas.pretrained.recognise.kinds import ACTIVATIONS, SHUFFLE, UNCHANGED, Kind, Layer

TO_LAST, TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
"""Permutations that move the channels to the last place, for linear layers of pixels, and back."""
RESHAPES = {"flatten", "contiguous"}
"""Functions that change at most the shape ``[N, C, H, W]`` to ``[N, C * H * W]``."""
CHANNELS = (1, -3)
"""Numbers of the axis of the channels."""


class _WindowPool(NamedTuple):
    """A function that pools windows: the module like it, and the names of its arguments."""

    kind: Kind
    module: type[nn.Module]
    arguments: tuple[str, ...]


WINDOW = ("kernel_size", "stride", "padding")
POOLS: Mapping[str, _WindowPool] = {
    "max_pool2d": _WindowPool("max_pool", nn.MaxPool2d, (*WINDOW, "dilation", "ceil_mode")),
    "avg_pool2d": _WindowPool(
        "avg_pool", nn.AvgPool2d, (*WINDOW, "ceil_mode", "count_include_pad", "divisor_override")
    ),
}


def function_layers(node: fx.Node, inputs: tuple[int, ...]) -> Iterator[Layer]:
    """Yield the layers of a node that is no module; none where it changes no value."""
    name = name_of(node)
    path = f"{node.name} ({name})"
    if name in ("add", "iadd", "mul", "imul") and len(inputs) == 2 and "alpha" not in node.kwargs:
        yield Layer("add" if "add" in name else "mul", path, inputs)
    elif (constant := _constant(node, name)) is not None:
        yield Layer(constant[0], path, inputs, value=constant[1])
    elif name == "leaky_relu":
        slope = argument(node, 1, "negative_slope")
        yield Layer("act", path, inputs, None, "leaky_relu", value=0.01 if slope is None else slope)
    elif name in ACTIVATIONS:
        tanh = argument(node, 1, "approximate") == "tanh"
        yield Layer("act", path, inputs, activation="gelu_tanh" if tanh else ACTIVATIONS[name])
    elif _pools_globally(node, name):
        yield Layer("pool", path, inputs)
    elif (pool := _window_pool(node, name)) is not None:
        yield Layer(POOLS[name].kind, path, inputs, pool)
    elif (part := _part(node)) is not None:
        halves = {(0, 2): "first_half", (1, 2): "second_half"} if part.is_chunk else {}
        kind = cast(Any, halves.get(part.span, "chunk" if part.is_chunk else "slice"))
        yield Layer(kind, path, inputs, span=part.span)
    elif _concatenates(node, name):
        if len(inputs) > 1:
            yield Layer("concat", path, inputs)
    elif name == SHUFFLE and argument(node, 1, "groups") == 2:
        yield Layer("shuffle", path, inputs)
    elif _is_taken_apart(node, name) or _moves_channels(node, name):
        return
    elif name not in UNCHANGED | RESHAPES:
        yield Layer("other", path, inputs)


def name_of(node: fx.Node) -> str:
    """Return the name of the function or method that a node calls, without underscores."""
    target: Any = node.target
    return str(target if isinstance(target, str) else target.__name__).strip("_")


def argument(node: fx.Node, place: int, name: str) -> Any:
    return node.args[place] if len(node.args) > place else node.kwargs.get(name)


def takes_size_of(node: fx.Node, sizes: Mapping[fx.Node, fx.Node]) -> fx.Node | None:
    """Return the feature map to whose height and width a node resizes its input.

    ``sizes`` are the nodes that are sizes, and the feature maps whose. Only nearest pixels count.
    """
    if name_of(node) != "interpolate" or argument(node, 3, "mode") not in (None, "nearest"):
        return None
    return _map_of(argument(node, 1, "size"), sizes)


def pools_all_pixels(node: fx.Node, sizes: Mapping[fx.Node, fx.Node]) -> bool:
    """Return whether a node averages a single window, the height and width of its input.

    That the input is a square where the window is one is verified with the logits.
    """
    if name_of(node) != "avg_pool2d" or argument(node, 3, "padding") not in (None, 0, (0, 0)):
        return False
    return _map_of(argument(node, 1, "kernel_size"), sizes) == argument(node, 0, "input")


def _map_of(size: Any, sizes: Mapping[fx.Node, fx.Node]) -> fx.Node | None:
    """Return the feature map whose height and width ``size`` is, if it is that of a single map."""
    maps = {sizes.get(part) for part in _listed(size)}
    return maps.pop() if len(maps) == 1 else None


def size_source(node: fx.Node, sizes: Mapping[fx.Node, fx.Node]) -> fx.Node | None:
    """Return the feature map whose height and width, or one of them, a node is."""
    source = node.args[0] if node.args else None
    if node.op == "call_module" or not isinstance(source, fx.Node):
        return None
    if name_of(node) == "getattr":
        return source if node.args[1] == "shape" else None
    if name_of(node) == "size":
        return source
    return sizes.get(source) if node.target is operator.getitem else None


class _Part(NamedTuple):
    """Some of the channels of a feature map."""

    span: tuple[int, int]
    is_chunk: bool = False


def _part(node: fx.Node) -> _Part | None:
    """Return which channels of its source a node takes, if it does."""
    if node.target is not operator.getitem:
        return None
    source, item = node.args
    if isinstance(source, fx.Node) and isinstance(item, int):
        return _part_of(source, name_of(source), item)
    items = item if isinstance(item, tuple) else ()
    others = [each for each in (*items[:1], *items[2:]) if each not in (slice(None), Ellipsis)]
    if others or len(items) < 2 or items[0] is Ellipsis or not isinstance(items[1], slice):
        return None
    start, stop = items[1].start or 0, items[1].stop or 0
    numbers = isinstance(start, int) and isinstance(stop, int) and min(start, stop) >= 0
    return _Part((start, stop)) if numbers and items[1].step in (None, 1) else None


def _part_of(source: fx.Node, name: str, item: int) -> _Part | None:
    """Return the channels of a number of what a node divides its input into."""
    if argument(source, 2, "dim") not in CHANNELS or item < 0:
        return None
    count = argument(source, 1, "chunks")
    if name == "chunk" and isinstance(count, int):
        return _Part((item, count), is_chunk=True)
    sizes = argument(source, 1, "split_size_or_sections")
    sizes = argument(source, 1, "split_size") if sizes is None else sizes
    if name != "split" or not all(isinstance(size, int) for size in _listed(sizes)):
        return None
    if isinstance(sizes, int):
        return _Part((item * sizes, (item + 1) * sizes))
    return _Part((sum(sizes[:item]), sum(sizes[: item + 1])))


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _is_taken_apart(node: fx.Node, name: str) -> bool:
    """Return whether a node divides the channels, and only its parts are taken."""
    if name not in ("chunk", "split"):
        return False
    return all(user.target is operator.getitem and _part(user) is not None for user in node.users)


def _constant(node: fx.Node, name: str) -> tuple[Any, float] | None:
    """Return the layer and the number of a sum, product or quotient with a number."""
    numbers = [each for each in node.args if isinstance(each, int | float)]
    maps = [each for each in node.args if isinstance(each, fx.Node)]
    if len(node.args) != 2 or len(numbers) != 1 or len(maps) != 1 or node.kwargs:
        return None
    [number] = numbers
    if not isfinite(number):
        return None
    is_first = isinstance(node.args[0], fx.Node)
    match name:
        case "add" | "iadd" | "radd":
            return "plus", float(number)
        case "sub" | "isub" if is_first:
            return "plus", -float(number)
        case "mul" | "imul" | "rmul":
            return "times", float(number)
        case "truediv" | "itruediv" | "div" if is_first and number:
            return "times", 1 / number
        case _:
            return None


def _window_pool(node: fx.Node, name: str) -> nn.Module | None:
    """Return the module like a function that pools windows whose sizes are numbers."""
    returns_indices = node.kwargs.get("return_indices")
    if name not in POOLS or returns_indices or len(node.all_input_nodes) > 1:
        return None
    names = POOLS[name].arguments
    settings = {each: argument(node, place, each) for place, each in enumerate(names, 1)}
    stated = {each: value for each, value in settings.items() if value is not None}
    return POOLS[name].module(**stated)


def _concatenates(node: fx.Node, name: str) -> bool:
    """Return whether a node concatenates different feature maps along the channels."""
    if name not in ("cat", "concat") or argument(node, 1, "dim") not in CHANNELS:
        return False
    parts = argument(node, 0, "tensors")
    return isinstance(parts, list | tuple) and len(parts) == len(node.all_input_nodes)


def _moves_channels(node: fx.Node, name: str) -> bool:
    """Return whether a node moves the channels to the last place or back; that both belong together
    is verified with the logits."""
    dims = node.args[1:] or (node.kwargs.get("dims"),)
    axes = dims[0] if isinstance(dims[0], list | tuple) else dims
    return name == "permute" and tuple(cast(Any, axes)) in (TO_LAST, TO_FIRST)


def _pools_globally(node: fx.Node, name: str) -> bool:
    dim = argument(node, 1, "dim")
    if node.target is F.adaptive_avg_pool2d:
        return argument(node, 1, "output_size") in (1, (1, 1), [1, 1])
    return name == "mean" and dim in ((2, 3), [2, 3], (-2, -1), [-2, -1])
