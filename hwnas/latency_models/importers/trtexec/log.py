"""Parser of the performance summary of TensorRT's ``trtexec``, versions 7 to 10.

The latency is the median of "GPU Compute Time", as in hwnas's own measurements on GPUs; transfers,
enqueueing and throughput are reported separately. All times are per call, which computes a whole
batch (`inputs`).
"""

from __future__ import annotations

import re
from math import isfinite
from pathlib import Path

import msgspec

from hwnas.architecture.architecture import Block
from hwnas.errors import InvalidFile
from hwnas.latency_models.importers.trtexec.inputs import TimedInputs, read_inputs
from hwnas.latency_models.observation import Observation

MAX_MS = 1e7
MAX_LOG_BYTES = 64 * 2**20
"""Only the first bytes of a log are read, since verbose logs can be huge."""
RUN_BEGINS = "&&&& RUNNING"
_NUMBER = r"[-+]?\d{1,12}(?:\.\d{1,12})?(?:[eE][-+]?\d{1,3})?"
_LINE = re.compile(
    r"(?P<what>GPU Compute(?: Time)?|Latency|Enqueue Time|H2D Latency|D2H Latency): "
    rf"(?P<statistics>min = {_NUMBER} ms, .*)$"
)
_PAIR = re.compile(rf"(?P<name>min|max|mean|median) = (?P<ms>{_NUMBER}) ms")
_PERCENTILE = re.compile(
    rf"percentile\((?P<share>\d{{1,2}}(?:\.\d{{1,4}})?)%\) = (?P<ms>{_NUMBER}) ms"
    rf"|percentile: (?P<old_ms>{_NUMBER}) ms at (?P<old_share>\d{{1,2}}(?:\.\d{{1,4}})?)%"
)
_THROUGHPUT = re.compile(rf"Throughput: ({_NUMBER}) qps")
_TOTAL = re.compile(rf"Total GPU Compute Time: ({_NUMBER}) s")
_UNSTABLE = re.compile(rf"coefficient of variance = ({_NUMBER})%")


class Spread(msgspec.Struct, frozen=True):
    """Statistics of one of the times in the summary."""

    median_ms: float
    mean_ms: float
    min_ms: float
    max_ms: float
    percentiles_ms: dict[str, float] = {}
    """By percentage, e.g. ``{"90": 1.2}``; which are printed depends on the version."""


class TrtexecTimes(msgspec.Struct, frozen=True):
    """The performance summary of a run of ``trtexec``."""

    compute: Spread
    latency: Spread | None = None
    """From the input on the host to the outputs on the host."""
    to_gpu: Spread | None = None
    from_gpu: Spread | None = None
    enqueue: Spread | None = None
    throughput_per_s: float | None = None
    """Throughput as printed, see `inputs_per_s`."""
    runs: int | None = None
    unstable_cv: float | None = None
    """Coefficient of variation in ``trtexec``'s own warning of unstable compute times."""
    inputs: TimedInputs = TimedInputs()

    def inputs_per_s(self, batch: int) -> float | None:
        """Return inputs per second; ``trtexec`` prints calls times its option --batch."""
        if self.throughput_per_s is None:
            return None
        return self.throughput_per_s * batch / max(self.inputs.option or 1, 1)

    @property
    def standard_error(self) -> float:
        """Relative standard error of the median, from the CV or the 90th percentile."""
        p90_ms = self.compute.percentiles_ms.get("90")
        spread = self.unstable_cv or 0.0
        if p90_ms is not None and p90_ms > self.compute.median_ms:
            spread = max(spread, (p90_ms / self.compute.median_ms - 1) / 1.2816)
        return 1.2533 * spread / max(self.runs or 1, 1) ** 0.5


def is_trtexec(path: Path) -> bool:
    """Whether a file is the output of ``trtexec``."""
    try:
        with path.open("rb") as file:
            return b"GPU Compute" in file.read(MAX_LOG_BYTES)
    except OSError:
        return False


def read_trtexec(path: Path) -> TrtexecTimes:
    """Read a log. Raises `InvalidFile` if it has no summary."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_LOG_BYTES).decode(errors="replace")
    except OSError as error:
        raise InvalidFile(str(path), error.strerror or str(error)) from None
    times = parse_trtexec(text)
    if times is None:
        raise InvalidFile(
            str(path), "has no line 'GPU Compute Time: min = … ms, …', expected trtexec's output"
        )
    return times


def parse_trtexec(text: str) -> TrtexecTimes | None:
    """Read the summary of the last run in a log; None if it has no readable one."""
    text = text.rpartition(RUN_BEGINS)[2]
    spreads: dict[str, Spread] = {}
    for line in text.splitlines():
        if (match := _LINE.search(line)) and (spread := _spread(match["statistics"])) is not None:
            spreads[match["what"].removesuffix(" Time").removesuffix(" Latency")] = spread
    compute = spreads.get("GPU Compute")
    if compute is None:
        return None
    total_s, cv = _last(_TOTAL, text), _last(_UNSTABLE, text)
    return TrtexecTimes(
        compute=compute,
        latency=spreads.get("Latency"),
        to_gpu=spreads.get("H2D"),
        from_gpu=spreads.get("D2H"),
        enqueue=spreads.get("Enqueue"),
        throughput_per_s=_last(_THROUGHPUT, text),
        runs=round(total_s * 1e3 / compute.mean_ms) if total_s else None,
        unstable_cv=cv / 100 if cv else None,
        inputs=read_inputs(text),
    )


def observation_of(times: TrtexecTimes, blocks: tuple[Block, ...]) -> Observation:
    """Return the observation of a network: its blocks and compute time."""
    return Observation(
        "network", blocks, times.compute.median_ms, standard_error=times.standard_error
    )


def _spread(statistics: str) -> Spread | None:
    values = {match["name"]: float(match["ms"]) for match in _PAIR.finditer(statistics)}
    percentiles = {
        (match["share"] or match["old_share"]): float(match["ms"] or match["old_ms"])
        for match in _PERCENTILE.finditer(statistics)
    }
    if not {"min", "max", "mean"} <= values.keys():
        return None
    all_ms = (*values.values(), *percentiles.values())
    if not all(isfinite(ms) and 0 <= ms < MAX_MS for ms in all_ms) or not values["mean"]:
        return None
    median_ms = values.get("median") or values["mean"]  # TensorRT 7 prints no median
    return Spread(median_ms, values["mean"], values["min"], values["max"], percentiles)


def _last(pattern: re.Pattern[str], text: str) -> float | None:
    matches = pattern.findall(text)
    return float(matches[-1]) if matches else None
