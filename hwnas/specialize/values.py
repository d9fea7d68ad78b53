"""Values on the command line of a run: text to value and back."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, Literal, get_args

from hwnas.specialize.spec import Budget, Milliseconds, Precision, Scalar, Share

UNITS_MS = {"us": Decimal("0.001"), "µs": Decimal("0.001"), "ms": Decimal(1), "s": Decimal(1000)}
BUDGET = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)\s*(us|µs|ms|s|%)")
BUDGET_FORM = (
    "a positive number with its unit, like 80ms, 900us, 0.1s, or a share of the space's largest "
    "network like 50%"
)
THREADS_FORM = "a positive integer or auto"


def parse_budget(text: str) -> Budget | None:
    """Read ``80ms``, ``900us``, ``0.1s`` or ``50%``; ``None`` for anything else."""
    match = BUDGET.fullmatch(text.strip().replace("\N{GREEK SMALL LETTER MU}", "µ"))
    if match is None or float(match[1]) <= 0:
        return None
    number, unit = Decimal(match[1]), match[2]
    if unit == "%":
        return Share(float(number / 100))
    return Milliseconds(float(number * UNITS_MS[unit]))


def parse_duration_ms(text: str) -> float | None:
    """Read ``80ms``, ``900us`` or ``1.5s``."""
    duration = parse_budget(text)
    if not isinstance(duration, Milliseconds) or not math.isfinite(duration.value):
        return None
    return duration.value


def format_budget(budget: Budget) -> str:
    """Write a budget so that `parse_budget` reads the same value."""
    exact = Decimal(repr(budget.value))
    if isinstance(budget, Share):
        return f"{_plain(exact * 100)}%"
    return f"{_plain(exact)}ms"


def parse_share(text: str) -> float | None:
    """Read ``2%`` or ``0.02``, from 0 to below 1000%; above 1 it must have its sign."""
    percent = text.endswith("%")
    try:
        share = float(Decimal(text.removesuffix("%")) / (100 if percent else 1))
    except ArithmeticError:
        return None
    return share if share >= 0 and (share < 10 if percent else share <= 1) else None


def parse_fraction(text: str) -> float | None:
    """Read a share between 0 and 1."""
    share = parse_share(text)
    return share if share is not None and 0 < share < 1 else None


def format_share(share: float) -> str:
    return f"{_plain(Decimal(repr(share)) * 100)}%"


def _plain(number: Decimal) -> str:
    """Write a number in digits alone, without an exponent or trailing zeros."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def list_parser(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return a parser of ``A,B,C``: a tuple of distinct values, ``None`` where ``parse`` refuses
    one of the words."""

    def parse_list(text: str) -> tuple[Any, ...] | None:
        values = tuple(dict.fromkeys(parse(word.strip()) for word in text.split(",")))
        return None if None in values else values

    return parse_list


def list_writer(write: Callable[[Any], str]) -> Callable[[Iterable[Any]], str]:
    return lambda values: ",".join(map(write, values))


def parse_words(text: str) -> tuple[str, ...] | None:
    """Read names such as ``a,b``; ``None`` where one is empty."""
    return list_parser(lambda word: word or None)(text)


def parse_targets(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for word in words for name in word.split(",")))


def parse_precisions(text: str) -> tuple[str, ...] | None:
    if text == "auto":
        return get_args(Precision)
    return list_parser(lambda word: word if word in get_args(Precision) else None)(text)


def parse_integer(text: str) -> int | None:
    return int(text) if re.fullmatch("-?[0-9]{1,19}", text) else None


def parse_count(text: str) -> int | None:
    return int(text) if re.fullmatch("[0-9]{1,5}", text) else None


def parse_positive(text: str) -> int | None:
    return parse_count(text) or None


def parse_threads(text: str) -> int | Literal["auto"] | None:
    """Read a number of threads or ``auto``."""
    return "auto" if text == "auto" else parse_positive(text)


def parse_factor(text: str) -> float | None:
    try:
        return factor if 0 < (factor := float(text)) < float("inf") else None
    except ValueError:
        return None


def parse_wait_s(text: str) -> float | None:
    """Read ``90s``, ``10m`` or ``1h`` as seconds."""
    match = re.fullmatch(r"(\d{1,6}(?:\.\d+)?)\s*(s|m|min|h)", text.strip())
    wait_s = float(match[1]) * {"s": 1, "m": 60, "min": 60, "h": 3600}[match[2]] if match else 0.0
    return wait_s or None


def format_wait_s(wait_s: float) -> str:
    return f"{wait_s!r}s"


def parse_strategy_options(words: Iterable[str]) -> dict[str, Scalar] | None:
    """Read ``KEY=VALUE`` words; a value is ``true``, ``false``, a number or else text."""
    options: dict[str, Scalar] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not key or not equals:
            return None
        value = _json(text)
        options[key] = value if isinstance(value, Scalar) else text
    return options


def strategy_option_words(options: dict[str, Scalar]) -> list[str]:
    """Write options so that `parse_strategy_options` reads the same values."""
    return [
        f"{key}={value}"
        if isinstance(value, str) and not isinstance(_json(value), Scalar)
        else f"{key}={json.dumps(value)}"
        for key, value in options.items()
    ]


def _json(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=lambda name: None)
    except ValueError:
        return None
