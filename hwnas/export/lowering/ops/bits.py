"""Lowering of bitwise operations on integers, which are numbers of float32 up to 2^24.

Each number becomes a row of bits, in two's complement if its type has a sign.
"""

from __future__ import annotations

import numpy as np
import torch

from hwnas.export.graph.recording import Call, Value
from hwnas.export.lowering.lowering import Lowering
from hwnas.export.lowering.steps import Steps

BITS = 25
"""Bits of a number from ``-2^24`` on, with its sign."""
BYTE = 8


def bitwise(lowering: Lowering, call: Call) -> None:
    """Lower ``and``, ``or``, ``xor`` and ``not`` of numbers."""
    steps, is_byte = Steps(lowering, call), call.result.dtype == torch.uint8
    if "not" in call.op:
        steps.finish(steps.arithmetic("sub", 255.0 if is_byte else -1.0, lowering.operand(call)))
        return
    places = 2.0 ** np.arange(BYTE if is_byte else BITS)
    first, second = (_bits(lowering, call, name, places) for name in ("self", "other"))
    if "xor" in call.op:
        bits = steps.select("ne", first, second, 1.0, 0.0)
    else:
        bits = steps.arithmetic("minimum" if "and" in call.op else "maximum", first, second)
    weights = places if is_byte else np.append(places[:-1], -places[-1])
    number = steps.reduce("sum", steps.arithmetic("mul", bits, weights), (2,))
    steps.finish(steps.reshape(number, call.result.shape))


def shift(lowering: Lowering, call: Call) -> None:
    """Lower a shift to a product, or a quotient rounded down; bytes lose their upper bits."""
    steps, amount = Steps(lowering, call), call.args["other"]
    if isinstance(amount, Value):
        factor = steps.activation("round", steps.arithmetic("pow", 2.0, lowering.values[amount]))
    else:
        factor = lowering.name(call, 2.0 ** torch.as_tensor(amount))
    value = lowering.name(call, call.args["self"])
    if "right" in call.op or "rshift" in call.op:
        steps.finish(steps.activation("floor", steps.arithmetic("div", value, factor)))
        return
    moved = steps.arithmetic("mul", value, factor)
    if call.result.dtype == torch.uint8:
        over = steps.activation("floor", steps.arithmetic("div", moved, 256.0))
        moved = steps.arithmetic("sub", moved, steps.arithmetic("mul", over, 256.0))
    steps.finish(moved)


def _bits(lowering: Lowering, call: Call, argument: str, places: np.ndarray) -> str:
    """Return the bits of an operand, the lowest first, ``[first axis, others, bits]``."""
    steps, shape = Steps(lowering, call), call.result.shape
    value = steps.expand(lowering.name(call, call.args[argument]), shape)
    value = steps.reshape(value, (shape[0] if shape else 1, -1, 1))
    whole = steps.activation("floor", steps.arithmetic("div", value, places))
    half = steps.activation("floor", steps.arithmetic("div", whole, 2.0))
    return steps.arithmetic("sub", whole, steps.arithmetic("mul", half, 2.0))
