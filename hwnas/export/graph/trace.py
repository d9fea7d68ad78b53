"""Converts a PyTorch module to the compiler's graph: trace it, infer the shapes, lower it.

The set of operations is closed (`hwnas.export.graph.ops.OPS`). Any other operation is an
`ExportError` that names the module and the operation; nothing is approximated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from itertools import chain
from typing import Any, TypeVar

import msgspec
import numpy as np
import torch
from torch import Tensor, fx, nn

from hwnas.errors import ExportError, first_line
from hwnas.export.graph.nodes import Constant, Graph, Node
from hwnas.export.graph.ops import OPS, LeafTracer, module_type
from hwnas.export.graph.shapes import infer_shapes
from hwnas.export.graph.weights import detached_copy
from hwnas.export.lowering.lowering import Lowering
from hwnas.export.lowering.registry import LOWER

__all__ = ["Graph", "evaluating", "on_cpu", "trace", "traced_values"]

T = TypeVar("T")
FALL_BACK = "; fall-back: hwnas export --via torch-onnx or litert-torch"


def trace(module: nn.Module, input_shape: tuple[int, int, int]) -> Graph:
    """Return the graph of ``module`` in evaluation mode for images ``[1, *input_shape]``.

    The module is left unchanged, including its device and training flags. Raises `ExportError` for
    a module that cannot be traced, does not accept this input, has a weight that is not finite, or
    contains an operation outside `OPS`.
    """
    module = _wrapped(on_cpu(module))
    with evaluating(module), torch.no_grad():
        lowering, _ = _lowered(module, input_shape)
    nodes = tuple(map(_with_own_weights, lowering.result.nodes))
    return msgspec.structs.replace(lowering.result, nodes=nodes)


def traced_values(
    module: nn.Module, input_shape: tuple[int, int, int], image: Tensor
) -> dict[str, Any]:
    """Return the values of the graph, computed in PyTorch for one ``image`` ``[C, H, W]``.

    The keys are the names of the values, in the order of the graph; constants are left out.
    """
    module = _wrapped(on_cpu(module))
    with evaluating(module), torch.no_grad():
        lowering, traced = _lowered(module, input_shape)
        recorder = _Recorder(module, traced, set(lowering.sources.values()))
        recorder.run(image[None].to(**_weight_options(module)))
    return {
        node.name: lowering.to_nchw(lowering.sources[name], recorder.results).reshape(node.shape)
        for name, node in zip(lowering.nodes, lowering.result.nodes, strict=True)
        if not isinstance(node, Constant)
    }


def on_cpu(module: nn.Module) -> nn.Module:
    """Return ``module``, or a copy on the CPU if it is on another device.

    Convolutions on GPUs round to TF32 by default, too coarse to compare a file with.
    """
    tensors = chain(module.parameters(), module.buffers())
    if all(tensor.device.type == "cpu" for tensor in tensors):
        return module
    return deepcopy(module).cpu()


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put every part of ``module`` in evaluation mode and restore its mode afterwards."""
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
    traced = _call_user_code(lambda: tracer.trace(module), f"{name} cannot be traced", FALL_BACK)
    _check_inputs(traced, name)
    _drop_unused(traced)
    known = _call_user_code(
        lambda: infer_shapes(module, traced, input_shape, **_weight_options(module)),
        f"{name} does not accept an input of shape {input_shape}",
    )
    lowering = Lowering(module, traced, tracer, known, LOWER)
    lowering.lower(input_shape)
    return lowering, traced


class _Recorder(fx.Interpreter):
    """Runs the traced graph on an image and records the results of some nodes."""

    def __init__(self, module: nn.Module, traced: fx.Graph, recorded: set[fx.Node]) -> None:
        super().__init__(module, graph=traced)
        self.recorded = recorded
        self.results: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n in self.recorded:
            self.results[n] = result.detach().to("cpu", torch.float32, copy=True).numpy()
        return result


def _call_user_code(call: Callable[[], T], failure: str, hint: str = "") -> T:
    """Turn whatever a user's ``forward`` raises into an error of one line."""
    try:
        return call()
    except Exception as error:
        raise ExportError(f"{failure}: {first_line(error)}{hint}") from error


def _with_own_weights(node: Node) -> Node:
    """Copy weights that share the module's memory. Raises for values that are not finite."""
    copies: dict[str, Any] = {}
    for field in ("weight", "bias", "gain", "shift", "slope", "value"):
        values = getattr(node, field, None)
        if isinstance(values, np.ndarray):
            if not np.isfinite(values).all():
                raise ExportError(f"{node.name}: its {field} contains a value that is not finite")
            copies[field] = detached_copy(values)
    return msgspec.structs.replace(node, **copies) if copies else node


def _check_inputs(traced: fx.Graph, name: str) -> None:
    inputs = [node.name for node in traced.nodes if node.op == "placeholder"]
    if len(inputs) != 1:
        raise ExportError(f"{name} takes the inputs {', '.join(inputs)}; only one is supported")


def _drop_unused(traced: fx.Graph) -> None:
    for node in reversed(traced.nodes):
        if not node.users and node.op not in ("placeholder", "output"):
            traced.erase_node(node)


def _weight_options(module: nn.Module) -> dict[str, Any]:
    weight = next(module.parameters(), torch.zeros(()))
    return {"dtype": weight.dtype, "device": weight.device}
