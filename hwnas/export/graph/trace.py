"""Converts a PyTorch module to the compiler's graph: record its ATen operations, lower them.

The set of operations is closed (`hwnas.export.lowering.registry.LOWER`). An operation that is
neither in it nor decomposed into operations of it is an `ExportError` that names the module and the
operation; nothing is approximated.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from inspect import signature
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from hwnas.errors import ExportError, first_line
from hwnas.export.graph.modules import evaluating, float32_on_cpu
from hwnas.export.graph.nodes import Constant, Graph, Node
from hwnas.export.graph.recording import Recording, replay
from hwnas.export.graph.tracer import Tracer
from hwnas.export.graph.weights import detached_copy
from hwnas.export.lowering.lowering import Lowering
from hwnas.export.lowering.registry import LOWER


def trace(
    module: nn.Module, input_shape: tuple[int, int, int], *, any_batch: bool = False
) -> Graph:
    """Return the graph of ``module`` in evaluation mode for images ``[1, *input_shape]``.

    The module is left unchanged, including its device and training flags. With ``any_batch`` its
    operations must be the same for every number of images. Raises `ExportError` for a module that
    does not accept this input, has a weight that is not finite, or contains an operation that
    cannot be lowered.
    """
    with _ready(module) as module:
        recording = _record(module, (1, *input_shape))
        if any_batch:
            _check_batch(recording, _record(module, (2, *input_shape)))
        lowering = Lowering(recording, LOWER)
        graph = lowering.lower()
    return msgspec.structs.replace(graph, nodes=tuple(map(_with_own_weights, graph.nodes)))


def traced_values(
    module: nn.Module, input_shape: tuple[int, int, int], image: Tensor
) -> dict[str, Any]:
    """Return the values of the graph, computed in PyTorch for one ``image`` ``[C, H, W]``.

    The keys are the names of the values, in the order of the graph; constants are left out.
    """
    with _ready(module) as module:
        recording = _record(module, (1, *input_shape))
        lowering = Lowering(recording, LOWER)
        graph = lowering.lower()
        known = replay(recording, image[None].to(recording.image.dtype))
    return {
        node.name: known[lowering.sources[node.name]].float().numpy().reshape(node.shape)
        for node in graph.nodes
        if node.name in lowering.sources and not isinstance(node, Constant)
    }


@contextmanager
def _ready(module: nn.Module) -> Iterator[nn.Module]:
    module = float32_on_cpu(module)
    with evaluating(module), torch.no_grad():
        yield module


def _record(module: nn.Module, shape: tuple[int, ...]) -> Recording:
    weight = next(module.parameters(), torch.zeros(()))
    _check_inputs(module)
    try:
        return Tracer(module, LOWER).record(shape, weight.dtype)
    except ExportError:
        raise
    except Exception as error:  # a user's ``forward`` may raise anything
        raise ExportError(
            f"{type(module).__name__} does not accept an input of shape {shape[1:]}: "
            f"{first_line(error)}"
        ) from error


def _check_inputs(module: nn.Module) -> None:
    """Raise `ExportError` if ``forward`` needs more than one argument."""
    with suppress(TypeError, ValueError):  # no signature, as in TorchScript
        needed = [
            parameter.name
            for parameter in signature(module.forward).parameters.values()
            if parameter.default is parameter.empty
            and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        ]
        if len(needed) > 1:
            raise ExportError(
                f"{type(module).__name__} takes {len(needed)} inputs ({', '.join(needed)}); only "
                "one is supported"
            )


def _check_batch(single: Recording, double: Recording) -> None:
    """Raise `ExportError` unless all values of two images have twice the first axis."""
    for one_image, two_images in zip(single.calls, double.calls, strict=False):
        before, after = one_image.result.shape, two_images.result.shape
        if one_image.op != two_images.op or after != (2 * before[0], *before[1:]):
            raise ExportError(
                f"{one_image.path or 'the network'}: aten.{one_image.op} gives {list(before)} for "
                f"one image and {list(after)} for two; the batch cannot be dynamic"
            )


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
