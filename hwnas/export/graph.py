"""From a PyTorch module to the compiler's graph: trace it, run it once for the shapes, lower it.

The set of operations is closed (`hwnas.export.ops.OPS`). Whatever is outside it is an
`ExportError` that names the module and the operation; nothing is approximated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, fx, nn

from hwnas.errors import ExportError
from hwnas.export.lowering import Lowering, Shape
from hwnas.export.nodes import Graph
from hwnas.export.ops import OPS, module_type

__all__ = ["Graph", "evaluating", "trace"]

T = TypeVar("T")


def trace(module: nn.Module, input_shape: tuple[int, int, int]) -> Graph:
    """Return the graph of ``module`` in evaluation mode for images ``[1, *input_shape]``.

    The module is left as it was, its training flags included. Raises `ExportError` for a module
    that cannot be traced, does not take this input, or holds anything outside `OPS`.
    """
    name, tracer = type(module).__name__, _Tracer()
    if module_type(module) in OPS:
        module = nn.Sequential(module)
    with evaluating(module), torch.no_grad():
        traced = _attempt(lambda: tracer.trace(module), f"{name} cannot be traced")
        _check_inputs(traced, name)
        _drop_unused(traced)
        run = _Shapes(module, traced)
        images = torch.zeros(1, *input_shape, **_kind_of_weights(module))
        _attempt(lambda: run.run(images), f"{name} does not take an input of shape {input_shape}")
        return Lowering(module, traced, tracer, run.shapes).graph(input_shape)


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put every part of ``module`` in evaluation mode, and back to what each was."""
    flags = [(part, part.training) for part in module.modules()]
    try:
        for part, _ in flags:
            part.training = False
        yield
    finally:
        for part, training in flags:
            part.training = training


class _Tracer(fx.Tracer):
    """Does not look into modules of `OPS`, subclasses that compute the same included."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return super().is_leaf_module(m, module_qualified_name) or module_type(m) in OPS


class _Shapes(fx.Interpreter):
    """Runs the traced graph once and keeps the shape of every tensor."""

    def __init__(self, module: nn.Module, traced: fx.Graph) -> None:
        super().__init__(module, graph=traced)
        self.shapes: dict[fx.Node, Shape] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.shapes[n] = tuple(result.shape)
        return result


def _attempt(attempt: Callable[[], T], failing: str) -> T:
    """Whatever a user's ``forward`` raises becomes one line."""
    try:
        return attempt()
    except Exception as error:
        first = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise ExportError(f"{failing}: {first}") from error


def _check_inputs(traced: fx.Graph, name: str) -> None:
    inputs = [node.name for node in traced.nodes if node.op == "placeholder"]
    if len(inputs) != 1:
        raise ExportError(f"{name} takes {', '.join(inputs)}; one input is supported")


def _drop_unused(traced: fx.Graph) -> None:
    for node in reversed(traced.nodes):
        if not node.users and node.op not in ("placeholder", "output"):
            traced.erase_node(node)


def _kind_of_weights(module: nn.Module) -> dict[str, Any]:
    weight = next(module.parameters(), torch.zeros(()))
    return {"dtype": weight.dtype, "device": weight.device}
