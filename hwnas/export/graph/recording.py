"""A recording of a network: its ATen calls, in order, on values that depend on its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import torch
from torch import Tensor

Shape = tuple[int, ...]


class Value(msgspec.Struct, frozen=True, eq=False):
    """A tensor that depends on the inputs."""

    shape: Shape
    dtype: torch.dtype


class Call(msgspec.Struct, frozen=True, eq=False):
    """A call of an ATen operation."""

    op: str
    """Name without overload, e.g. ``conv2d``; with the namespace unless that is ``aten``."""
    func: Any
    """The overload, a function."""
    args: dict[str, Any]
    """Every argument by its name in the schema; a tensor is a `Value`, or a constant `Tensor`."""
    results: tuple[Value, ...]
    path: str
    """Path of the module that makes the call."""
    is_layer: bool
    """Whether that module is one of PyTorch's layers, such as `torch.nn.Conv2d`."""

    @property
    def result(self) -> Value:
        return self.results[0]

    @property
    def operands(self) -> list[Value]:
        """The values that the call reads, as often as it reads them."""
        return [value for argument in self.args.values() for value in _values(argument)]


class Recording(NamedTuple):
    """All calls of a network, its inputs, and the tensors that it returns."""

    calls: list[Call]
    inputs: tuple[Value, ...]
    outputs: dict[str, Value | Tensor]
    """By name; a `Tensor` is a constant."""


class Schema(NamedTuple):
    """Properties of an operation that the dispatcher states."""

    op: str
    names: tuple[str, ...]
    defaults: dict[str, Any]
    overwrites: bool
    """Whether it overwrites an argument."""
    may_share: bool
    """Whether a result may share the memory of an argument."""


@lru_cache(maxsize=4096)
def schema_of(func: Any) -> Schema:
    """Return the schema of an ATen overload."""
    schema, aliases = func._schema, [result.alias_info for result in func._schema.returns]
    return Schema(
        schema.name.removeprefix("aten::"),
        tuple(argument.name for argument in schema.arguments),
        {
            argument.name: argument.default_value
            for argument in schema.arguments
            if argument.has_default_value()
        },
        schema.is_mutable,
        any(alias is not None for alias in aliases),
    )


def name_arguments(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call by name, with defaults."""
    schema = schema_of(func)
    return {**schema.defaults, **dict(zip(schema.names, args, strict=False)), **kwargs}


def replay(
    recording: Recording, *inputs: Tensor, given: Mapping[Value, Tensor] | None = None
) -> dict[Value, Tensor]:
    """Compute every value for the inputs, of the shapes that were recorded.

    Values that are ``given`` replace those that a call computes.
    """
    known: dict[Value, Tensor] = dict(zip(recording.inputs, inputs, strict=True))

    def look_up(argument: Any) -> Any:
        if isinstance(argument, Value):
            return known[argument]
        return list(map(look_up, argument)) if isinstance(argument, list | tuple) else argument

    for call in recording.calls:
        results = call.func(**{name: look_up(value) for name, value in call.args.items()})
        results = results if isinstance(results, list | tuple) else (results,)
        known.update(zip(call.results, results, strict=False))
        known.update((value, given[value]) for value in call.results if given and value in given)
    return known


def _values(argument: Any) -> list[Value]:
    if isinstance(argument, Value):
        return [argument]
    if isinstance(argument, list | tuple):
        return [value for value in argument if isinstance(value, Value)]
    return []
