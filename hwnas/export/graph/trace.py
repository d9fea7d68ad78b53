"""From a PyTorch module to the compiler's graph: trace it, find the shapes, lower it.

The set of operations is closed (`hwnas.export.graph.ops.OPS`). Whatever is outside it is an
`ExportError` that names the module and the operation; nothing is approximated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec
import numpy as np
import torch
from torch import Tensor, fx, nn

from hwnas.errors import ExportError
from hwnas.export.graph.nodes import Constant, Graph, Node
from hwnas.export.graph.ops import OPS, LeafTracer, module_type
from hwnas.export.graph.shapes import known_of
from hwnas.export.graph.weights import own
from hwnas.export.lowering.lowering import Lowering
from hwnas.export.lowering.registry import LOWER

__all__ = ["Graph", "evaluating", "trace", "traced_values"]

T = TypeVar("T")
FALL_BACK = "; a fall-back for such networks: hwnas export --via torch-onnx or litert-torch"


def trace(module: nn.Module, input_shape: tuple[int, int, int]) -> Graph:
    """Return the graph of ``module`` in evaluation mode for images ``[1, *input_shape]``.

    The module is left as it was, its training flags included. Raises `ExportError` for a module
    that cannot be traced, does not take this input, has a weight that is not finite, or holds
    anything outside `OPS`.
    """
    module = _wrapped(module)
    with evaluating(module), torch.no_grad():
        lowering, _ = _lowered(module, input_shape)
    return _finished(lowering.result)


def traced_values(
    module: nn.Module, input_shape: tuple[int, int, int], image: Tensor
) -> dict[str, Any]:
    """Return what each value of the graph is in PyTorch for one ``image`` ``[C, H, W]``.

    By the value's name and in the order of the graph; constants are left out.
    """
    module = _wrapped(module)
    with evaluating(module), torch.no_grad():
        lowering, traced = _lowered(module, input_shape)
        run = _Values(module, traced, set(lowering.sources.values()))
        run.run(image[None].to(**_kind_of_weights(module)))
    return {
        node.name: lowering.plain(lowering.sources[name], run.kept).reshape(node.shape)
        for name, node in zip(lowering.nodes, lowering.result.nodes, strict=True)
        if not isinstance(node, Constant)
    }


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


def _wrapped(module: nn.Module) -> nn.Module:
    return nn.Sequential(module) if module_type(module) in OPS else module


def _lowered(module: nn.Module, input_shape: tuple[int, int, int]) -> tuple[Lowering, fx.Graph]:
    inner = module[0] if type(module) is nn.Sequential and len(module) == 1 else module
    name, tracer = type(inner).__name__, LeafTracer()
    traced = _attempt(lambda: tracer.trace(module), f"{name} cannot be traced", FALL_BACK)
    _check_inputs(traced, name)
    _drop_unused(traced)
    known = _attempt(
        lambda: known_of(module, traced, input_shape, **_kind_of_weights(module)),
        f"{name} does not take an input of shape {input_shape}",
    )
    lowering = Lowering(module, traced, tracer, known, LOWER)
    lowering.lower(input_shape)
    return lowering, traced


class _Values(fx.Interpreter):
    """Runs the traced graph on an image and keeps what some of its nodes give."""

    def __init__(self, module: nn.Module, traced: fx.Graph, keeps: set[fx.Node]) -> None:
        super().__init__(module, graph=traced)
        self.keeps = keeps
        self.kept: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n in self.keeps:
            self.kept[n] = result.detach().to("cpu", torch.float32, copy=True).numpy()
        return result


def _attempt(attempt: Callable[[], T], failing: str, hint: str = "") -> T:
    """Whatever a user's ``forward`` raises becomes one line."""
    try:
        return attempt()
    except Exception as error:
        first = (str(error) or type(error).__name__).strip().splitlines()[0]
        raise ExportError(f"{failing}: {first}{hint}") from error


def _finished(graph: Graph) -> Graph:
    """Return the graph with all numbers its own. Raises for one that is not finite."""
    return msgspec.structs.replace(graph, nodes=tuple(map(_own, graph.nodes)))


def _own(node: Node) -> Node:
    found: dict[str, Any] = {}
    for field in ("weight", "bias", "gain", "shift", "slope", "value"):
        values = getattr(node, field, None)
        if isinstance(values, np.ndarray):
            if not np.isfinite(values).all():
                raise ExportError(f"{node.name}: its {field} holds a value that is not finite")
            found[field] = own(values)
    return msgspec.structs.replace(node, **found) if found else node


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
