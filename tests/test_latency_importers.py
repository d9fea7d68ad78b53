"""Published tables and CSV files become observations, or an error that names the row."""

from __future__ import annotations

import json
from functools import cache
from math import hypot, sqrt
from pathlib import Path
from typing import Any

import pytest

from hwnas.architecture import Block
from hwnas.errors import InvalidFile, UnknownName, UsageError
from hwnas.latency_models.importers import Dialect, Imported, read_observations
from hwnas.latency_models.observation import Observation
from hwnas.spaces.network_files import read_once_for_all

SHARED = Path(__file__).parents[2] / "shared" / "data"
PIXEL1 = SHARED / "proxylessnas" / "pixel1_mobile_trim.yaml"
OFA = SHARED / "ofa"
needs_pixel1 = pytest.mark.skipif(
    not PIXEL1.is_file(), reason="shared/data/proxylessnas is not here"
)
needs_ofa = pytest.mark.skipif(not OFA.is_dir(), reason="shared/data/ofa is not here")

PROXYLESS = """\
Conv-input:224x224x3-output:112x112x32:
  count: 100
  mean: 4.0
  var: 0.16
expanded_conv-input:112x112x16-output:56x56x24-expand:3-kernel:5-stride:2-idskip:0:
  count: 164
  mean: 7.5
  var: 0.09
Conv_1-input:7x7x320-output:7x7x1280:
  count: 100
  mean: 3.0
  var: 0.25
Logits-input:7x7x1280-output:1000:
  count: 100
  mean: 0.3
  var: 0.01
"""
V3: dict[str, dict[str, float]] = {
    "Conv-input:224x224x3-output:112x112x24": {"count": 100, "mean": 1.0, "std": 0.1},
    "expanded_conv-input:56x56x20-output:28x28x48-expand:64-kernel:3-stride:2-idskip:0-se:1-hs:0": {
        "count": 100, "mean": 2.0, "std": 0.2,
    },
    "expanded_conv-input:7x7x48-output:7x7x48-expand:144-kernel:7-stride:1-idskip:1-se:0-hs:1": {
        "count": 100, "mean": 3.0, "std": 0.3,
    },
    "Conv_1-input:7x7x192-output:7x7x1152": {"count": 100, "mean": 4.0, "std": 0.4},
    "AvgPool2D-input:7x7x1152-output:1x1x1152": {"count": 100, "mean": 0.25, "std": 0.3},
    "Conv_2-input:1x1x1152-output:1x1x1536": {"count": 100, "mean": 0.75, "std": 0.4},
    "Logits-input:1x1x1536-output:1000": {"count": 100, "mean": 0.5, "std": 0.1},
}  # fmt: skip
KERNELS = """\
model_path,HW,CIN,COUT,KERNEL_SIZE,STRIDES,feature_0,feature_1,latency
conv-bn-relu_prior_AAAAAA,14,96,160,1,1,1.5,0.1,37.53 +- 0.314
conv-bn-relu6_prior_AAAAAB,28,24,48,3,2,1.5,0.1,0.5
dwconv-bn-relu_prior_AAAAAC,28,24,24,3,1,1.5,0.1,0.2
"""
PLAIN = """\
# a remark
key,median_us,standard_error,what

mbconv k5 s2 e6 32>64 @56,1500,0.01,alone
conv k3 s2 e1 3>32 @224; mbconv k5 s2 e6 32>64 @112,4000,,network
"""


def read(
    folder: Path,
    name: str,
    text: str,
    dialect: Dialect | None = None,
    resolution: int | None = None,
) -> Imported:
    path = folder / name
    path.write_text(text)
    return read_observations(path, dialect, resolution)


def yaml_of(rows: dict[str, Any]) -> str:
    return "".join(
        f"{name}:\n" + "".join(f"  {field}: {value}\n" for field, value in fields.items())
        for name, fields in rows.items()
    )


def by_key(imported: Imported) -> dict[str, Observation]:
    assert all(len(observation.keys) == 1 for observation in imported.observations)
    return {observation.keys[0]: observation for observation in imported.observations}


