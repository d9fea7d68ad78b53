"""The shapes in a traced network, found without computing any value that depends on the image.

Such values are stand-ins on PyTorch's ``meta`` device, which have a shape and nothing in it.
Parameters, and what is computed of them alone, are real.
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


class Known:
    """What is known of the traced nodes."""

    def __init__(self) -> None:
        self.shapes: dict[fx.Node, Shape] = {}
        """Of those that give a tensor."""
        self.pieces: dict[fx.Node, list[Shape]] = {}
        """Of those that give several."""
        self.constants: dict[fx.Node, Tensor] = {}
        """Those that no image changes: parameters, and what is computed of them alone."""
        self.plain: dict[fx.Node, Any] = {}
        """Those that are no tensors, such as sizes."""

    def keep(self, node: fx.Node, result: Any) -> None:
        if isinstance(result, Tensor):
            self.shapes[node] = tuple(result.shape)
            needs = node.all_input_nodes
            computed = node.op in ("call_function", "call_method") and any(
                one in self.constants for one in needs
            )
            fixed = all(one in self.constants or one in self.plain for one in needs)
            if node.op == "get_attr" or (computed and fixed):
                self.constants[node] = result
        elif isinstance(result, tuple | list) and result and isinstance(result[0], Tensor):
            self.pieces[node] = [tuple(one.shape) for one in result]
        else:
            self.plain[node] = result


def known_of(
    module: nn.Module,
    traced: fx.Graph,
    input_shape: Shape,
    device: torch.device,
    dtype: torch.dtype,
) -> Known:
    """Go through a network, traced in evaluation mode, with a stand-in for an image.

    ``device`` and ``dtype`` are those of the parameters. Raises what the network raises for an
    image of a wrong shape.
    """
    run = _Run(module, device)
    image = torch.empty(1, *input_shape, dtype=dtype, device=META)
    for node in traced.nodes:
        if node.op != "output":
            run.values[node] = image if node.op == "placeholder" else run.result(node)
            run.known.keep(node, run.values[node])
    return run.known


class _Run:
    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self.module, self.device = module, device
        self.parts = dict(module.named_modules())
        self.known = Known()
        self.values: dict[fx.Node, Any] = {}

    def result(self, node: fx.Node) -> Any:
        if node.op == "get_attr":
            return attrgetter(str(node.target))(self.module)
        part = self.parts[str(node.target)] if node.op == "call_module" else None
        args: Any = map_arg(node.args, self.values.__getitem__)
        kwargs: Any = map_arg(node.kwargs, self.values.__getitem__)
        if _keeps_shape(find_op(node, part), part, args):
            return args[0]
        if (found := _linear(part, args)) is not None:
            return torch.empty(found, dtype=args[0].dtype, device=META)
        result = self._computed(node, _function(node, part), args, kwargs)
        if isinstance(result, torch.device) and result == META:
            return self.device  # the network asks where its image is
        return result

    def _computed(self, node: fx.Node, function: Any, args: Any, kwargs: Any) -> Any:
        given = [self.values[one] for one in node.all_input_nodes]
        if not any(map(_is_stand_in, given)):
            return function(*args, **kwargs)
        try:
            result = _on(_stand_in, function, args, kwargs)
        except Exception:  # unknown there, or wrong: then PyTorch says what is
            result = None
        if result is None or (isinstance(result, Tensor) and not result.numel()):
            result = map_aggregate(_on(self._zeros, function, args, kwargs), _stand_in)
        return result

    def _zeros(self, one: Any) -> Any:
        if not _is_stand_in(one):
            return one
        made = torch.empty_strided(one.shape, one.stride(), dtype=one.dtype, device=self.device)
        return made.zero_()


UNARY = {
    "dropout", "elu", "gelu", "hardsigmoid", "hardswish", "leaky_relu", "mish", "relu",
    "relu6", "sigmoid", "silu", "softplus", "tanh",
}  # fmt: skip
"""Operations that give the shape, and the order in memory, of their operand."""
ARITHMETIC = {"add", "sub", "mul", "div", "minimum", "maximum"}


def _keeps_shape(op: str | None, part: Any, args: tuple[Any, ...]) -> bool:
    """Whether the result has the shape of the first operand, a stand-in, for sure."""
    if not args or not _is_stand_in(args[0]):
        return False
    shape = args[0].shape
    if op == "batchnorm":
        return (
            isinstance(part, nn.BatchNorm2d) and len(shape) == 4 and shape[1] == part.num_features
        )
    if op in ARITHMETIC and len(args) == 2:
        return isinstance(args[1], Tensor) and args[1].shape == shape
    return op in UNARY


def _linear(part: Any, args: tuple[Any, ...]) -> Shape | None:
    """Return the shape that a linear layer gives; ``meta`` refuses its real weights."""
    if type(part) is not nn.Linear or not args or not _is_stand_in(args[0]):
        return None
    shape = args[0].shape
    return (*shape[:-1], part.out_features) if shape[-1:] == (part.in_features,) else None


def _function(node: fx.Node, part: nn.Module | None) -> Any:
    if node.op == "call_method":
        return lambda first, *args, **kwargs: getattr(first, str(node.target))(*args, **kwargs)
    return node.target if part is None else part


def _on(move: Callable[[Any], Any], function: Any, args: Any, kwargs: Any) -> Any:
    return function(*map_aggregate(args, move), **map_aggregate(kwargs, move))


def _is_stand_in(one: Any) -> bool:
    return isinstance(one, Tensor) and one.is_meta


def _stand_in(one: Any) -> Any:
    return one.to(META) if isinstance(one, Tensor) else one
