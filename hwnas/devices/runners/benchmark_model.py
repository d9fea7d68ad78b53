"""TFLite's own ``benchmark_model`` as the runner on a device: calling it, and reading what it says.

It prints statistics only, no samples, so a visit is one run of the program: one of the reference
before one of the model, each giving its median (its average where the build prints none). All forms
of its output since 2018 are read; a delegate that was asked for and took no operator is an error,
since the number would be the processor's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec

from hwnas.devices.profile import MeasureSpec, Remote
from hwnas.devices.runner import Progress
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
_ASKS_DELEGATE = (
    "--use_gpu=true",
    "--use_nnapi=true",
    "--use_hexagon=true",
    "--external_delegate_path=",
)


class Delegation(msgspec.Struct, frozen=True):
    """How much of the graph a delegate took."""

    name: str
    nodes: int
    of_nodes: int


class OperatorRow(msgspec.Struct, frozen=True):
    """A row of the table that ``--enable_op_profiling=true`` prints."""

    kind: str
    name: str
    average_ms: float
    calls: int


class Output(msgspec.Struct, frozen=True):
    """What a run of ``benchmark_model`` said."""

    median_us: float | None
    """The median, or the average where this build prints none."""
    init_us: float | None
    first_us: float | None
    delegations: tuple[Delegation, ...]
    refused: bool
    """A delegate that was asked for takes nothing of the graph."""
    operators: tuple[OperatorRow, ...]
    errors: tuple[str, ...]


def parse(text: str) -> Output:
    """Read the output of any version; what is not known is passed over."""
    statistics: dict[str, float] = {}
    times: dict[str, float] = {}
    delegations: list[Delegation] = []
    operators: list[OperatorRow] = []
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
        elif found := _TABLE.search(line):
            table, columns = running and found[1] == "Run Order", 0
        elif line.startswith("Timings (microseconds)"):
            table = False  # the statistics of a profile, not of the run
        elif found := _STATISTICS.match(line):
            pairs = (pair.split("=") for pair in found[2].split())
            statistics = {name: float(value) for name, value in pairs}
        elif found := _TIMINGS[0].search(line):
            names = ("init", "first", "warmup", "average")
            times = dict(zip(names, map(float, found.groups()), strict=True))
        elif found := _TIMINGS[1].search(line):
            names = ("warmup", "init", "average")
            times = dict(zip(names, map(float, found.groups()), strict=True))
        elif found := _DELEGATED[0].search(line) or _DELEGATED[1].search(line):
            delegations.append(Delegation(found["name"], int(found["own"]), int(found["all"])))
        elif table and line.strip():
            if "[node type]" in line:
                columns = 7 if "[start]" in line else 6
            elif line.lower().startswith("node type,"):
                columns = -1
            elif (row := _operator(line, columns)) is not None:
                operators.append(row)
    return Output(
        median_us=statistics.get("median", times["average"]) if "average" in times else None,
        init_us=times.get("init"),
        first_us=times.get("first"),
        delegations=tuple(delegations),
        refused=refused,
        operators=tuple(operators),
        errors=tuple(errors),
    )


def _operator(line: str, columns: int) -> OperatorRow | None:
    """Read a row; the kind may hold blanks and commas, so it is what the numbers leave."""
    if columns < 0:  # CSV, unquoted: in the name commas became tabs, in the kind they did not
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
        return OperatorRow(kind.strip(), name.strip(), float(average), int(calls))
    except ValueError:
        return None


def ask_benchmark_model(
    transport: Transport, binary: str, paths: Sequence[str], reference: str, spec: MeasureSpec,
    seed: int, remote: Remote, progress: Progress | None,
) -> dict[str, Any]:  # fmt: skip
    """Visit all models in shuffled rounds; returns the fields of `runners.remote.Said`."""
    flags = [
        f"--num_threads={spec.threads}", f"--num_runs={spec.runs}", "--min_secs=0",
        f"--max_secs={spec.max_s:g}", f"--warmup_runs={max(1, spec.warmup_runs)}",
        f"--warmup_min_secs={spec.warmup_s:g}", *remote.benchmark_flags,
    ]  # fmt: skip

    def median_ms(path: str) -> tuple[float, Output]:
        said = transport.run([binary, f"--graph={path}", *flags], limit_s=remote.limit_s)
        output = parse((said.out + b"\n" + said.err).decode(errors="replace"))
        if said.status or not output.median_us or not 0 < output.median_us < 1e12:
            last = output.errors[-1] if output.errors else said.last_words
            raise DeviceError(
                f"{transport.name}: benchmark_model ended with status {said.status}: {last}"
            )
        if (problem := undelegated(output, remote.benchmark_flags)) is not None:
            raise DeviceError(f"{transport.name}: {problem}")
        return output.median_us / 1e3, output

    rounds: list[list[dict[str, Any]]] = [[] for _ in paths]
    first: dict[int, Output] = {}
    shuffler, done = Random(seed), 0
    for _ in range(spec.min_rounds if paths else 0):
        for place in shuffler.sample(range(len(paths)), len(paths)):
            reference_ms, _output = median_ms(reference)
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


def undelegated(output: Output, flags: Sequence[str]) -> str | None:
    """Return why the number is not that of the delegate which ``flags`` ask for, if it isn't."""
    if not any(flag.startswith(_ASKS_DELEGATE) for flag in flags):
        return None
    taken = [one for one in output.delegations if "XNNPack" not in one.name and one.nodes > 0]
    if taken and not output.refused:
        return None
    return (
        "the delegate that was asked for took none of the model's operators, the latency would be "
        "the processor's"
    )


def _ms(microseconds: float | None) -> float | None:
    return None if microseconds is None else microseconds / 1e3
