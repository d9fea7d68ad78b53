"""Real networks as the operators that a mobile runtime executes.

A network runs once on the meta device (shapes only, no numbers) and every operation that PyTorch
dispatches is recorded. As in TFLite's converter, a batch norm is folded into the convolution before
it, ReLU and ReLU6 are fused into the operator before them, a written-out h-swish is one operator,
and reshapes cost nothing. A grouped convolution that is not depthwise is converted to slices, a
convolution for each group and a concat.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import log2, prod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tools.lib.latency.bench import Floats

KINDS = (
    "dense",
    "depthwise",
    "grouped",
    "linear",
    "pool",
    "mean",
    "join",
    "concat",
    "activate",
    "norm",
    "move",
    "fixed",
)
FUSED = ("relu", "hardtanh")
JOINS = ("add", "mul")
FREE = (
    "view",
    "_unsafe_view",
    "reshape",
    "detach",
    "alias",
    "t",
    "squeeze",
    "unsqueeze",
    "as_strided",
    "expand",
    "lift_fresh",
    "zeros",
    "empty",
    "dropout",
)
MOVES = (
    "split",
    "split_with_sizes",
    "chunk",
    "slice",
    "clone",
    "transpose",
    "permute",
    "channel_shuffle",
    "constant_pad_nd",
    "upsample_bilinear2d",
    "upsample_nearest2d",
    "_upsample_bilinear2d_aa",
    "select",
    "copy",
    "copy_",
)


class Operator(NamedTuple):
    """One operator with its shapes."""

    kind: str
    c_in: int
    c_out: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    size_in: int = 1
    size_out: int = 1
    further: int = 0
    """Elements of the inputs after the first."""

    @property
    def amounts(self) -> list[float]:
        """Resources in the order of `AMOUNTS`, in millions except for the operators."""
        moved = self.size_in**2 * self.c_in + self.size_out**2 * self.c_out + self.further
        taps = self.kernel**2 * self.c_in // self.groups
        weights, pixels = taps * self.c_out, self.size_out**2
        macs, columns, started = pixels * weights, 0, 1
        if self.kind == "grouped":
            started, moved = self.groups + 2, 3 * moved
        if self.kind in ("dense", "grouped") and self.kernel > 1:
            columns = pixels * taps * self.groups
        amounts = dict.fromkeys(AMOUNTS, 0.0)
        if self.kind == "fixed":
            return list(amounts.values())
        amounts["operators"], amounts["elements"] = float(started), moved / 1e6
        if self.kind in MACS:
            amounts[MACS[self.kind]] = macs / 1e6
            amounts["weights"], amounts["columns"] = weights / 1e6, columns / 1e6
        elif self.kind == "pool":
            amounts["elements"] += pixels * self.c_out * self.kernel**2 / 1e6
        return list(amounts.values())

    @property
    def place(self) -> list[float]:
        """Coordinates in which similar operators are neighbours; `GROUPS` has their groups."""
        return [
            log2(max(self.c_in / self.groups, 1)),
            log2(max(self.c_out / self.groups, 1)),
            2 * log2(max(self.size_out, 1)),
            1.5 * log2(self.kernel),
            2.0 * (self.stride - 1),
            *(3.0 * (self.kind == kind) for kind in KINDS),
        ]


MACS = {
    "dense": "dense MACs",
    "linear": "dense MACs",
    "depthwise": "depthwise MACs",
    "grouped": "grouped MACs",
}
AMOUNTS = ("operators", "elements", "weights", "columns", *dict.fromkeys(MACS.values()))
"""``columns``: elements of the im2col matrix of a dense convolution larger than 1x1."""
GROUPS = (0, 0, 1, 2, 3, *([3] * len(KINDS)))


def operators_of(module: nn.Module, size: int) -> Counter[Operator]:
    """Return the operators of ``module`` (on the meta device) for one image, and how often each."""
    recorder = _Recorder()
    with torch.no_grad(), recorder:
        module.eval()(torch.zeros(1, 3, size, size, device="meta"))
    return Counter([*recorder.operators, Operator("fixed", 1, 1)])


def macs_of(operators: Counter[Operator]) -> float:
    """Return multiply-accumulates in millions."""
    columns = [number for number, name in enumerate(AMOUNTS) if name.endswith("MACs")]
    return sum(n * sum(operator.amounts[c] for c in columns) for operator, n in operators.items())


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operators: list[Operator] = []
        self.made: dict[int, str] = {}
        self.last: list[_Step] = []
        self.alive: list[Any] = []  # ids stay those of their tensors

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.__name__.split(".")[0].rstrip("_") or func.__name__
        before = self.made.get(id(args[0]), "") if args else ""
        operator = _operator(name, before, args, result)
        outputs = result if isinstance(result, (tuple, list)) else (result,)
        made = operator.kind if operator is not None else before or name
        for output in outputs:
            self.made[id(output)] = "join" if name in JOINS else made  # also by a number
        self.alive.append((args, result))
        if operator is not None:
            self.operators.append(operator)
        tensors = tuple(id(arg) for arg in args if isinstance(arg, Tensor))
        self.last = [*self.last[-3:], _Step(name, tensors, id(result), len(self.operators))]
        if _is_hswish(self.last):
            end = self.last[0].recorded - 1  # without the operator of the shift
            self.operators = [*self.operators[:end], self.operators[-1]]
        return result


class _Step(NamedTuple):
    """A dispatched operation."""

    name: str
    tensors: tuple[int, ...]
    result: int
    recorded: int
    """Number of recorded operators, up to and including it."""


def _is_hswish(steps: Sequence[_Step]) -> bool:
    """Return whether the last operations are ``x * relu6(x + 3) / 6``."""
    if [step.name for step in steps] != ["add", "hardtanh", "mul", "div"]:
        return False
    shift, clip, product, scale = steps
    x = shift.tensors
    return (
        len(x) == 1
        and clip.tensors == (shift.result,)
        and set(product.tensors) == {*x, clip.result}
        and scale.tensors == (product.result,)
    )


def _operator(name: str, before: str, args: tuple[Any, ...], result: Any) -> Operator | None:
    """Return the executed operator, or ``None`` if it costs nothing or is fused."""
    if name in FREE or not args:
        return None
    if name in FUSED and before in ("dense", "depthwise", "grouped", "linear", "join", "norm"):
        return None
    if name == "convolution":
        return _conv(args, result)
    if name in ("addmm", "mm", "linear"):
        inputs, weight = args[-2:]
        return Operator("linear", inputs.shape[-1], weight.shape[-1])
    output = result[0] if isinstance(result, (tuple, list)) else result
    if not isinstance(output, Tensor) or output.dim() < 2:
        return None
    c_out, size_out = output.shape[1], _side(output)
    if "batch_norm" in name:
        folded = before in ("dense", "depthwise", "grouped")
        return (
            None if folded else Operator("norm", c_out, c_out, size_in=size_out, size_out=size_out)
        )
    kind = _kind(name)
    if kind == "concat":
        return Operator(kind, c_out, c_out, size_in=size_out, size_out=size_out)
    source, *others = [argument for argument in args if isinstance(argument, Tensor)] or [output]
    c_in, size_in = source.shape[1] if source.dim() > 1 else 1, _side(source)
    if kind == "join" and not others:
        kind = "activate"  # by a number: part of a hard sigmoid
    further = sum(tensor.numel() for tensor in others) if kind == "join" else 0
    kernel = int(args[1][0]) if kind == "pool" else 1
    stride = max(1, size_in // max(size_out, 1)) if kind == "pool" else 1
    return Operator(kind, c_in, c_out, kernel, stride, 1, size_in, size_out, further)


def _conv(args: tuple[Any, ...], result: Tensor) -> Operator:
    inputs, weight, groups = args[0], args[1], args[8]
    kind = "dense" if groups == 1 else "grouped"
    if groups == weight.shape[0] == inputs.shape[1]:
        kind = "depthwise"
    return Operator(
        kind,
        inputs.shape[1],
        weight.shape[0],
        weight.shape[2],
        args[3][0],
        groups,
        _side(inputs),
        _side(result),
    )


def _kind(name: str) -> str:
    if name in JOINS:
        return "join"
    if name == "cat":
        return "concat"
    if "adaptive" in name or name == "mean":
        return "mean"
    if "pool" in name:
        return "pool"
    return "move" if name in MOVES else "activate"


def _side(tensor: Tensor) -> int:
    """Return the side of a square with the same number of pixels."""
    return round(prod(tensor.shape[2:]) ** 0.5) if tensor.dim() > 2 else 1


def matrix(networks: Sequence[Mapping[Operator, int]]) -> tuple[list[Operator], Floats]:
    """Return the distinct operators and the counts ``[N, B]``."""
    items = list(dict.fromkeys(operator for network in networks for operator in network))
    place = {operator: number for number, operator in enumerate(items)}
    counts = np.zeros((len(networks), len(items)))
    for row, network in zip(counts, networks, strict=True):
        for operator, number in network.items():
            row[place[operator]] = number
    return items, counts
