"""What stays in float32 in every int8 file, by the operators of its float32 file.

Eight bits hold a value to 1/256 of the width of its range. That suffices for features, not for:

* places: coordinates and indices, whose unit is a pixel or a row of a larger map;
* statistics of norms: squares span twice the range in decibels, and a root or a quotient of a small
  value multiplies its rounding;
* functions that magnify differences, such as powers and exponentials, and decisions on values;
* probabilities of an attention over many tokens, for which quantisers fix the range 0 to 1;
* outputs that join values of unlike ranges, as boxes in pixels and scores from 0 to 1.

The operators that compute these are `PRECISE`. With them stay the elementwise operators between
them and on their results, which are as fast in float32 as between two roundings, such as the gain
and shift of a norm, the product of a GELU and the residual sums of a transformer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from hwnas.export.quantization.ranges import Ranges

DECIDING = {"ARGMAX", "ARGMIN", "TOPK", "TOPKV2"}
"""Operators that choose among values: what they give is exact, what they read are features."""

PRECISE = DECIDING | {
    *("SQRT", "RSQRT", "POW", "EXP", "LOG", "ERF", "SIN", "COS", "FLOOR", "ROUND", "CEIL", "MOD"),
    *("GREATER", "GREATEROREQUAL", "GREATEREQUAL", "LESS", "LESSOREQUAL", "LESSEQUAL", "EQUAL"),
    *("NOTEQUAL", "WHERE", "SELECTV2", "CAST", "TOINTEGER", "REDUCEPROD"),
    *("LAYERNORMALIZATION", "SOFTMAX", "LOGSOFTMAX", "QUOTIENT"),
}
"""Operators that need more than eight bits."""

MOVING = {
    *("RESHAPE", "TRANSPOSE", "SQUEEZE", "UNSQUEEZE", "FLATTEN", "EXPAND", "BROADCASTTO", "TILE"),
    *("SLICE", "STRIDEDSLICE", "SPLIT", "CONCAT", "CONCATENATION", "PACK", "IDENTITY"),
    *("GATHER", "GATHERND", "GATHERELEMENTS", "PAD", "PADV2", "MIRRORPAD"),
    *("SCATTERELEMENTS", "SCATTERND"),
}
"""Operators that only move elements."""

JOINING = {"CONCAT", "CONCATENATION", "PACK"}
UPDATES = {"SCATTERELEMENTS": 2, "SCATTERND": 1}
"""Which input of an operator that moves has the elements, if it is not the first."""

ELEMENTWISE = {
    *("ADD", "SUB", "MUL", "DIV", "MIN", "MINIMUM", "MAX", "MAXIMUM", "NEG", "ABS", "SUM"),
    *("RELU", "RELU6", "CLIP", "LEAKYRELU", "PRELU", "ELU", "TANH", "SIGMOID", "LOGISTIC"),
    *("HARDSIGMOID", "HARDSWISH", "GELU"),
    *("MEAN", "REDUCEMEAN", "REDUCESUM", "REDUCEMAX", "REDUCEMIN"),
}
"""Elementwise operators and reductions, of no weights."""

MAXIMA = {"MAXPOOL", "MAXPOOL2D"}
"""Pools whose result may be compared with what they read: either both are rounded or none."""

PRODUCTS = {"MATMUL", "BATCHMATMUL"}


UNLIKE = 8.0
"""Ratio of the widths of two ranges from which they do not share 256 levels: one has 32 of them."""


class Operator(NamedTuple):
    """An operator of a file."""

    kind: str
    """Its name in the format, in capitals without underscores; ``TOINTEGER`` is a conversion to
    integers, ``QUOTIENT`` a division by a value that is computed."""
    inputs: tuple[str, ...]
    """Names of the values that it reads, empty for constants."""
    outputs: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name of its first output."""
        return self.outputs[0]

    @property
    def elements(self) -> tuple[str, ...]:
        """The inputs whose elements are computed with or moved, without those that state places."""
        if self.kind in MOVING - JOINING:
            place = UPDATES.get(self.kind, 0)
            return tuple(filter(None, self.inputs[place : place + 1]))
        return tuple(filter(None, self.inputs))


def kind_of(name: str, inputs: Sequence[str], *, gives_integers: bool = False) -> str:
    """Return the kind of an operator that is called ``name`` in a format.

    ``inputs`` are empty for constants.
    """
    kind = name.upper().replace("_", "")
    if kind == "DIV" and inputs[1]:
        return "QUOTIENT"
    return "TOINTEGER" if kind == "CAST" and gives_integers else kind


def float_operators(
    operators: Sequence[Operator], outputs: Collection[str], ranges: Ranges
) -> set[str]:
    """Return the names of the operators that stay in float32, and of such inputs of the network.

    ``operators`` are in an order of execution; ``outputs`` are the names of the network's,
    ``ranges`` those of the values, as far as they are known.
    """
    return _Rules(operators, outputs, ranges).result()


