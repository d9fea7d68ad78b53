"""Kernels and plain CSV become observations, or an error that names the row."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwnas.errors import InvalidFile
from hwnas.latency_models.observation import Observation
from tests.support.data.table_files import KERNELS, blocks_of, read

PLAIN = """\
# a remark
key,median_us,standard_error,scope

mbconv k5 s2 e6 32>64 @56,1500,0.01,isolated
conv k3 s2 e1 3>32 @224; mbconv k5 s2 e6 32>64 @112,4000,,network
"""


def test_kernels_that_are_blocks_are_blocks_timed_alone(tmp_path: Path) -> None:
    imported = read(tmp_path, "kernels.csv", KERNELS)
    assert imported.dialect == "nn-meter"
    assert imported.observations == (
        Observation("isolated", blocks_of("conv k1 s1 e1 96>160 @14 relu"), 37.53, 0.314 / 37.53),
        Observation("isolated", blocks_of("conv k3 s2 e1 24>48 @28"), 0.5),
    )
    assert "rows skipped because they are only part of a block: 1 dwconv-bn-relu" in imported.notes
    assert "column 'latency' is read as milliseconds, the unit of nn-Meter" in imported.notes


def test_a_fully_connected_kernel_is_a_classifier_behind_the_pool(tmp_path: Path) -> None:
    imported = read(tmp_path, "fc.csv", "kernel,CIN,COUT,latency_us\nfc,1280,1000,250\n")
    [only] = imported.observations
    assert only == Observation("isolated", blocks_of("logits k1 s1 e1 1280>1000 @1"), 0.25)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("conv-bn-relu6_", "conv-gelu_", "line 3: kernel is 'conv-gelu', expected one of conv-bn"),
        ("28,24,48", "28,,48", "line 3: kernel 'conv-bn-relu6' needs a value in column CIN"),
        ("28,24,48,3,2,1.5,0.1,0.5", "28,24", "line 3 has 3 values, the header has 9 columns"),
        ("0.1,0.5", "0.1,inf", "line 3: latency is 'inf', expected a number"),
        ("COUT", "C_OUT", "unknown column 'C_OUT', did you mean 'COUT'?"),
        ("latency\n", "latency_min\n", "has no latency column with a unit in its name"),
    ],
)
def test_a_wrong_kernel_is_named(tmp_path: Path, old: str, new: str, why: str) -> None:
    with pytest.raises(InvalidFile) as raised:
        read(tmp_path, "kernels.csv", KERNELS.replace(old, new, 1))
    assert why in str(raised.value)


def test_kernels_of_which_none_is_a_block_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="has no kernel that is a whole block: 1 maxpool"):
        read(tmp_path, "kernels.csv", "kernel,HW,CIN,latency_ms\nmaxpool,28,8,1\n")


def test_plain_csv_has_blocks_and_networks_with_the_unit_in_the_name(tmp_path: Path) -> None:
    imported = read(tmp_path, "mine.csv", PLAIN)
    assert imported.dialect == "csv"
    assert imported.observations == (
        Observation("isolated", blocks_of("mbconv k5 s2 e6 32>64 @56"), 1.5, 0.01),
        Observation(
            "network", blocks_of("conv k3 s2 e1 3>32 @224", "mbconv k5 s2 e6 32>64 @112"), 4.0
        ),
    )


def test_the_same_latency_in_every_unit_is_the_same(tmp_path: Path) -> None:
    for header, value in (("ms", "1.5"), ("median_us", "1500"), ("mean_s", "0.0015")):
        imported = read(tmp_path, "mine.csv", f"key,{header}\nconv k3 s2 e1 3>32 @224,{value}\n")
        assert imported.observations[0].ms == pytest.approx(1.5)


def test_blocks_may_be_given_field_by_field(tmp_path: Path) -> None:
    imported = read(
        tmp_path,
        "mine.csv",
        "op,in_channels,out_channels,kernel_size,stride,expand_ratio,in_size,activation,"
        "squeeze_excite,ms,std_ms,count\n"
        "mbconv,20,48,3,2,3.2,56,relu,1,2.0,0.2,100\nlogits,8,10,1,1,1,7,,,0.1,,\n",
    )
    block, classifier = imported.observations
    assert block.scope == "in_network" and block.ms == 2.0
    assert block.blocks == blocks_of("mbconv k3 s2 e3.2 20>48 @56 se relu")
    assert block.standard_error == pytest.approx(0.01)
    assert classifier == Observation("in_network", blocks_of("logits k1 s1 e1 8>10 @7"), 0.1)
    assert "no column 'scope': 2 blocks read as 'in_network'" in imported.notes[0]


def test_the_null_model_is_a_row_without_a_key(tmp_path: Path) -> None:
    imported = read(tmp_path, "mine.csv", "key,ms,scope\n,0.02,isolated\n")
    assert imported.observations == (Observation("isolated", (), 0.02),)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("key,latency\nconv k3 s2 e1 3>32 @224,1\n", "has no latency column with a unit"),
        ("key,ms,us\nconv k3 s2 e1 3>32 @224,1,1000\n", "has 2 columns with a unit, ms, us"),
        ("key,ms,pixels\nlogits k1 s1 e1 8>10 @7,1,1\n", "unknown column 'pixels'"),
        ("key,ms,batch\nlogits k1 s1 e1 8>10 @7,1,0\n", "batch is '0', expected a whole number"),
        ("ms\n1\n", "has no column op, in_channels"),
        ("op,ms\nconv,1\n", "has no column in_channels, out_channels"),
        ("key,ms\n", "has no rows, expected a header and at least one row"),
        ("", "is empty"),
        ("key ms\nconv k3 s2 e1 3>32 @224;1\n", "found: key_ms"),
        ("key,ms\nconv k3 3>32,1\n", "line 2: 'conv k3 3>32' is not a block key"),
        ("key,ms\ngconv k3 s2 e1 3>32 @224,1\n", "operation is 'gconv', expected one of conv"),
        ("key,ms\nidentity k1 s1 e1 8>8 @7,1\n", "operation is 'identity'"),
        ("key,ms\nconv k3 s2 e1 3>32 @224 mish,1\n", "activation is 'mish'"),
        ("key,ms\nconv k3 s2 e1 3>32 @224 se,1\n", "only supported for mbconv, depthwise_sep"),
        ("key,ms\nbottleneck k3 s1 e1 8>8 @7 g3,1\n", "groups of 3 do not divide a bottleneck"),
        ("key,ms\nmbconv k3 s1 e6 8>8 @7 a3,1\n", "only uib has a depthwise convolution before"),
        ("key,ms\nconv k3 s0 e1 3>32 @224,1\n", "must be 1 to 99,999"),
        ("key,ms\nconv k3 s1 e1 3>320000 @224,1\n", "must be 1 to 99,999"),
        ("key,ms\nmbconv k3 s1 e60000 8>8 @7,1\n", "expansion is 60000, expected 0.001 to 1000"),
        ("key,ms\n,1\n", "line 2: key is empty"),
        ("key,ms,scope\nlogits k1 s1 e1 8>10 @7,1,apart\n", "scope is 'apart', expected isolated"),
        ("key,ms,standard_error\nlogits k1 s1 e1 8>10 @7,1,2\n", "below 1 (0.02 is 2 %)"),
        ("key,ms\nlogits k1 s1 e1 8>10 @7,-1\n", "line 2: ms is -1, expected a latency above 0"),
        ("key,ms\nlogits k1 s1 e1 8>10 @7,\n", "line 2: ms is '', expected a number"),
        ("key,ms\nlogits k1 s1 e1 8>10 @7,1\nlogits k1 s1 e1 8>10 @7,2\n", "line 3: 'in_network l"),
        ("key,ms\nlogits k1 s1 e1 8>10 @7,1,9\n", "line 2 has 3 values, the header has 2"),
        ('key,ms\n"logits k1 s1 e1 8>10 @7,1\n', "unexpected end of data"),
    ],
)
def test_a_wrong_csv_file_is_one_clear_line(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(InvalidFile) as raised:
        read(tmp_path, "mine.csv", text)
    assert str(raised.value).startswith(str(tmp_path / "mine.csv"))
    assert why in str(raised.value) and "\n" not in str(raised.value)


def test_microseconds_called_milliseconds_are_told(tmp_path: Path) -> None:
    row = "conv k3 s1 e1 32>32 @56,{ms}\n"
    right = read(tmp_path, "a.csv", "key,ms,scope\n" + row.format(ms="1.5,in_network"))
    assert right.notes == ()
    wrong = read(tmp_path, "a.csv", "key,ms,scope\n" + row.format(ms="1500,in_network"))
    assert "too slow for any processor: is the unit right?" in wrong.notes[0]


def test_one_row_in_another_unit_is_told(tmp_path: Path) -> None:
    rows = "".join(
        f"conv k3 s1 e1 32>{width} @56,{width / 20},in_network\n" for width in (32, 48, 64)
    )
    odd = "conv k3 s1 e1 32>96 @56,4800,in_network\n"
    [note] = read(tmp_path, "a.csv", "key,ms,scope\n" + rows + odd).notes
    assert "1 row(s) differ from the others" in note and "32>96 @56: 4800 ms" in note