def test_expand_is_the_ratio_in_a_proxylessnas_table(tmp_path: Path) -> None:
    imported = read(tmp_path, "table.yaml", PROXYLESS)
    assert imported.dialect == "proxylessnas"
    assert list(by_key(imported)) == [
        "conv k3 s2 e1 3>32 @224",
        "mbconv k5 s2 e3 16>24 @112",
        "conv k1 s1 e1 320>1280 @7",
        "logits k1 s1 e1 1280>1000 @7",
    ]


def test_var_of_a_table_is_a_variance_and_std_a_deviation(tmp_path: Path) -> None:
    stem = by_key(read(tmp_path, "table.yaml", PROXYLESS))["conv k3 s2 e1 3>32 @224"]
    assert stem == Observation("inside", stem.keys, 4.0, sqrt(0.16 / 100) / 4.0)
    head = by_key(read(tmp_path, "v3.yaml", yaml_of(V3)))["conv k1 s1 e1 192>1152 @7 hswish"]
    assert head.ms == 4.0 and head.standard_error == pytest.approx(0.4 / 10 / 4.0)


def test_expand_is_the_number_of_channels_in_an_ofa_table(tmp_path: Path) -> None:
    imported = read(tmp_path, "table.yaml", yaml_of(V3))
    assert imported.dialect == "ofa"
    keys = list(by_key(imported))
    assert keys == [
        "conv k3 s2 e1 3>24 @224 hswish",
        "mbconv k3 s2 e3.2 20>48 @56 se relu",
        "mbconv k7 s1 e3 48>48 @7 hswish",
        "conv k1 s1 e1 192>1152 @7 hswish",
        "mix k1 s1 e1 1152>1536 @7 hswish",
        "logits k1 s1 e1 1536>1000 @1",
    ]
    assert Block.from_key(keys[1]).mid_channels == 64


def test_pool_and_second_convolution_of_the_head_are_one_block(tmp_path: Path) -> None:
    mix = by_key(read(tmp_path, "t.yaml", yaml_of(V3)))["mix k1 s1 e1 1152>1536 @7 hswish"]
    assert mix.ms == 1.0
    assert mix.standard_error == pytest.approx(hypot(0.3, 0.4) / 10)


def test_the_sum_of_the_observations_is_the_sum_of_the_table(tmp_path: Path) -> None:
    observations = read(tmp_path, "t.yaml", yaml_of(V3)).observations
    assert sum(one.ms for one in observations) == sum(row["mean"] for row in V3.values())


def test_yaml_json_and_a_folder_of_files_say_the_same(tmp_path: Path) -> None:
    alone = read(tmp_path, "t.yaml", yaml_of(V3))
    assert read(tmp_path, "flat.json", json.dumps(V3)) == alone
    packed = {"_origin": "x", "unit": "ms (as published)", "tables": {"224": V3}}
    assert read(tmp_path, "packed.json", json.dumps(packed)) == alone
    folder = tmp_path / "tables"
    folder.mkdir()
    assert read(folder, "224_lookup_table.yaml", yaml_of(V3)) == alone
    assert read_observations(folder) == alone


