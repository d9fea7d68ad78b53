"""Output of a device is data: for any output a parser returns or raises as documented."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hwnas.devices.discovery.attached import parse_gpus, parse_phones
from hwnas.devices.discovery.probe import parse_cpuinfo, parse_getprop, parse_memory
from hwnas.devices.op_profile.remote import native_rows
from hwnas.devices.runners.benchmark_model import parse
from hwnas.devices.runners.protocol import check_result
from hwnas.devices.transports.transport import CommandResult
from hwnas.errors import HwnasError
from hwnas.latency_models.importers.trtexec.log import parse_trtexec

hypothesis: Any = pytest.importorskip("hypothesis", reason="pip install hypothesis")
st: Any = hypothesis.strategies
quick: Any = hypothesis.settings(max_examples=80, deadline=None, database=None)

WORDS = (
    "count=50", " curr=1", " median=", " avg=2.7e+06", "nan", "inf", "1e999", "-1", "INFO: ",
    "ERROR: ", "Inference timings in us: Init: ", ", First inference: ", ", Warmup (avg): ",
    ", Inference (avg): ", "Average inference timings in us: Warmup: ", "node type,", "[node type]",
    "Operator-wise Profiling Info for Regular Benchmark Runs:", "===== Run Order =====", "\t", ",",
    "Replacing 31 out of 31 node(s) with delegate (X) node", " nodes delegated out of ",
    "07-19 14:10:10.844  7937  7937 I tflite  : ", "] Batch: ", "9x3x",
    "Input binding for x with dimensions ", "GPU Compute Time: min = ", " ms, max = ", "ms",
    " ms, mean = ", " ms, median = ", "percentile(90%) = ", "Throughput: ", " qps", "%", "0", "99",
    "[ro.product.model]: [", "]", "processor\t: 0", "CPU part\t: 0xd08", "MemTotal: ", " kB",
    "serial\tdevice", " model:X", "unauthorized", "0, T4, GPU-1, 535, [N/A], 1590, 7.5", "\0", "é",
)  # fmt: skip
TEXT = st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=6), st.just("\n")), max_size=40)
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.sampled_from([
                "models", "environment", "rounds", "samples_ms", "reference_ms", "runtime_version",
                "operators", "name", "kind", "provider", "elapsed_us", "error", "file", "affinity",
            ]),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=20,
)  # fmt: skip


@quick
@hypothesis.given(TEXT)
def test_any_output_of_benchmark_model_is_parsed(parts: list[str]) -> None:
    output = parse("".join(parts))
    assert output.median_us is None or isinstance(output.median_us, float)
    assert all(len(error) <= 300 for error in output.errors)


@quick
@hypothesis.given(TEXT)
def test_any_list_of_devices_is_parsed(parts: list[str]) -> None:
    text = "".join(parts)
    assert all(phone.serial and phone.state for phone in parse_phones(text))
    assert all(gpu.number >= 0 for gpu in parse_gpus(text))


@quick
@hypothesis.given(TEXT)
def test_any_output_of_a_probe_is_parsed(parts: list[str]) -> None:
    text = "".join(parts)
    assert all("\n" not in value for value in parse_getprop(text).values())
    assert parse_cpuinfo(text).cores >= 0
    memory = parse_memory(text)
    assert memory is None or memory >= 0


@quick
@hypothesis.given(TEXT)
def test_trtexec_gives_finite_times_or_none(parts: list[str]) -> None:
    log = parse_trtexec("".join(parts))
    if log is not None:
        assert all(isfinite(ms) for ms in (log.compute.median_ms, log.standard_error))


@quick
@hypothesis.given(st.one_of(st.binary(max_size=200), JSON.map(msgspec.json.encode)))
def test_operators_are_numbers_or_an_error(out: bytes) -> None:
    try:
        rows = native_rows(CommandResult(0, out, b""), Path("a.tflite"), "phone")
    except HwnasError as error:
        assert "\n" not in str(error)
    else:
        assert all(isinstance(row.median_ms, float) for row in rows)


@quick
@hypothesis.given(JSON, st.integers(0, 3))
def test_a_result_is_checked_or_an_error(result: object, count: int) -> None:
    try:
        checked = check_result(result, count, "phone")
    except HwnasError as error:
        assert "phone: the runner's result is invalid" in str(error)
    else:
        assert len(checked.models) == count
