"""An arranged graph while nodes are replaced: the readers of each value, and values without
readers."""

from __future__ import annotations

from collections.abc import Sequence

from hwnas.export.graph.nodes import Node
from hwnas.export.layout.arrange import Arranged


class Dataflow:
    """The nodes of a graph by name, in an order of execution."""

    def __init__(self, graph: Arranged) -> None:
        self.graph = graph
        self.nodes: dict[str, Node] = {node.name: node for node in graph.nodes}
        self.inputs = {spec.name: spec.shape for spec in graph.inputs}
        self.outputs = {spec.name for spec in graph.outputs}
        self.steps: dict[str, list[Node]] = {spec.name: [] for spec in graph.inputs}
        """Nodes that replace each value of the original graph."""
        self.steps |= {node.name: [node] for node in graph.nodes}
        self.reads: dict[str, int] = {}
        for node in graph.nodes:
            for name in node.inputs:
                self.reads[name] = self.reads.get(name, 0) + 1

    def shape(self, name: str) -> tuple[int, ...]:
        return self.inputs[name] if name in self.inputs else self.nodes[name].shape

    def only_read(self, name: str) -> Node | None:
        """Return the node that computes a value, if a single node reads it."""
        if name in self.outputs or self.reads[name] != 1:
            return None
        return self.nodes.get(name)

    def replace(self, node: Node, steps: Sequence[Node]) -> None:
        """Compute ``steps`` in the place of ``node``; the last one has its name."""
        self.steps[node.name] = list(steps)
        for step in steps:
            self.nodes[step.name] = step
            self._count(step.inputs, 1)
        self._count(node.inputs, -1)

    def add_after(self, name: str, steps: Sequence[Node]) -> None:
        """Compute ``steps`` right after a value of the original graph."""
        self.steps[name] += steps
        for step in steps:
            self.nodes[step.name] = step
            self._count(step.inputs, 1)

    def finish(self) -> Arranged:
        """Return the graph without nodes that nothing reads."""
        nodes = [step for steps in self.steps.values() for step in steps]
        read, needed = set(self.outputs), list[Node]()
        for node in reversed(nodes):
            if node.name in read:
                read.update(node.inputs)
                needed.append(node)
        return Arranged(self.graph.inputs, tuple(needed[::-1]), self.graph.outputs)

    def _count(self, names: Sequence[str], more: int) -> None:
        for name in names:
            self.reads[name] = self.reads.get(name, 0) + more
            if not self.reads[name] and name in self.nodes and name not in self.outputs:
                node = self.nodes.pop(name)
                self._count(node.inputs, -1)