def test_one_resolution_of_several_can_be_read(tmp_path: Path) -> None:
    small = {name.replace("224x224", "192x192").replace("112x112", "96x96"): row
             for name, row in V3.items()}  # fmt: skip
    text = json.dumps({"tables": {"192": small, "224": V3}})
    assert len(read(tmp_path, "t.json", text).observations) == 12
    assert len(read(tmp_path, "t.json", text, resolution=192).observations) == 6
    with pytest.raises(UnknownName, match=r"no table in .* named '200 px'"):
        read(tmp_path, "t.json", text, resolution=200)
    with pytest.raises(InvalidFile, match="table '160' has the first layer of 224 px"):
        read(tmp_path, "t.json", json.dumps({"tables": {"160": V3}}))


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("mean: 7.5", "mean: -7.5", r"line 5: mean of 'expanded_conv.*' is -7.5, expected a laten"),
        ("mean: 7.5", "mean: 0", "line 5: .*expected a latency above 0"),
        ("mean: 7.5", "mean: .nan", "line 5: .* is '.nan', expected a number"),
        ("mean: 7.5", "mean: nan", "line 5: .* is 'nan', expected a number"),
        ("mean: 7.5", "mean: 7,5", "line 5: .* is '7,5', expected a number"),
        ("  mean: 7.5\n", "", "line 5: .* has count, var, expected count, mean"),
        ("mean: 7.5", "mean: 7.5\n  median: 7", "line 5: .* has count, mean, median, var"),
        ("count: 164", "count: 0", "line 5: count .* is '0', expected a whole number"),
        ("var: 0.09", "var: -0.09", "line 5: var is -0.09, expected 0 or more"),
        ("expand:3", "expand:48", "line 5: .*expand:48 looks like channels, expected a ratio"),
        ("56x56x24", "57x57x24", "line 5: .*stride 2 makes 112 px into 56 px, the output has 57"),
        ("112x112x16", "112x110x16", "line 5: .*is not square"),
        ("idskip:0", "idskip:1", "line 5: .*idskip:1 needs stride 1 and equal channels"),
        ("Conv_1-", "Conv_9-", "line 9: 'Conv_9-.*' is no layer of a table of proxylessnas"),
        ("-idskip:0", "", "line 5: .* has -expand:RATIO-kernel:K-stride:S-idskip:0|1"),
        ("112x112x16", "112x112x0", "line 5: .*of 0"),
        ("  count: 164\n  mean: 7.5\n  var: 0.09\n", "", "line 5: .* is '', expected count, mean"),
        ("mean: 7.5", "mean: *a", "line 7: found undefined alias"),
        ("mean: 7.5", "mean: !!python/object/apply:os.getcwd []", "line 7: aliases and tags"),
        ("mean: 7.5", "mean: [7.5]", "line 7: expected a name and its value"),
        ("  count: 164", " x\n  count: 164", "line 7: mapping values are not allowed here"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, old: str, new: str, why: str) -> None:
    assert old in PROXYLESS
    with pytest.raises(InvalidFile, match=r"table\.yaml: ") as raised:
        read(tmp_path, "table.yaml", PROXYLESS.replace(old, new, 1))
    raised.match(why)


def test_all_wrong_rows_are_listed_after_the_first(tmp_path: Path) -> None:
    text = PROXYLESS.replace("mean: 7.5", "mean: 0").replace("mean: 0.3", "mean: x")
    with pytest.raises(InvalidFile, match=r"line 5: .* \(1 more wrong: line 13\)$"):
        read(tmp_path, "table.yaml", text)


def test_a_row_said_twice_is_merged_and_two_that_differ_are_refused(tmp_path: Path) -> None:
    last = "".join(PROXYLESS.splitlines(keepends=True)[-4:])
    twice = read(tmp_path, "t.yaml", PROXYLESS + last)
    assert len(twice.observations) == 4
    assert twice.notes == ("224 px: merged with an equal row before: line 17",)
    with pytest.raises(
        InvalidFile, match=r"line 17: 'Logits.*' is 0.4 ms and was 0.3 ms in line 13"
    ):
        read(tmp_path, "t.yaml", PROXYLESS + last.replace("0.3", "0.4"))


def test_a_ratio_in_an_ofa_table_is_refused(tmp_path: Path) -> None:
    text = yaml_of(V3).replace("expand:64", "expand:3")
    with pytest.raises(InvalidFile, match=r"line 5: .*expand:3 looks like a ratio"):
        read(tmp_path, "t.yaml", text)


@pytest.mark.parametrize("half", ["AvgPool2D", "Conv_2"])
def test_half_of_the_pooled_layer_is_refused(tmp_path: Path, half: str) -> None:
    rows = {name: row for name, row in V3.items() if not name.startswith(half)}
    with pytest.raises(InvalidFile, match=r"needs a row .* there is none"):
        read(tmp_path, "t.yaml", yaml_of(rows))


def test_a_missing_shortcut_is_told(tmp_path: Path) -> None:
    text = yaml_of(V3).replace("idskip:1", "idskip:0")
    assert "idskip:0" in read(tmp_path, "t.yaml", text).notes[0]


def test_a_table_in_another_unit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="row 1: unit is 'us', expected 'ms'"):
        read(tmp_path, "t.json", json.dumps({"unit": "us", "tables": {"224": V3}}))


