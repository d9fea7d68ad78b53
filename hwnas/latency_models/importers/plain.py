"""Plain CSV with one block, or one whole network, per row.

* ``key``: a block key, e.g. ``mbconv k5 s2 e6 32>64 @56``; several, separated by ``;``, are a whole
  network; none, with ``scope`` ``isolated``, is the null model. Instead of it: ``op``,
  ``in_channels``, ``out_channels``, ``kernel_size``, ``stride``, ``expand_ratio``, ``in_size`` and,
  if wanted, ``activation`` (relu6) and ``squeeze_excite`` (0).
* One column of latencies with the unit in its name: ``ms``, ``median_us``, ``mean_s``, …

Optional:

* ``standard_error``: relative, 0.02 is 2 %. Or ``std_ms``, ``std_us``, ``std_s``: the deviation of
  single runs, which gives the standard error together with ``count``, the number of runs.
* ``scope``: ``isolated``, ``in_network`` or ``network``, see `Observation`; without it one block is
  ``in_network`` and several are a ``network``.
* ``batch``: inputs of a call, the same in all rows; without it 1. Latencies are those of a call.
* ``comment``: not read.
"""

from __future__ import annotations

from typing import Any, cast, get_args

from hwnas.architecture.architecture import Block
from hwnas.errors import InvalidFile, UsageError
from hwnas.latency_models.importers.columns import (
    Row,
    Table,
    Timed,
    check_columns,
    deviation_column,
    latency_column,
)
from hwnas.latency_models.importers.rows import (
    NamedObservation,
    WrongRow,
    collect,
    error_of_mean,
    latency_ms,
    number,
    sensible,
    spread,
    whole,
)
from hwnas.latency_models.observation import Observation, Scope

FIELDS = (
    "op", "in_channels", "out_channels", "kernel_size", "stride", "expand_ratio", "in_size",
)  # fmt: skip
FLAGS = ("activation", "squeeze_excite")
OPTIONAL = ("standard_error", "count", "scope", "batch", "comment")


def read_plain(file: str, table: Table) -> tuple[list[Observation], list[str], int]:
    """Return the observations of a plain CSV file, notes on them, and the inputs of a call."""
    reader = _Reader(file, table.columns)
    observations, notes = collect(file, table.rows, reader.read)
    batches = sorted(reader.batches)
    if len(batches) > 1:
        raise InvalidFile(
            file, f"has latencies at the batches {', '.join(map(str, batches))}, which are those "
            "of as many devices; expected one"
        )  # fmt: skip
    if batches and batches != [1]:
        notes.append(f"latencies of calls of {batches[0]} inputs")
    if "scope" not in table.columns:
        networks = sum(row.scope == "network" for row in observations)
        notes.append(
            f"no column 'scope': {len(observations) - networks} blocks taken as 'in_network' "
            f"(without the cost of a call), {networks} rows of several blocks as networks"
        )
    return observations, notes, max(batches, default=1)


class _Reader:
    """Reads the rows of one file."""

    def __init__(self, file: str, columns: tuple[str, ...]) -> None:
        self.latency = latency_column(file, columns)
        self.deviation = deviation_column(file, columns)
        self.by_key = "key" in columns
        timed = [timed.column for timed in (self.latency, self.deviation) if timed is not None]
        named = ("key",) if self.by_key else FIELDS
        flags = () if self.by_key else FLAGS
        check_columns(file, columns, (*named, *flags, *timed, *OPTIONAL), named)
        self.batches: set[int] = set()
        """Of the rows read."""

    def read(self, row: Row) -> list[NamedObservation]:
        blocks = _keyed(row["key"]) if self.by_key else [_fields(row)]
        scope = _scope(row.get("scope", ""), len(blocks))
        if not blocks and scope != "isolated":
            raise WrongRow(
                "key is empty, expected a block key (or the scope 'isolated': the null model)"
            )
        self.batches.add(whole("batch", row["batch"]) if row.get("batch") else 1)
        ms = latency_ms(self.latency.column, row[self.latency.column], self.latency.ms_per_unit)
        observation = Observation(
            scope, tuple(blocks), ms, _standard_error(row, self.deviation, ms)
        )
        keys = "; ".join(block.key for block in blocks)
        return [NamedObservation(f"{scope} {keys}", observation)]


def _keyed(keys: str) -> list[Block]:
    """Return the blocks of a row; skipped ones compute nothing and may be in a network."""
    try:
        blocks = [Block.from_key(key.strip()) for key in keys.split(";") if key.strip()]
    except (UsageError, ValueError) as error:
        # ValueError: Python converts no text of thousands of digits
        raise WrongRow(str(error)) from None
    if len(blocks) > 1:
        blocks = [block for block in blocks if not block.is_free]
    return [sensible(block) for block in blocks]


def _fields(row: Row) -> Block:
    sizes: dict[str, Any] = {
        name: whole(name, row[name]) for name in FIELDS if name not in ("op", "expand_ratio")
    }
    flag = row.get("squeeze_excite", "").lower()
    if flag not in ("", "0", "1", "false", "true"):
        raise WrongRow(f"squeeze_excite is {flag!r}, expected 0 or 1")
    block = Block(
        op=row["op"],
        expand_ratio=number("expand_ratio", row["expand_ratio"]),
        activation=row.get("activation", "") or "relu6",
        squeeze_excite=flag in ("1", "true"),
        **sizes,
    )
    return sensible(block)


def _scope(given: str, blocks: int) -> Scope:
    if given and given not in get_args(Scope):
        raise WrongRow(f"scope is {given!r}, expected {', '.join(get_args(Scope))}")
    scope = cast(Scope, given) if given else "network" if blocks > 1 else "in_network"
    if scope != "network" and blocks > 1:
        raise WrongRow(f"scope is {scope!r} for {blocks} blocks, expected 'network'")
    return scope


def _standard_error(row: Row, deviation: Timed | None, ms: float) -> float:
    """Return the relative standard error of a row, 0 where nothing tells it."""
    given = row.get("standard_error", "")
    count = whole("count", row["count"]) if row.get("count") else None
    std = row[deviation.column] if deviation is not None else ""
    if given and std:
        raise WrongRow("has both standard_error and std, expected one of them")
    if given:
        error = spread("standard_error", given)
        if error >= 1:
            raise WrongRow(f"standard_error is {given}, expected a share below 1 (0.02 is 2 %)")
        return error
    if deviation is None or not std or count is None:
        return 0.0
    return error_of_mean(spread(deviation.column, std) * deviation.ms_per_unit, count, ms)
