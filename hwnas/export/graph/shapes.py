"""The shapes in a traced network, without computing any value that depends on the image.

Such values are tensors on PyTorch's ``meta`` device, which have a shape but no data. Parameters,
and values computed from parameters alone, are real.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate, map_arg

from hwnas.export.graph.ops import find_op

Shape = tuple[int, ...]
META = torch.device("meta")


class NodeValues:
    """What the nodes of a traced network give, as far as it does not depend on the image."""

    def __init__(self) -> None:
        self.shapes: dict[fx.Node, Shape] = {}
        """Shapes of the nodes that give a tensor."""
        self.pieces: dict[fx.Node, list[Shape]] = {}
        """Shapes of the nodes that give several tensors."""
        self.constants: dict[fx.Node, Tensor] = {}
        """Values of the nodes that depend on parameters alone."""
        self.plain: dict[fx.Node, Any] = {}
        """Values of the nodes that give no tensor, such as sizes."""

    def record(self, node: fx.Node, result: Any) -> None:
        if isinstance(result, Tensor):
            self.shapes[node] = tuple(result.shape)
            inputs = node.all_input_nodes
            is_call = node.op in ("call_function", "call_method")
            folds = any(source in self.constants for source in inputs) and all(
                source in self.constants or source in self.plain for source in inputs
            )
            if node.op == "get_attr" or (is_call and folds):
                self.constants[node] = result
        elif isinstance(result, tuple | list) and result and isinstance(result[0], Tensor):
            self.pieces[node] = [tuple(tensor.shape) for tensor in result]
        else:
            self.plain[node] = result


def infer_shapes(
    module: nn.Module,
    traced: fx.Graph,
    input_shape: Shape,
    device: torch.device,
    dtype: torch.dtype,
) -> NodeValues:
    """Run a network, traced in evaluation mode, on a ``meta`` tensor in place of an image.

    ``device`` and ``dtype`` are those of the parameters. Raises what the network raises for an
    image of a wrong shape.
    """
    interpreter = _MetaInterpreter(module, device)
    image = torch.empty(1, *input_shape, dtype=dtype, device=META)
    for node in traced.nodes:
        if node.op != "output":
            result = image if node.op == "placeholder" else interpreter.result(node)
            interpreter.values[node] = result
            interpreter.known.record(node, result)
    return interpreter.known


class _MetaInterpreter:
    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self.module, self.device = module, device
        self.parts = dict(module.named_modules())
        self.known = NodeValues()
        self.values: dict[fx.Node, Any] = {}

    def result(self, node: fx.Node) -> Any:
        if node.op == "get_attr":
            return attrgetter(str(node.target))(self.module)
        part = self.parts[str(node.target)] if node.op == "call_module" else None
        args: Any = map_arg(node.args, self.values.__getitem__)
        kwargs: Any = map_arg(node.kwargs, self.values.__getitem__)
        if _keeps_shape(find_op(node, part), part, args):
            return args[0]
        if (shape := _linear_shape(part, args)) is not None:
            return torch.empty(shape, dtype=args[0].dtype, device=META)
        result = self._call(node, _function(node, part), args, kwargs)
        if isinstance(result, torch.device) and result == META:
            return self.device  # the network asks for the device of its image
        return result

    def _call(self, node: fx.Node, function: Any, args: Any, kwargs: Any) -> Any:
        if not any(_is_meta(self.values[source]) for source in node.all_input_nodes):
            return function(*args, **kwargs)
        try:
            result = _apply(_to_meta, function, args, kwargs)
        except Exception:  # not implemented on meta, or an error that real tensors report better
            result = None
        if result is None or (isinstance(result, Tensor) and not result.numel()):
            result = map_aggregate(_apply(self._to_zeros, function, args, kwargs), _to_meta)
        return result

    def _to_zeros(self, value: Any) -> Any:
        if not _is_meta(value):
            return value
        zeros = torch.empty_strided(
            value.shape, value.stride(), dtype=value.dtype, device=self.device
        )
        return zeros.zero_()


UNARY = {
    *("dropout", "elu", "gelu", "hardsigmoid", "hardswish", "leaky_relu", "mish"),
    *("relu", "relu6", "sigmoid", "silu", "softplus", "tanh"),
}
"""Operations that keep the shape, and the order in memory, of their operand."""
ARITHMETIC = {"add", "sub", "mul", "div", "minimum", "maximum"}


def _keeps_shape(op: str | None, part: Any, args: tuple[Any, ...]) -> bool:
    """Return whether the result surely has the shape of the first operand, a ``meta`` tensor."""
    if not args or not _is_meta(args[0]):
        return False
    shape = args[0].shape
    if op == "batchnorm":
        return (
            isinstance(part, nn.BatchNorm2d) and len(shape) == 4 and shape[1] == part.num_features
        )
    if op in ARITHMETIC and len(args) == 2:
        return isinstance(args[1], Tensor) and args[1].shape == shape
    return op in UNARY


def _linear_shape(part: Any, args: tuple[Any, ...]) -> Shape | None:
    """Return the output shape of a linear layer, whose real weights ``meta`` would refuse."""
    if type(part) is not nn.Linear or not args or not _is_meta(args[0]):
        return None
    shape = args[0].shape
    return (*shape[:-1], part.out_features) if shape[-1:] == (part.in_features,) else None


def _function(node: fx.Node, part: nn.Module | None) -> Any:
    if node.op == "call_method":
        return lambda first, *args, **kwargs: getattr(first, str(node.target))(*args, **kwargs)
    return node.target if part is None else part


def _apply(convert: Callable[[Any], Any], function: Any, args: Any, kwargs: Any) -> Any:
    return function(*map_aggregate(args, convert), **map_aggregate(kwargs, convert))


def _is_meta(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_meta


def _to_meta(value: Any) -> Any:
    return value.to(META) if isinstance(value, Tensor) else value
