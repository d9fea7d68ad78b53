"""Kernel latencies of nn-Meter, in CSV.

Zhang et al., "nn-Meter", MobiSys 2021: a model is split into kernels, each timed in isolation. Its
own export has one kernel per file, in the columns ``model_path`` (``conv-bn-relu_prior_YB2F4N``),
``HW``, ``CIN``, ``COUT``, ``KERNEL_SIZE``, ``STRIDES``, ``feature_0``, … (ignored) and
``latency``, in ms. Also accepted are a column ``kernel`` instead of ``model_path``, a latency
column with a unit (`columns`), and a latency with its deviation, ``37.53 +- 0.314``. The number of
runs is not stated, so the deviation is used as an upper bound of the standard error.

================================================  ==================================
kernel                                            block
================================================  ==================================
conv-bn-relu, conv-relu                           ``conv … relu``
conv-bn-relu6, conv-relu6                         ``conv …``
conv-bn-hswish, conv-hswish                       ``conv … hswish``
fc                                                ``logits … @1``
================================================  ==================================

All other kernels are only part of a block (a depthwise convolution, an addition). Summing them
would need the runtime's fusion rules, so they are skipped, and a note counts them.
"""

from __future__ import annotations

from collections import Counter

from hwnas.architecture.architecture import Block
from hwnas.errors import InvalidFile
from hwnas.latency_models.importers.columns import (
    Row,
    Table,
    Timed,
    check_columns,
    latency_column,
)
from hwnas.latency_models.importers.rows import (
    NamedObservation,
    WrongRow,
    check_block,
    collect,
    latency_ms,
    spread,
    whole,
)
from hwnas.latency_models.observation import Observation

CONVOLUTIONS = {
    "conv-bn-relu": "relu",
    "conv-relu": "relu",
    "conv-bn-relu6": "relu6",
    "conv-relu6": "relu6",
    "conv-bn-hswish": "hswish",
    "conv-hswish": "hswish",
}
"""Activation of each kernel that is a block ``conv``."""

PARTIAL_KERNELS = (
    "conv-bn",
    "conv-block",
    "dwconv-bn",
    "dwconv-relu",
    "dwconv-relu6",
    "dwconv-bn-relu",
    "dwconv-bn-relu6",
    "dwconv-block",
    "dwconv-bn-hswish",
    "maxpool",
    "avgpool",
    "concat",
    "split",
    "channelshuffle",
    "se",
    "global-avgpool",
    "bnrelu",
    "bn",
    "hswish",
    "relu",
    "addrelu",
    "add",
)
"""Kernels that are only part of a block."""

CONFIGURATION = (
    "HW",
    "CIN",
    "COUT",
    "KERNEL_SIZE",
    "STRIDES",
    "POOL_STRIDES",
    "CIN1",
    "CIN2",
    "CIN3",
    "CIN4",
)


def is_kernels(table: Table) -> bool:
    """Whether a CSV file has rows of kernels."""
    return "CIN" in table.columns or "CIN1" in table.columns


def read_kernels(file: str, table: Table) -> tuple[list[Observation], list[str]]:
    """Return the kernels that are blocks, and notes on those that are not."""
    reader = _Reader(file, table.columns)
    observations, notes = collect(file, table.rows, reader.read)
    skipped = ", ".join(f"{count} {kernel}" for kernel, count in sorted(reader.skipped.items()))
    if not observations:
        raise InvalidFile(file, f"has no kernel that is a whole block: {skipped}")
    if skipped:
        notes.append(f"rows skipped because they are only part of a block: {skipped}")
    return observations, [*notes, *reader.notes]


class _Reader:
    """Reads the rows of one file."""

    def __init__(self, file: str, columns: tuple[str, ...]) -> None:
        plain = [name for name in columns if not name.startswith("feature_")]
        self.notes: list[str] = []
        if "latency" in columns:
            self.latency = Timed("latency", 1.0)
            self.notes.append("column 'latency' is read as milliseconds, the unit of nn-Meter")
        else:
            self.latency = latency_column(file, plain)
        self.named = "kernel" if "kernel" in columns else "model_path"
        known = (self.named, *CONFIGURATION, self.latency.column, "model_path")
        check_columns(file, plain, known, (self.named,))
        self.skipped: Counter[str] = Counter()

    def read(self, row: Row) -> list[NamedObservation]:
        kernel = row[self.named].split("_")[0]
        if kernel in PARTIAL_KERNELS:
            self.skipped[kernel] += 1
            return []
        block = check_block(_block(kernel, row))
        ms, error = self._latency(row[self.latency.column])
        # two kernels may be the same block, because batch norm is folded into the convolution
        return [
            NamedObservation(f"{kernel} {block.key}", Observation("isolated", (block,), ms, error))
        ]

    def _latency(self, given: str) -> tuple[float, float]:
        """Return the latency in ms and its relative error."""
        mean, _, deviation = given.partition("+-")
        ms = latency_ms(self.latency.column, mean.strip(), self.latency.ms_per_unit)
        if not deviation:
            return ms, 0.0
        return ms, spread("the deviation", deviation.strip()) * self.latency.ms_per_unit / ms


def _block(kernel: str, row: Row) -> Block:
    def value(name: str) -> int:
        if not row.get(name):
            raise WrongRow(f"kernel {kernel!r} needs a value in column {name}")
        return whole(name, row[name])

    if kernel == "fc":
        return Block("logits", value("CIN"), value("COUT"), 1, 1, 1, 1)
    if kernel not in CONVOLUTIONS:
        known = ", ".join((*CONVOLUTIONS, "fc", *PARTIAL_KERNELS))
        raise WrongRow(f"kernel is {kernel!r}, expected one of {known}")
    return Block(
        "conv",
        value("CIN"),
        value("COUT"),
        value("KERNEL_SIZE"),
        value("STRIDES"),
        1,
        value("HW"),
        CONVOLUTIONS[kernel],
    )
