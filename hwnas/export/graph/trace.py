"""Converts a PyTorch module to the compiler's graph: record its ATen operations, lower them.

The set of operations is closed (`hwnas.export.lowering.registry.LOWER`). An operation that is
neither in it nor decomposed into operations of it is an `ExportError` that names the module and the
operation; nothing is approximated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec
import numpy as np
import torch
from torch import nn

from hwnas.errors import ExportError, HwnasError, first_line
from hwnas.export.graph.in_place import WritesIntoConstant
from hwnas.export.graph.interface import (
    InputShapes,
    Interface,
    described_inputs,
    module_interface,
)
from hwnas.export.graph.modules import evaluating, float32_on_cpu, unchanged
from hwnas.export.graph.nodes import Constant, Graph, Node
from hwnas.export.graph.recording import Recording, Value, replay
from hwnas.export.graph.tensor import TracedTensor
from hwnas.export.graph.tracer import Tracer
from hwnas.export.graph.weights import detached_copy
from hwnas.export.lowering.lowering import Lowering
from hwnas.export.lowering.registry import LOWER


def trace(
    module: nn.Module,
    inputs: InputShapes | Interface,
    *,
    any_batch: bool = False,
    shares_weights: bool = False,
) -> Graph:
    """Return the graph of ``module`` in evaluation mode for a batch of one.

    ``inputs`` are the shapes of the inputs without the batch, or how the module is called. It is
    left unchanged, including its device and training flags. With ``any_batch`` its operations must
    be the same for every batch. With ``shares_weights`` the graph may use the memory of the module,
    which must not change as long as it is in use; else its weights are copies. Raises `ExportError`
    for a module that does not accept these inputs, has a weight that is not finite, or contains an
    operation that cannot be lowered.
    """
    interface = as_interface(module, inputs)
    with _ready(module) as module:
        recording = _record(module, interface)
        if any_batch:
            _check_batch(recording, _record(module, interface, 2))
        graph = Lowering(recording, LOWER, interface.inputs).lower()
    for node in graph.nodes:
        _check_finite(node)
    if shares_weights:
        return graph
    return msgspec.structs.replace(graph, nodes=tuple(map(_with_own_weights, graph.nodes)))


def record(module: nn.Module, inputs: InputShapes | Interface) -> Recording:
    """Return the ATen operations that ``module`` computes for a batch of one."""
    with _ready(module) as ready:
        return _record(ready, as_interface(ready, inputs))


def traced_values(
    module: nn.Module, interface: Interface, arrays: Sequence[np.ndarray]
) -> dict[str, Any]:
    """Return the values of the graph, computed in PyTorch for one of each input, with the batch.

    The keys are the names of the values, in the order of the graph; constants are left out.
    """
    with _ready(module) as module:
        recording, graph, sources = _recorded(module, interface)
        known = replay(recording, *_tensors(recording, arrays))
    return {
        node.name: known[sources[node.name]].float().numpy().reshape(node.shape)
        for node in graph.nodes
        if node.name in sources and not isinstance(node, Constant)
    }


class Replayed(NamedTuple):
    """The values of a network for one sample of each input, call by call."""

    recording: Recording
    known: dict[Value, torch.Tensor]
    names: dict[Value, str]
    """Names of values in the graph."""


def replayed(
    module: nn.Module,
    interface: Interface,
    arrays: Sequence[np.ndarray],
    decide: Callable[[Replayed], dict[Value, torch.Tensor]],
) -> Replayed:
    """Compute every call in PyTorch, again as long as ``decide`` gives other results of calls."""
    with _ready(module) as module:
        recording, _, sources = _recorded(module, interface)
        names, tensors = (
            {value: name for name, value in sources.items()},
            _tensors(recording, arrays),
        )
        given: dict[Value, torch.Tensor] = {}
        while True:
            result = Replayed(recording, replay(recording, *tensors, given=given), names)
            more = decide(result)
            if not more.keys() - given.keys():
                return result
            given |= more


def _recorded(module: nn.Module, interface: Interface) -> tuple[Recording, Graph, dict[str, Value]]:
    """Return the calls of ``module``, its graph, and the value that each node computes."""
    recording = _record(module, interface)
    lowering = Lowering(recording, LOWER, interface.inputs)
    graph = lowering.lower()
    return recording, graph, lowering.sources


def _tensors(recording: Recording, arrays: Sequence[np.ndarray]) -> list[torch.Tensor]:
    return [
        torch.from_numpy(array.reshape(value.shape)).to(value.dtype, copy=True)
        for array, value in zip(arrays, recording.inputs, strict=True)
    ]


def as_interface(module: nn.Module, inputs: InputShapes | Interface) -> Interface:
    """Return how ``module`` is called, for the shapes of its inputs."""
    return inputs if isinstance(inputs, Interface) else module_interface(module, inputs)


@contextmanager
def _ready(module: nn.Module) -> Iterator[nn.Module]:
    module = float32_on_cpu(module)
    with evaluating(module), torch.no_grad():
        yield module


def _record(module: nn.Module, interface: Interface, batch: int = 1) -> Recording:
    weight = next(module.parameters(), torch.zeros(()))
    dtype = weight.dtype if weight.dtype.is_floating_point else torch.float32
    tracer = Tracer(module, LOWER)
    try:
        with unchanged(module), _without_traces(module):
            try:
                return tracer.record(interface, dtype, batch)
            except WritesIntoConstant:  # tracing every constant takes time, and may be refused
                tracer = Tracer(module, LOWER, traces_constants=True)
                return tracer.record(interface, dtype, batch)
    except HwnasError:
        raise
    except Exception as error:  # a user's ``forward`` may raise anything
        path = tracer.failed_path()
        raise ExportError(
            f"{type(module).__name__} does not accept {described_inputs(interface)}: "
            f"{first_line(error)}{f' (in {path})' if path else ''}"
        ) from error


@contextmanager
def _without_traces(module: nn.Module) -> Iterator[None]:
    """Remove traced tensors from the attributes that ``forward`` sets. Raises `ExportError` for a
    buffer: outputs would depend on earlier inputs.
    """
    before = [(part, dict(vars(part))) for part in module.modules()]
    try:
        yield
        for path, part in module.named_modules():
            for name, buffer in part._buffers.items():
                if isinstance(buffer, TracedTensor) and buffer.value is not None:
                    raise ExportError(
                        f"{path or 'the network'}: its buffer {name} is computed from the input: "
                        "outputs may depend on the inputs before; make it an input and an output"
                    )
    finally:
        for part, attributes in before:
            for name, value in list(vars(part).items()):
                if isinstance(value, TracedTensor):
                    if name in attributes:
                        vars(part)[name] = attributes[name]
                    else:
                        del vars(part)[name]


def _check_batch(single: Recording, double: Recording) -> None:
    """Raise `ExportError` unless all values of two inputs have twice the first axis."""
    for one_image, two_images in zip(single.calls, double.calls, strict=False):
        before, after = one_image.result.shape, two_images.result.shape
        if one_image.op != two_images.op or after != (2 * before[0], *before[1:]):
            raise ExportError(
                f"{one_image.path or 'the network'}: aten.{one_image.op} gives {list(before)} for "
                f"one image and {list(after)} for two; the batch cannot be dynamic"
            )


WEIGHTS = ("weight", "bias", "gain", "shift", "slope", "value")
"""Fields of nodes that contain weights."""


def _check_finite(node: Node) -> None:
    for field in WEIGHTS:
        values = getattr(node, field, None)
        if isinstance(values, np.ndarray) and not np.isfinite(values).all():
            raise ExportError(f"{node.name}: its {field} contains a value that is not finite")


def _with_own_weights(node: Node) -> Node:
    """Copy weights that share the module's memory."""
    copies = {
        field: detached_copy(values)
        for field in WEIGHTS
        if isinstance(values := getattr(node, field, None), np.ndarray)
    }
    return msgspec.structs.replace(node, **copies) if copies else node
