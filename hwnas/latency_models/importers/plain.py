"""Plain CSV with one block, or one whole network, per row.

* ``key``: a block key, e.g. ``mbconv k5 s2 e6 32>64 @56``, in which ``k1``, ``s1`` and ``e1`` may
  be left out; several, separated by ``;``, are a whole
  network; an empty key with ``scope`` ``isolated`` is the null model. Alternatively the columns
  ``op``, ``in_channels``, ``out_channels``, ``kernel_size``, ``stride``, ``expand_ratio``,
  ``in_size`` and optionally ``activation`` (default relu6) and ``squeeze_excite`` (default 0).
* One latency column with the unit in its name: ``ms``, ``median_us``, ``mean_s``, …

Optional:

* ``standard_error``: relative, 0.02 is 2 %. Alternatively ``std_ms``, ``std_us`` or ``std_s``, the
  standard deviation of single runs, together with ``count``, the number of runs.
* ``scope``: ``isolated``, ``in_network`` or ``network``, see `Observation`; by default one block is
  ``in_network`` and several are a ``network``.
* ``batch``: inputs per call, the same in all rows (default 1). Latencies are per call.
* ``comment``: ignored.
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
    check_block,
    collect,
    error_of_mean,
    latency_ms,
    number,
    spread,
    whole,
)
from hwnas.latency_models.observation import Observation, Scope

FIELDS = (
    "op",
    "in_channels",
    "out_channels",
    "kernel_size",
    "stride",
    "expand_ratio",
    "in_size",
)
FLAGS = ("activation", "squeeze_excite")
OPTIONAL = ("standard_error", "count", "scope", "batch", "comment")


def read_plain(file: str, table: Table) -> tuple[list[Observation], list[str], int]:
    """Return the observations of a plain CSV file, notes for the user, and the batch."""
    reader = _Reader(file, table.columns)
    observations, notes = collect(file, table.rows, reader.read)
    batches = sorted(reader.batches)
    if len(batches) > 1:
        raise InvalidFile(
            file,
            f"has rows of the batches {', '.join(map(str, batches))}; expected one batch "
            "per file, because each batch has a latency model of its own",
        )
    if batches and batches != [1]:
        notes.append(f"latencies are per call of {batches[0]} inputs")
    if "scope" not in table.columns:
        networks = sum(row.scope == "network" for row in observations)
        notes.append(
            f"no column 'scope': {len(observations) - networks} blocks read as 'in_network' "
            f"(without the cost of a call), {networks} rows with several blocks as networks"
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
        """Batch sizes of all rows so far."""

    def read(self, row: Row) -> list[NamedObservation]:
        blocks = _keyed(row["key"]) if self.by_key else [_fields(row)]
        scope = _scope(row.get("scope", ""), len(blocks))
        if not blocks and scope != "isolated":
            raise WrongRow(
                "key is empty, expected a block key (or the scope 'isolated' for the null model)"
            )
        self.batches.add(whole("batch", row["batch"]) if row.get("batch") else 1)
        ms = latency_ms(self.latency.column, row[self.latency.column], self.latency.ms_per_unit)
        observation = Observation(
            scope, tuple(blocks), ms, _standard_error(row, self.deviation, ms)
        )
        keys = "; ".join(block.key for block in blocks)
        return [NamedObservation(f"{scope} {keys}", observation)]


def _keyed(keys: str) -> list[Block]:
    """Return the blocks of a row; skipped blocks of a network are dropped, since they are free."""
    try:
        blocks = [Block.from_key(_whole_key(key)) for key in keys.split(";") if key.strip()]
    except (UsageError, ValueError) as error:
        # ValueError: Python does not convert texts of thousands of digits
        raise WrongRow(str(error)) from None
    if len(blocks) > 1:
        blocks = [block for block in blocks if not block.is_free]
    return [check_block(block) for block in blocks]


def _whole_key(key: str) -> str:
    """Return a block key, completed by the parts that may be left out where they are 1."""
    words = key.split()
    if not any(word.startswith("@") for word in words):
        return key.strip()
    for place, part in enumerate("kse", 1):
        if len(words) <= place or not words[place].startswith(part):
            words.insert(place, f"{part}1")
    return " ".join(words)


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
    return check_block(block)


def _scope(given: str, blocks: int) -> Scope:
    if given and given not in get_args(Scope):
        raise WrongRow(f"scope is {given!r}, expected {', '.join(get_args(Scope))}")
    scope = cast(Scope, given) if given else "network" if blocks > 1 else "in_network"
    if scope != "network" and blocks > 1:
        raise WrongRow(f"scope is {scope!r} for {blocks} blocks, expected 'network'")
    return scope


def _standard_error(row: Row, deviation: Timed | None, ms: float) -> float:
    """Return the relative standard error of a row, 0 if it is unknown."""
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
