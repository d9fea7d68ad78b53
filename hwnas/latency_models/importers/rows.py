"""Checks of the rows of all dialects: values, duplicates, and errors that name the row."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import inf, isfinite, sqrt
from reprlib import repr as shortened
from typing import NamedTuple, TypeVar

from hwnas.architecture.architecture import ACTIVATIONS, OPS, Block
from hwnas.architecture.size import axes
from hwnas.errors import InvalidFile
from hwnas.latency_models.observation import Observation

MAX_MS = 1e7
"""Largest plausible latency, almost three hours."""
MAX_SIZE = 99_999
"""Largest number of channels or pixels; up to it `Block.expand_ratio` is exact."""

R = TypeVar("R")


class WrongRow(Exception):
    """A row that cannot be read; `collect` turns it into an `InvalidFile` with file and row."""


class NamedObservation(NamedTuple):
    """An observation, and its name; rows with the same name must have the same latency."""

    name: str
    observation: Observation


def collect(
    file: str, rows: Iterable[tuple[str, R]], read: Callable[[R], list[NamedObservation]]
) -> tuple[list[Observation], list[str]]:
    """Read all ``rows``, each with its place in the file; return observations and notes.

    Rows that repeat an earlier one exactly are merged and noted. Raises `InvalidFile` for the
    first wrong row, which also lists the places of the others.
    """
    first: dict[str, tuple[str, Observation]] = {}
    wrong: list[tuple[str, str]] = []
    repeated: list[str] = []
    for place, row in rows:
        try:
            for name, observation in read(row):
                before, known = first.setdefault(name, (place, observation))
                if known != observation:
                    raise WrongRow(
                        f"{name!r} is {observation.ms:g} ms and was {known.ms:g} ms in {before}; "
                        "expected one row, or equal rows"
                    )
                if known is not observation:
                    repeated.append(place)
        except WrongRow as error:
            wrong.append((place, str(error)))
    if wrong:
        others = ", ".join(place for place, _ in wrong[1:6]) + (", …" if len(wrong) > 6 else "")
        more = f" ({len(wrong) - 1} more wrong: {others})" if len(wrong) > 1 else ""
        raise InvalidFile(file, f"{wrong[0][0]}: {wrong[0][1]}{more}")
    notes = [f"duplicates of earlier rows, merged: {', '.join(repeated)}"] if repeated else []
    return [observation for _, observation in first.values()], notes


def number(what: str, given: object) -> float:
    """Return ``given``, a number or its text, as a finite float."""
    try:
        value = float(given) if isinstance(given, int | float | str) else inf
    except (ValueError, OverflowError):
        value = inf
    if not isfinite(value) or isinstance(given, bool):
        raise WrongRow(f"{what} is {shortened(given)}, expected a number")
    return value


def whole(what: str, given: object) -> int:
    """Return ``given`` as an integer of at least 1."""
    value = number(what, given)
    if value != int(value) or value < 1:
        raise WrongRow(f"{what} is {shortened(given)}, expected a whole number of at least 1")
    return int(value)


def latency_ms(what: str, given: object, ms_per_unit: float = 1.0) -> float:
    """Return a latency in ms. Raises `WrongRow` unless it is positive."""
    value = number(what, given) * ms_per_unit
    if not 0 < value < MAX_MS:
        raise WrongRow(f"{what} is {given}, expected a latency above 0")
    return value


def spread(what: str, given: object) -> float:
    """Return a variance, deviation or relative error. Raises `WrongRow` if it is negative."""
    value = number(what, given)
    if value < 0:
        raise WrongRow(f"{what} is {given}, expected 0 or more")
    return value


def error_of_mean(std_ms: float, count: int, mean_ms: float) -> float:
    """Return the relative standard error of a mean of ``count`` samples."""
    return std_ms / sqrt(count) / mean_ms


def check_block(block: Block) -> Block:
    """Return ``block`` if it can be computed, else raise `WrongRow`."""
    name = f"block {block.key!r}"
    if block.op not in OPS or block.op == "identity":
        known = ", ".join(op for op in OPS if op != "identity")
        raise WrongRow(f"{name}: operation is {block.op!r}, expected one of {known}")
    if block.activation not in ACTIVATIONS:
        raise WrongRow(
            f"{name}: activation is {block.activation!r}, expected one of {', '.join(ACTIVATIONS)}"
        )
    channels = block.in_channels, block.out_channels
    sizes = (*channels, block.kernel_size, block.stride, *axes(block.in_size))
    if min(sizes) < 1 or max(sizes) > MAX_SIZE:
        raise WrongRow(f"{name}: channels, kernel, stride and size must be 1 to {MAX_SIZE:,}")
    if not 1e-3 <= block.expand_ratio <= 1e3 or block.mid_channels < 1:
        raise WrongRow(f"{name}: expansion is {block.expand_ratio:g}, expected 0.001 to 1000")
    if block.squeeze_excite and not block.spec.can_gate:
        known = ", ".join(op for op, row in OPS.items() if row.can_gate)
        raise WrongRow(f"{name}: squeeze-excite is only supported for {known}")
    if block.start_kernel_size and block.op != "uib":
        raise WrongRow(f"{name}: only uib has a depthwise convolution before the expansion")
    if block.group_width and (not block.spec.can_group or block.mid_channels % block.group_width):
        raise WrongRow(f"{name}: groups of {block.group_width} do not divide a bottleneck")
    return block
