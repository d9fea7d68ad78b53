"""Strategies by name: loaded, checked against their interface, with their options parsed."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, cast

import msgspec
from msgspec.inspect import Field, LiteralType, StructType, type_info

from hwnas.errors import HwnasError, UnknownName, UsageError
from hwnas.plugins import load
from hwnas.search.strategy import Strategy, StrategyOptions, StrategyTraits

Values = Mapping[str, bool | int | float | str]
"""Options of a strategy by name, as values or text."""
NO_VALUES: Values = MappingProxyType({})

METHODS = ("check", "begin", "network", "inherits", "set_costs", "candidates", "preferences")
STEP_METHODS = (
    "begin_epoch",
    "weight_step",
    "architecture_step",
    "metrics",
    "state_dict",
    "load_state_dict",
)


def load_strategy(name: str) -> type[Strategy]:
    """Import the strategy ``name`` and check its declarations.

    Raises `UnknownName`, or `HwnasError` for a class that is not a strategy.
    """
    kind = load("strategy", name)
    if problem := interface_problem(kind):
        raise HwnasError(f"strategy {name!r} ({kind.__module__}): {problem}")
    return cast(type[Strategy], kind)


def interface_problem(kind: Any) -> str:
    """Return what a strategy class lacks, in one line; empty if it is complete."""
    traits = getattr(kind, "traits", None)
    if not isinstance(traits, StrategyTraits):
        return _missing(kind, "traits", "traits = StrategyTraits(...)")
    options = getattr(kind, "Options", None)
    if not (isinstance(options, type) and issubclass(options, StrategyOptions)):
        return _missing(kind, "Options", "a subclass of StrategyOptions, or NoOptions")
    needed = (*METHODS, *(("search",) if traits.own_loop else STEP_METHODS))
    needed += ("judge_on",) * traits.judges
    for method in needed:
        if not callable(getattr(kind, method, None)):
            return _missing(kind, method, f"a method {method}()")
    return ""


def _missing(kind: Any, name: str, expected: str) -> str:
    value = getattr(kind, name, None)
    if value is not None:
        return f"its attribute {name!r} is {type(value).__name__}; expected {expected}"
    known = {*METHODS, *STEP_METHODS}
    public = [other for other in dir(kind) if not other.startswith("_") and other not in known]
    near = get_close_matches(name, public, n=1)
    hint = f", did you mean {name!r} where it has {near[0]!r}?" if near else ""
    return f"it has no attribute {name!r}{hint}; expected {expected}"


def parse_options(name: str, values: Values) -> StrategyOptions:
    """Return a strategy's options from values or text, e.g. ``{"shrink": "false"}``.

    Raises `UnknownName` for an unknown option or choice, `UsageError` for a value of another type.
    """
    kind = load_strategy(name).Options
    fields = {field.name: field.type for field in struct_fields(kind)}
    for option, value in values.items():
        if option not in fields:
            raise UnknownName(f"option of strategy {name!r}", option, fields)
        choices = fields[option]
        if isinstance(choices, LiteralType) and value not in choices.values:
            raise UnknownName(option, str(value), map(str, choices.values))
        try:
            msgspec.convert({option: value}, kind, strict=False)
        except msgspec.ValidationError as error:
            reason = str(error).partition(" - at ")[0]
            raise UsageError(f"strategy {name!r}, option {option}={value}: {reason}") from None
    return cast(StrategyOptions, msgspec.convert(dict(values), kind, strict=False))


def judges(name: str, options: Values) -> bool:
    """Return whether a strategy evaluates networks on its supernet under these options."""
    return load_strategy(name).traits.judges and parse_options(name, options).judges


def struct_fields(kind: type[msgspec.Struct]) -> tuple[Field, ...]:
    """Return the options of a strategy with their types and defaults."""
    return cast(StructType, type_info(kind)).fields
