"""The nodes of an ONNX file as modules that run in order, those with graphs inside them, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from onnx import NodeProto
from torch import Tensor, nn

from hwnas.errors import ExportError, first_line
from hwnas.export.onnx_reader.node import OnnxNode

Values = dict[str, Any]
MAX_REPETITIONS = 1000
"""Steps of a loop, which are written out one after the other."""


class Step(nn.Module):
    """A node that is computed; the compiler's errors name the modules in which they occur."""

    def __init__(self, node: OnnxNode, function: Callable[..., Any], proto: NodeProto) -> None:
        super().__init__()
        self.node, self.function = node, function
        self.reads, self.writes = list(proto.input), list(proto.output)

    def forward(self, *inputs: Any) -> Any:
        try:
            return self.function(self.node, *inputs)
        except ExportError:
            raise
        except Exception as error:  # whatever PyTorch raises for operands that do not fit
            self.node.refuse(f"cannot be computed: {first_line(error)}")


class Branch(Step):
    """An ``If`` whose condition is known: the nodes of its branch are computed."""

    def __init__(self, node: OnnxNode, proto: NodeProto, branches: dict[bool, Graph]) -> None:
        super().__init__(node, self.choose, proto)
        self.branches = branches
        self.outer: Values = {}

    def choose(self, node: OnnxNode, condition: Tensor) -> Any:
        graph = self.branches[bool(node.constant(condition, "a condition").any())]
        values = {**self.outer, **graph.constants}
        run(graph.steps, values)
        outputs = tuple(values[name] for name in graph.outputs)
        return outputs[0] if len(outputs) == 1 else outputs


class Repetition(Step):
    """A ``Loop`` whose number of steps is known: the nodes of its body are computed in each."""

    def __init__(self, node: OnnxNode, proto: NodeProto, body: Graph) -> None:
        super().__init__(node, self.repeat, proto)
        self.body = body
        self.outer: Values = {}

    def repeat(
        self, node: OnnxNode, count: Tensor | None, going: Tensor | None, *states: Any
    ) -> Any:
        limit = MAX_REPETITIONS + 1
        if count is not None:
            limit = min(limit, node.numbers(count, "a number of steps")[0])
        scanned: list[list[Tensor]] = [[] for _ in self.body.outputs[1 + len(states) :]]
        for step in range(limit):
            if going is not None and not node.constant(going, "a condition").any():
                break
            if step == MAX_REPETITIONS:
                node.refuse(f"has more than {MAX_REPETITIONS} steps")
            state = (torch.tensor(step), torch.tensor(True) if going is None else going, *states)
            values = {**self.outer, **self.body.constants}
            values.update(zip(self.body.inputs, state, strict=True))
            run(self.body.steps, values)
            going, *results = (values[name] for name in self.body.outputs)
            states = tuple(results[: len(states)])
            for series, result in zip(scanned, results[len(states) :], strict=True):
                series.append(result)
        if scanned and not scanned[0]:
            node.refuse("has no steps, so that the shape of its outputs is unknown")
        outputs = (*states, *map(torch.stack, scanned))
        return outputs[0] if len(outputs) == 1 else outputs


class Graph(NamedTuple):
    """A graph inside a node."""

    constants: Values
    inputs: list[str]
    steps: list[Step]
    outputs: list[str]


def run(steps: list[Step], values: Values) -> None:
    """Compute ``steps`` in order, and add their outputs to ``values``."""
    for step in steps:
        unknown = [name for name in step.reads if name and name not in values]
        if unknown:
            step.node.refuse(f"reads {unknown[0]!r}, which no node before it computes")
        if isinstance(step, Branch | Repetition):
            step.outer = values
        results = step(*(values[name] if name else None for name in step.reads))
        listed = results if isinstance(results, tuple) else (results,)
        values.update(zip(step.writes, listed, strict=False))
        _check_written(step, values)


def _check_written(step: Step, values: Values) -> None:
    for name in step.writes[: step.node.outputs]:
        if name and name not in values:
            step.node.refuse(f"gives {name!r}, which is not supported")