def test_kernels_that_are_blocks_are_blocks_timed_alone(tmp_path: Path) -> None:
    imported = read(tmp_path, "kernels.csv", KERNELS)
    assert imported.dialect == "nn-meter"
    assert imported.observations == (
        Observation("alone", ("conv k1 s1 e1 96>160 @14 relu",), 37.53, 0.314 / 37.53),
        Observation("alone", ("conv k3 s2 e1 24>48 @28",), 0.5),
    )
    assert "rows passed over, part of a block only: 1 dwconv-bn-relu" in imported.notes
    assert "column 'latency' taken as milliseconds, as nn-Meter writes it" in imported.notes


def test_a_fully_connected_kernel_is_a_classifier_behind_the_pool(tmp_path: Path) -> None:
    imported = read(tmp_path, "fc.csv", "kernel,CIN,COUT,latency_us\nfc,1280,1000,250\n")
    [only] = imported.observations
    assert only == Observation("alone", ("logits k1 s1 e1 1280>1000 @1",), 0.25)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("conv-bn-relu6_", "conv-gelu_", "line 3: kernel is 'conv-gelu', expected one of conv-bn"),
        ("28,24,48", "28,,48", "line 3: kernel 'conv-bn-relu6' needs a value in column CIN"),
        ("28,24,48,3,2,1.5,0.1,0.5", "28,24", "line 3 has 3 values, the header names 9 columns"),
        ("0.1,0.5", "0.1,inf", "line 3: latency is 'inf', expected a number"),
        ("COUT", "C_OUT", "column 'C_OUT' is not known, did you mean 'COUT'?"),
        ("latency\n", "latency_min\n", "has no column of latencies with its unit"),
    ],
)
def test_a_wrong_kernel_is_named(tmp_path: Path, old: str, new: str, why: str) -> None:
    with pytest.raises(InvalidFile) as raised:
        read(tmp_path, "kernels.csv", KERNELS.replace(old, new, 1))
    assert why in str(raised.value)


def test_kernels_of_which_none_is_a_block_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="no kernel is a block of ours: 1 maxpool"):
        read(tmp_path, "kernels.csv", "kernel,HW,CIN,latency_ms\nmaxpool,28,8,1\n")


