"""Lowering of functions that the runtimes lack: angles, inverse hyperbolics, remainders."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.polynomial import Chebyshev, Polynomial

from hwnas.export.graph.recording import Call
from hwnas.export.lowering.lowering import Lower, Lowering
from hwnas.export.lowering.ops.activation import error_function
from hwnas.export.lowering.steps import Steps

EIGHTH = math.tan(math.pi / 8)
ARCTAN: tuple[float, ...] = tuple(
    Chebyshev.interpolate(
        lambda z: np.arctan(np.sqrt(z)) / np.sqrt(z), 5, domain=[1e-12, EIGHTH**2]
    ).convert(kind=Polynomial).coef
)  # fmt: skip
"""``arctan(x) / x`` as a polynomial in ``x**2``, for ``|x|`` up to the tangent of 22.5 degrees."""


def of_one(compute: Callable[[Steps, str], str]) -> Lower:
    """Return the lowering of a function of one value."""

    def lower(lowering: Lowering, call: Call) -> None:
        steps = Steps(lowering, call)
        steps.finish(compute(steps, lowering.operand(call)))

    return lower


def of_two(compute: Callable[[Steps, str, str], str]) -> Lower:
    """Return the lowering of a function of two values, each of which may be a constant."""

    def lower(lowering: Lowering, call: Call) -> None:
        steps = Steps(lowering, call)
        left, right = (lowering.name(call, call.args[name]) for name in ("self", "other"))
        steps.finish(compute(steps, left, right))

    return lower


def tan(steps: Steps, x: str) -> str:
    return steps.arithmetic("div", steps.activation("sin", x), steps.activation("cos", x))


def atan(steps: Steps, x: str) -> str:
    return atan2(steps, x, 1.0)


def asin(steps: Steps, x: str) -> str:
    return atan2(steps, x, _other_leg(steps, x))


def acos(steps: Steps, x: str) -> str:
    return atan2(steps, _other_leg(steps, x), x)


def atan2(steps: Steps, y: Any, x: Any) -> str:
    """Return the angle of points, from that within the octant in which they are."""
    x, y = steps.name(x), steps.name(y)
    width, height = (steps.activation("abs", value) for value in (x, y))
    larger = steps.arithmetic("maximum", width, height)
    larger = steps.select("eq", larger, 0.0, 1.0, larger)
    slope = steps.arithmetic("div", steps.arithmetic("minimum", width, height), larger)
    turned = steps.arithmetic(
        "div", steps.arithmetic("sub", slope, 1.0), steps.arithmetic("add", slope, 1.0)
    )
    small = steps.select("gt", slope, EIGHTH, turned, slope)
    angle = _small_angle(steps, small)
    angle = steps.select("gt", slope, EIGHTH, steps.arithmetic("add", angle, math.pi / 4), angle)
    steep = steps.arithmetic("sub", math.pi / 2, angle)
    angle = steps.select("gt", height, width, steep, angle)
    angle = steps.select("lt", x, 0.0, steps.arithmetic("sub", math.pi, angle), angle)
    return steps.select("lt", y, 0.0, steps.activation("neg", angle), angle)


def asinh(steps: Steps, x: str) -> str:
    """Return ``sign(x) * log(|x| + sqrt(x * x + 1))``."""
    size = steps.activation("abs", x)
    more = steps.arithmetic("add", steps.arithmetic("mul", x, x), 1.0)
    log = steps.activation("log", steps.arithmetic("add", size, steps.activation("sqrt", more)))
    return steps.select("lt", x, 0.0, steps.activation("neg", log), log)


def acosh(steps: Steps, x: str) -> str:
    less = steps.arithmetic("sub", steps.arithmetic("mul", x, x), 1.0)
    return steps.activation("log", steps.arithmetic("add", x, steps.activation("sqrt", less)))


def atanh(steps: Steps, x: str) -> str:
    ratio = steps.arithmetic(
        "div", steps.arithmetic("add", x, 1.0), steps.arithmetic("sub", 1.0, x)
    )
    return steps.arithmetic("mul", steps.activation("log", ratio), 0.5)


def erfc(steps: Steps, x: str) -> str:
    return steps.arithmetic("sub", 1.0, error_function(steps, x))


def signbit(steps: Steps, x: str) -> str:
    return steps.select("lt", x, 0.0, 1.0, 0.0)


def fmod(steps: Steps, x: str, divisor: str) -> str:
    """Return ``x - trunc(x / y) * y``."""
    whole = steps.towards_zero(steps.arithmetic("div", x, divisor))
    return steps.arithmetic("sub", x, steps.arithmetic("mul", whole, divisor))


def hypot(steps: Steps, x: str, y: str) -> str:
    squares = (steps.arithmetic("mul", value, value) for value in (x, y))
    return steps.activation("sqrt", steps.arithmetic("add", *squares))


def xlogy(steps: Steps, x: str, y: str) -> str:
    product = steps.arithmetic("mul", x, steps.activation("log", y))
    return steps.select("eq", x, 0.0, 0.0, product)


def xlog1py(steps: Steps, x: str, y: str) -> str:
    return xlogy(steps, x, steps.arithmetic("add", y, 1.0))


FUNCTIONS: dict[str, Lower] = {
    **{
        function.__name__: of_one(function)
        for function in (tan, atan, asin, acos, asinh, acosh, atanh, erfc, signbit)
    },
    **{function.__name__: of_two(function) for function in (atan2, fmod, hypot, xlogy)},
    "special_xlog1py": of_two(xlog1py),
    "trunc": of_one(Steps.towards_zero),
    "fmax": of_two(lambda steps, x, y: steps.arithmetic("maximum", x, y)),
    "fmin": of_two(lambda steps, x, y: steps.arithmetic("minimum", x, y)),
}


def _small_angle(steps: Steps, x: str) -> str:
    square = steps.arithmetic("mul", x, x)
    total: Any = ARCTAN[-1]
    for coefficient in ARCTAN[-2::-1]:
        total = steps.arithmetic("mul", square, total)
        total = steps.arithmetic("add", total, coefficient)
    return steps.arithmetic("mul", total, x)


def _other_leg(steps: Steps, x: str) -> str:
    """Return ``sqrt((1 - x) * (1 + x))``."""
    factors = steps.arithmetic("sub", 1.0, x), steps.arithmetic("add", x, 1.0)
    return steps.activation("sqrt", steps.arithmetic("mul", *factors))
