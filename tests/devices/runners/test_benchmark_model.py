"""Output of all versions of ``benchmark_model``, and malicious output."""

from __future__ import annotations

from random import Random

import pytest

from hwnas.devices.runners.benchmark_model import BenchmarkOperator, Delegation, parse, undelegated

NEW = """INFO: STARTING!
INFO: Replacing 31 out of 31 node(s) with delegate (TfLiteXNNPackDelegate) node, yielding 1 \
partitions for the whole graph.
INFO: Initialized session in 6.395ms.
INFO: count=1 curr=2732148 p5=2732148 median=2732148 p95=2732148

INFO: count=337 first=2881 curr=2703 min=2605 max=20356 avg=2.71985e+06 std=1190 p5=2647 \
median=2781 p95=3169

INFO: Inference timings in us: Init: 6395, First inference: 2761, Warmup (avg): 2.73215e+06, \
Inference (avg): 2.71985e+06
INFO: Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
\t[node type]\t[first]\t[avg ms]\t[%]\t[cdf%]\t[mem KB]\t[times called]\t[Name]
\tConvolution (NHWC, QC8) IGEMM\t0.398\t0.407\t2.658%\t3.986%\t0.000\t1\tDelegate/Conv:0

Timings (microseconds): count=50 first=1 curr=2 min=1 max=3 avg=2 std=1
"""
WITH_START = """Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
\t [node type]\t [start]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t\
[times called]\t[Name]
\t         CONV_2D\t    0.066\t   87.754\t   60.957\t  2.066%\t  2.066%\t     0.000\t\
        1\t[M/Conv2d_0/Relu6]:0
"""
CSV = """Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
node type,first,avg_ms,%,cdf%,mem KB,times called,name
Convolution (NHWC, F32) IGEMM,0.16,0.1999,11.4405%,11.4405%,0,1,Delegate/Convolution (NHWC\t F32):0
"""


def test_a_recent_build_prints_a_median() -> None:
    output = parse(NEW)
    assert (output.median_us, output.init_us, output.first_us) == (2781, 6395, 2761)
    assert output.delegations == (Delegation("TfLiteXNNPackDelegate", 31, 31),)
    assert output.operators == (
        BenchmarkOperator("Convolution (NHWC, QC8) IGEMM", "Delegate/Conv:0", 0.407, 1),
    )


@pytest.mark.parametrize(
    ("text", "average_us"),
    [
        (
            "Average inference timings in us: Warmup: 76605.9, Init: 9933, no stats: 66767.6",
            66767.6,
        ),
        (
            "Average inference timings in us: Warmup: 83235, Init: 38467, Inference: 79760.9",
            79760.9,
        ),
        (
            "Inference timings in us: Init: 855, First inference: 49060, Warmup (avg): 34825.1, "
            "Inference (avg): 33209.4",
            33209.4,
        ),
        (
            "07-19 14:10:10.844  7937  7937 I tflite  : Inference timings in us: Init: 1, First "
            "inference: 2, Warmup (avg): 3, Inference (avg): 4.5",
            4.5,
        ),
        (
            "07-08 15:34:26.201 I/tflite  ( 5395): Inference timings in us: Init: 1, First "
            "inference: 2, Warmup (avg): 3, Inference (avg): 2.7e+06",
            2.7e6,
        ),
    ],
)
def test_older_builds_print_an_average_only(text: str, average_us: float) -> None:
    assert (
        parse(f"count=50 first=1 curr=2 min=1 max=3 avg=2 std=1\n{text}\n").median_us == average_us
    )


def test_tables_with_a_start_column_and_as_csv_are_read() -> None:
    assert parse(WITH_START).operators == (
        BenchmarkOperator("CONV_2D", "[M/Conv2d_0/Relu6]:0", 60.957, 1),
    )
    assert parse(CSV).operators == (
        BenchmarkOperator(
            "Convolution (NHWC, F32) IGEMM", "Delegate/Convolution (NHWC, F32):0", 0.1999, 1
        ),
    )


def test_an_output_without_timings_has_no_number_but_its_errors() -> None:
    output = parse("ERROR: Failed to open file 'x'.\n")
    assert output.median_us is None and output.errors == ("Failed to open file 'x'.",)


@pytest.mark.parametrize(
    "text",
    [
        "TfLiteGpuDelegateV2 delegate: 0 nodes delegated out of 31 nodes with 0 partitions.\n",
        "Though EXTERNAL delegate is explicitly applied, the model graph will not be executed by "
        "the delegate.\n",
        "INFO: Replacing 31 out of 31 node(s) with delegate (TfLiteXNNPackDelegate) node\n",
        "",
    ],
)
def test_a_delegate_that_took_nothing_is_refused(text: str) -> None:
    assert undelegated(parse(text), ["--use_gpu=true"])
    assert undelegated(parse(text), []) is None


def test_a_delegate_that_took_operators_is_believed() -> None:
    text = "TfLiteGpuDelegateV2: 31 nodes delegated out of 31 nodes with 1 partitions.\n"
    assert undelegated(parse(text), ["--use_gpu=true"]) is None


def test_no_output_breaks_the_parser() -> None:
    """Real output with cuts, repetitions and foreign bytes at random positions."""
    random = Random(0)
    whole = NEW + WITH_START + CSV
    for _ in range(300):
        text = whole
        for _ in range(random.randint(1, 8)):
            a, b = sorted(random.randrange(len(text) + 1) for _ in range(2))
            noise = "".join(
                chr(random.choice([0, 9, 10, 37, 44, 61, 255, 0x2028])) for _ in range(3)
            )
            text = random.choice(
                [text[:a] + text[b:], text[:b] + text[a:], text[:a] + noise + text[a:]]
            )
            text = text[:20_000]
        output = parse(text)
        assert output.median_us is None or isinstance(output.median_us, float)
        assert all(row.kind for row in output.operators)


def test_a_long_line_takes_no_long_time() -> None:
    output = parse("count=1" + " a=1" * 200_000 + "\n" + "w" * 500_000 + "\n")
    assert output.median_us is None and output.operators == ()
