"""Runs TFLite's ``benchmark_model`` on a device and parses its output.

It prints statistics only, no samples. So in each round it runs once on the reference and once on
the model, and gives the median of each (the average where the build prints no median). All output
formats since 2018 are understood. A delegate that was requested and took no operator is an error,
since the latency would be the CPU's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec

from hwnas.devices.profile import Remote
from hwnas.devices.runner import Progress
from hwnas.devices.runners.protocol import WorkerRequest
from hwnas.devices.transports.transport import Transport
from hwnas.errors import DeviceError

_NUMBER = r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|nan|inf)"
_PREFIX = re.compile(
    r"^\s*(?:\d\d-\d\d \d\d:\d\d:\d\d\.\d+\s+(?:\d+\s+\d+\s+)?"
    r"(?P<level>[VDIWEF])[ /]\s*tflite[^:]*:\s*)?"
    r"(?P<word>(?:INFO|WARN|WARNING|ERROR|VERBOSE): )?"
)
_STATISTICS = re.compile(rf"count=(\d{{1,12}})((?: \w{{1,16}}={_NUMBER})*)")
_TIMINGS = (
    re.compile(
        rf"Inference timings in us: Init: ({_NUMBER}), First inference: ({_NUMBER}), "
        rf"Warmup \(avg\): ({_NUMBER}), Inference \(avg\): ({_NUMBER})"
    ),
    re.compile(
        rf"Average inference timings in us: Warmup: ({_NUMBER}), Init: ({_NUMBER}), "
        rf"(?:no stats|Inference): ({_NUMBER})"
    ),
)
_DELEGATED = (
    re.compile(
        r"Replacing (?P<own>\d{1,9}) out of (?P<all>\d{1,9}) node\(s\) with delegate "
        r"\((?P<name>\w{1,80})\) node"
    ),
    re.compile(
        r"(?P<name>\w{1,80})(?: delegate)?: (?P<own>\d{1,9}) nodes delegated out of "
        r"(?P<all>\d{1,9}) nodes"
    ),
)
_REFUSED = "the model graph will not be executed by the delegate"
_TABLE = re.compile(r"=+ (Run Order|Top by [A-Za-z ]{1,20}|Summary by node type) =+")
_DELEGATE_FLAGS = (
    "--use_gpu=true",
    "--use_nnapi=true",
    "--use_hexagon=true",
    "--external_delegate_path=",
)


class Delegation(msgspec.Struct, frozen=True):
    """Number of nodes that a delegate took, out of those of the graph."""

    name: str
    nodes: int
    of_nodes: int


class BenchmarkOperator(msgspec.Struct, frozen=True):
    """A row of the table that ``--enable_op_profiling=true`` prints."""

    kind: str
    name: str
    average_ms: float
    calls: int


class BenchmarkOutput(msgspec.Struct, frozen=True):
    """Parsed output of one run of ``benchmark_model``."""

    median_us: float | None
    """The median, or the average where this build prints no median."""
    init_us: float | None
    first_us: float | None
    delegations: tuple[Delegation, ...]
    refused: bool
    """Whether the requested delegate supports no node of the graph."""
    operators: tuple[BenchmarkOperator, ...]
    errors: tuple[str, ...]


def parse(text: str) -> BenchmarkOutput:
    """Parse the output of any version; unknown lines are skipped."""
    statistics: dict[str, float] = {}
    times: dict[str, float] = {}
    delegations: list[Delegation] = []
    operators: list[BenchmarkOperator] = []
    errors: list[str] = []
    refused, running, table, columns = False, False, False, 0
    for raw in text.splitlines():
        head = _PREFIX.match(raw)
        line = raw[head.end() :].rstrip() if head else raw
        if head and (head["level"] in ("E", "F") or head["word"] == "ERROR: "):
            errors.append(line[:300])
        refused = refused or _REFUSED in line
        if "Profiling Info for" in line:
            running, table = "Regular Benchmark Runs" in line, False
        elif match := _TABLE.search(line):
            table, columns = running and match[1] == "Run Order", 0
        elif line.startswith("Timings (microseconds)"):
            table = False  # statistics of the profile, not of the run
        elif match := _STATISTICS.match(line):
            pairs = (pair.split("=") for pair in match[2].split())
            statistics = {name: float(value) for name, value in pairs}
        elif match := _TIMINGS[0].search(line):
            names = ("init", "first", "warmup", "average")
            times = dict(zip(names, map(float, match.groups()), strict=True))
        elif match := _TIMINGS[1].search(line):
            names = ("warmup", "init", "average")
            times = dict(zip(names, map(float, match.groups()), strict=True))
        elif match := _DELEGATED[0].search(line) or _DELEGATED[1].search(line):
            delegations.append(Delegation(match["name"], int(match["own"]), int(match["all"])))
        elif table and line.strip():
            if "[node type]" in line:
                columns = 7 if "[start]" in line else 6
            elif line.lower().startswith("node type,"):
                columns = -1
            elif (row := _operator(line, columns)) is not None:
                operators.append(row)
    return BenchmarkOutput(
        median_us=statistics.get("median", times["average"]) if "average" in times else None,
        init_us=times.get("init"),
        first_us=times.get("first"),
        delegations=tuple(delegations),
        refused=refused,
        operators=tuple(operators),
        errors=tuple(errors),
    )


def _operator(line: str, columns: int) -> BenchmarkOperator | None:
    """Parse a row from the right, as the kind may contain blanks and commas."""
    if columns < 0:  # unquoted CSV: commas became tabs in the name, but not in the kind
        cells = line.rsplit(",", 7)
        if len(cells) != 8:
            return None
        kind, average, calls, name = cells[0], cells[2], cells[6], cells[7].replace("\t", ",")
    else:
        cells = [word.strip() for word in line.strip().split("\t")]
        if columns == 0 or len(cells) != columns + 2:
            return None
        if columns == 7:
            del cells[1]  # [start]
        kind, average, calls, name = cells[0], cells[2], cells[6], cells[7]
    try:
        return BenchmarkOperator(kind.strip(), name.strip(), float(average), int(calls))
    except ValueError:
        return None


def run_benchmark_model(
    transport: Transport,
    binary: str,
    request: WorkerRequest,
    remote: Remote,
    progress: Progress | None,
) -> dict[str, Any]:
    """Visit all models in shuffled rounds; returns the fields of a `WorkerResult`."""
    spec, paths = request.spec, [model.path for model in request.models]
    flags = [
        f"--num_threads={spec.threads}",
        f"--num_runs={spec.runs}",
        "--min_secs=0",
        f"--max_secs={spec.max_s:g}",
        f"--warmup_runs={max(1, spec.warmup_runs)}",
        f"--warmup_min_secs={spec.warmup_s:g}",
        *remote.benchmark_flags,
    ]

    def median_ms(path: str) -> tuple[float, BenchmarkOutput]:
        run = transport.run([binary, f"--graph={path}", *flags], limit_s=remote.limit_s)
        output = parse((run.out + b"\n" + run.err).decode(errors="replace"))
        if run.status or not output.median_us or not 0 < output.median_us < 1e12:
            last = output.errors[-1] if output.errors else run.last_line
            raise DeviceError(
                f"{transport.name}: benchmark_model ended with status {run.status}: {last}"
            )
        if (problem := undelegated(output, remote.benchmark_flags)) is not None:
            raise DeviceError(f"{transport.name}: {problem}")
        return output.median_us / 1e3, output

    rounds: list[list[dict[str, Any]]] = [[] for _ in paths]
    first: dict[int, BenchmarkOutput] = {}
    shuffler, done = Random(request.seed), 0
    for _ in range(spec.min_rounds if paths else 0):
        for place in shuffler.sample(range(len(paths)), len(paths)):
            reference_ms, _output = median_ms(request.reference)
            own_ms, output = median_ms(paths[place])
            first.setdefault(place, output)
            rounds[place].append({"samples_ms": [own_ms], "reference_ms": [reference_ms]})
            done += 1
            if progress:
                progress(done, len(paths) * spec.min_rounds)
    models = [
        {
            "rounds": rounds[place],
            "load_ms": _ms(first[place].init_us),
            "first_run_ms": _ms(first[place].first_us),
        }
        for place in range(len(paths))
    ]
    binary_hash = binary.split("/")[-2][:12]
    return {"models": models, "environment": {"runtime_version": f"benchmark_model {binary_hash}"}}


def undelegated(output: BenchmarkOutput, flags: Sequence[str]) -> str | None:
    """Return why the delegate that ``flags`` request did not compute the model, or ``None``."""
    if not any(flag.startswith(_DELEGATE_FLAGS) for flag in flags):
        return None
    delegated = any(d.nodes > 0 and "XNNPack" not in d.name for d in output.delegations)
    if delegated and not output.refused:
        return None
    return (
        "the requested delegate took none of the model's operators, so the latency would be the "
        "CPU's"
    )


def _ms(microseconds: float | None) -> float | None:
    return None if microseconds is None else microseconds / 1e3