def test_plain_csv_has_blocks_and_networks_with_the_unit_in_the_name(tmp_path: Path) -> None:
    imported = read(tmp_path, "mine.csv", PLAIN)
    assert imported.dialect == "csv"
    assert imported.observations == (
        Observation("alone", ("mbconv k5 s2 e6 32>64 @56",), 1.5, 0.01),
        Observation("network", ("conv k3 s2 e1 3>32 @224", "mbconv k5 s2 e6 32>64 @112"), 4.0),
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
    assert (block.what, block.keys, block.ms) == (
        "inside", ("mbconv k3 s2 e3.2 20>48 @56 se relu",), 2.0,
    )  # fmt: skip
    assert block.standard_error == pytest.approx(0.01)
    assert classifier == Observation("inside", ("logits k1 s1 e1 8>10 @7",), 0.1)
    assert "no column 'what': 2 blocks taken as 'inside'" in imported.notes[0]


def test_the_null_model_is_a_row_without_a_key(tmp_path: Path) -> None:
    imported = read(tmp_path, "mine.csv", "key,ms,what\n,0.02,alone\n")
    assert imported.observations == (Observation("alone", (), 0.02),)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("key,latency\nconv k3 s2 e1 3>32 @224,1\n", "has no column of latencies with its unit"),
        ("key,ms,us\nconv k3 s2 e1 3>32 @224,1,1000\n", "has 2 columns with a unit, ms, us"),
        ("key,ms,pixels\nlogits k1 s1 e1 8>10 @7,1,1\n", "column 'pixels' is not known"),
        ("key,ms,batch\nlogits k1 s1 e1 8>10 @7,1,0\n", "batch is '0', expected a whole number"),
        ("ms\n1\n", "has no column op, in_channels"),
        ("op,ms\nconv,1\n", "has no column in_channels, out_channels"),
        ("key,ms\n", "has no rows, expected a header and at least one row"),
        ("", "is empty"),
        ("key;ms\nconv k3 s2 e1 3>32 @224;1\n", "expected commas between columns"),
        ("key,ms\nconv k3 3>32,1\n", "line 2: 'conv k3 3>32' is not a block key"),
        ("key,ms\ngconv k3 s2 e1 3>32 @224,1\n", "operation is 'gconv', expected one of conv"),
        ("key,ms\nidentity k1 s1 e1 8>8 @7,1\n", "operation is 'identity'"),
        ("key,ms\nconv k3 s2 e1 3>32 @224 gelu,1\n", "activation is 'gelu'"),
        ("key,ms\nconv k3 s2 e1 3>32 @224 se,1\n", "only mbconv has squeeze-excite"),
        ("key,ms\nconv k3 s0 e1 3>32 @224,1\n", "must be 1 to 99,999"),
        ("key,ms\nconv k3 s1 e1 3>320000 @224,1\n", "must be 1 to 99,999"),
        ("key,ms\nmbconv k3 s1 e60000 8>8 @7,1\n", "expansion is 60000, expected 0.001 to 1000"),
        ("key,ms\n,1\n", "line 2: key is empty"),
        ("key,ms,what\nlogits k1 s1 e1 8>10 @7,1,apart\n", "what is 'apart', expected alone"),
        ("key,ms,standard_error\nlogits k1 s1 e1 8>10 @7,1,2\n", "below 1 (0.02 is 2 %)"),
        ("key,ms\nlogits k1 s1 e1 8>10 @7,-1\n", "line 2: ms is -1, expected a latency above 0"),
        ("key,ms\nlogits k1 s1 e1 8>10 @7,\n", "line 2: ms is '', expected a number"),
        ("key,ms\nlogits k1 s1 e1 8>10 @7,1\nlogits k1 s1 e1 8>10 @7,2\n", "line 3: 'inside logi"),
        ("key,ms\nlogits k1 s1 e1 8>10 @7,1,9\n", "line 2 has 3 values, the header names 2"),
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
    right = read(tmp_path, "a.csv", "key,ms,what\n" + row.format(ms="1.5,inside"))
    assert right.notes == ()
    wrong = read(tmp_path, "a.csv", "key,ms,what\n" + row.format(ms="1500,inside"))
    assert "slow for any processor: is the unit right?" in wrong.notes[0]


def test_one_row_in_another_unit_is_told(tmp_path: Path) -> None:
    rows = "".join(f"conv k3 s1 e1 32>{width} @56,{width / 20},inside\n" for width in (32, 48, 64))
    odd = "conv k3 s1 e1 32>96 @56,4800,inside\n"
    [note] = read(tmp_path, "a.csv", "key,ms,what\n" + rows + odd).notes
    assert "1 row(s) differ from the others" in note and "32>96 @56: 4800 ms" in note


@pytest.mark.parametrize("text", ["- 1\n- 2\n", "[[1]]", "{", "a: 1\n", '{"a": {"b": 1}}', "\x00"])
def test_what_is_no_table_is_refused(tmp_path: Path, text: str) -> None:
    for name in ("t.yaml", "t.json", "t.txt"):
        with pytest.raises(UsageError):
            read(tmp_path, name, text)


def test_aliases_cannot_blow_a_table_up(tmp_path: Path) -> None:
    text = "a: &a {x: 1}\n" + "".join(f"b{row}: {{p: *a, q: *a}}\n" for row in range(9))
    with pytest.raises(InvalidFile, match="aliases and tags are not read"):
        read(tmp_path, "t.yaml", text)
    with pytest.raises(InvalidFile, match=r"nested too deeply|expected a name"):
        read(tmp_path, "t.json", '{"a":' * 100_000)


def test_a_file_that_is_not_there_or_no_text_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="No such file"):
        read_observations(tmp_path / "none.yaml")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidFile, match="is not UTF-8 text"):
        read_observations(tmp_path / "binary.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidFile, match="has no file that ends in"):
        read_observations(tmp_path / "empty")


def test_a_given_dialect_is_not_guessed(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="is no layer of a table of proxylessnas"):
        read(tmp_path, "t.yaml", yaml_of(V3), "proxylessnas")
    with pytest.raises(InvalidFile, match="column 'model_path' is not known"):
        read(tmp_path, "k.csv", KERNELS.replace(",latency", ",ms"), "csv")


@needs_pixel1
def test_pixel1_sums_are_the_golden_ones() -> None:
    rows = {key: one.ms for key, one in by_key(read_observations(PIXEL1)).items()}
    assert len(rows) == 72
    golden = json.loads((SHARED / "proxyless_published.json").read_text())["pixel1_lut_golden"]
    widths, strides = (24, 40, 80, 96, 192, 320), (2, 2, 2, 1, 2, 1)
    for name, kernel, ratio, depth in (
        ("smallest_k3e3_depth1", 3, 3, 1),
        ("k5e6_depth2", 5, 6, 2),
        ("largest_k7e6_depth4", 7, 6, 4),
    ):
        blocks = [Block("conv", 3, 32, 3, 2, 1, 224), Block("mbconv", 32, 16, 3, 1, 1, 112)]
        for width, stride in zip(widths, strides, strict=True):
            for place in range(1 if width == 320 else depth):
                before = blocks[-1]
                blocks.append(
                    Block("mbconv", before.out_channels, width, kernel, 1 if place else stride,
                          ratio, before.out_size)
                )  # fmt: skip
        blocks += [Block("conv", 320, 1280, 1, 1, 1, 7), Block("logits", 1280, 1000, 1, 1, 1, 7)]
        total = sum(rows[block.key] for block in blocks)
        assert total == pytest.approx(golden[name]["lut_sum_ms"], abs=1e-9)


@cache
def note10(resolution: int) -> dict[str, float]:
    imported = read_observations(OFA / "lut_note10_17res.json", resolution=resolution)
    return {key: one.ms for key, one in by_key(imported).items()}


@needs_ofa
def test_every_device_and_resolution_of_once_for_all_is_read_whole() -> None:
    for device in ("note10", "jetson_cpu", "jetson_gpu"):
        file = OFA / f"lut_{device}_17res.json"
        tables: Any = json.loads(file.read_text())["tables"]
        imported = read_observations(file)
        assert (imported.dialect, len(imported.observations)) == ("ofa", 17 * 95)
        total = sum(row["mean"] for table in tables.values() for row in table.values())
        assert sum(one.ms for one in imported.observations) == pytest.approx(total)


@needs_ofa
def test_a_network_on_note10_is_the_sum_of_the_tables_own_rows() -> None:
    """By the names that the authors' formula gives, and by our blocks."""
    tables: Any = json.loads((OFA / "lut_note10_17res.json").read_text())["tables"]
    covered = 0
    for network in read_once_for_all(OFA / "ofa_specialized.json"):
        size, blocks = network.architecture.input_shape[1], network.architecture.blocks
        table = tables.get(str(size), {})
        names = [name for block in blocks for name in ofa_names(block)]
        if all(name in table for name in names):
            total = sum(note10(size)[block.key] for block in blocks)
            assert total == pytest.approx(sum(table[name]["mean"] for name in names), abs=1e-9)
            covered += 1
            if network.note10_table_ms is not None:
                # the collection has it in microseconds
                assert round(total, 3) == network.note10_table_ms
        else:
            assert network.note10_table_ms is None
    assert covered == 6


def ofa_names(block: Block) -> list[str]:
    """Name the layers of a block as Once-for-all does."""
    size, out = block.in_size, block.out_size
    c_in, c_out = block.in_channels, block.out_channels
    if block.op == "mbconv":
        return [
            f"expanded_conv-input:{size}x{size}x{c_in}-output:{out}x{out}x{c_out}"
            f"-expand:{block.mid_channels}-kernel:{block.kernel_size}-stride:{block.stride}"
            f"-idskip:{block.residual:d}-se:{block.squeeze_excite:d}"
            f"-hs:{block.activation == 'hswish':d}"
        ]
    if block.op == "mix":
        return [
            f"AvgPool2D-input:{size}x{size}x{c_in}-output:1x1x{c_in}",
            f"Conv_2-input:1x1x{c_in}-output:1x1x{c_out}",
        ]
    if block.op == "logits":
        return [f"Logits-input:{size}x{size}x{c_in}-output:{c_out}"]
    kind = "Conv" if block.kernel_size == 3 else "Conv_1"
    return [f"{kind}-input:{size}x{size}x{c_in}-output:{out}x{out}x{c_out}"]