class _Rules:
    def __init__(
        self, operators: Sequence[Operator], outputs: Collection[str], ranges: Ranges
    ) -> None:
        self.operators, self.outputs, self.ranges = operators, set(outputs), ranges
        self.makers = {name: each for each in operators for name in each.outputs}
        self.readers: dict[str, set[str]] = {}
        for each in operators:
            for name in filter(None, each.inputs):
                self.readers.setdefault(name, set()).add(each.name)
        self.floats: set[str] = set()

    def result(self) -> set[str]:
        exact = {*self._places(), *self._divisors(), *self._unlike_outputs()}
        self.floats = exact | {each.name for each in self.operators if self._is_precise(each)}
        before = -1
        while before != len(self.floats):
            before = len(self.floats)
            self._forward()
            self._backward()
        for each in reversed(self.operators):
            if each.kind in MOVING and each.name not in exact and self._is_only_moved(each):
                self.floats.discard(each.name)
        return self.floats

    def _is_precise(self, each: Operator) -> bool:
        """A softmax that the network ends with is a probability from 0 to 1 indeed."""
        return each.kind in PRECISE and not (each.kind == "SOFTMAX" and each.name in self.outputs)

    def _places(self) -> Iterator[str]:
        """Yield what computes coordinates and indices, back to the layers with weights, or to
        decisions, and inputs of the network that are such."""
        waiting = [each.inputs[1] for each in self.operators if each.kind == "GRIDSAMPLE"]
        waiting += [each.inputs[0] for each in self.operators if each.kind == "TOINTEGER"]
        reached: set[str] = set()
        while waiting:
            value = waiting.pop()
            if not value or value in reached:
                continue
            reached.add(value)
            maker = self.makers.get(value)
            if maker is None or maker.kind not in DECIDING:
                yield value if maker is None else maker.name
            if maker is not None and self._passes(maker):
                waiting += maker.inputs

    def _unlike_outputs(self) -> Iterator[str]:
        """Yield what joins values of unlike ranges to an output, and what moves it there."""
        last, unlike = self._moves_before_outputs(), set[str]()
        for each in self.operators:
            if each.name in last:
                joins = each.kind in JOINING and self._joins_unlike(each)
                if joins or not unlike.isdisjoint(each.elements):
                    unlike.update(each.outputs)
                    yield each.name

    def _moves_before_outputs(self) -> set[str]:
        """Return the names of the moves whose elements are only moved until they are outputs."""
        last: set[str] = set()
        for each in reversed(self.operators):
            if each.kind in MOVING:
                readers = self._readers(each)
                if self._is_output(each) or (readers and readers <= last):
                    last.add(each.name)
        return last

    def _joins_unlike(self, each: Operator) -> bool:
        ranges = [self.ranges[name] for name in each.elements if name in self.ranges]
        widths = [high - low for low, high in ranges if high > low]
        return max(widths, default=0.0) > UNLIKE * min(widths, default=0.0)

    def _divisors(self) -> Iterator[str]:
        """Yield the products of values that are divided by, such as the sums of a linear attention.

        Moves and elementwise operators between stay in float32 if nothing else reads them.
        """
        waiting = [each.inputs[1] for each in self.operators if each.kind == "QUOTIENT"]
        reached: set[str] = set()
        while waiting:
            maker = self.makers.get(waiting.pop())
            if maker is None or maker.name in reached:
                continue
            reached.add(maker.name)
            if maker.kind in PRODUCTS and all(maker.inputs):
                yield maker.name
            elif maker.kind in MOVING | ELEMENTWISE:
                waiting += maker.elements

    def _passes(self, each: Operator) -> bool:
        """Return whether a place that ``each`` computes is one before, too."""
        if each.kind in PRODUCTS:
            return bool(each.inputs[1])  # else its second factor are weights
        return each.kind not in DECIDING and each.kind in PRECISE | MOVING | ELEMENTWISE

    def _forward(self) -> None:
        for each in self.operators:
            given = [name in self.makers and self._is_float(name) for name in each.elements]
            needed = all if each.kind in JOINING else any
            if each.kind in MOVING | ELEMENTWISE and given and needed(given):
                self.floats.add(each.name)

    def _backward(self) -> None:
        for each in reversed(self.operators):
            if each.kind in MOVING | ELEMENTWISE | MAXIMA and self._is_read_by_floats(each):
                self.floats.add(each.name)

    def _is_float(self, value: str) -> bool:
        return self.makers[value].name in self.floats

    def _is_read_by_floats(self, each: Operator) -> bool:
        readers = self._readers(each)
        return bool(readers) and readers <= self.floats and not self._is_output(each)

    def _is_only_moved(self, each: Operator) -> bool:
        """Return whether rounding may as well come before ``each``: nothing reads it exactly."""
        return self._readers(each).isdisjoint(self.floats) and not self._is_output(each)

    def _is_output(self, each: Operator) -> bool:
        return not self.outputs.isdisjoint(each.outputs)

    def _readers(self, each: Operator) -> set[str]:
        """Return the names of the operators that read what ``each`` gives."""
        return {reader for name in each.outputs for reader in self.readers.get(name, ())}
