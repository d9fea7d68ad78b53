"""YAML and JSON tables become observations, or an error that names the row."""

from __future__ import annotations

import json
from math import hypot, sqrt
from pathlib import Path

import pytest

from hwnas.architecture.architecture import Block
from hwnas.errors import InvalidFile, UnknownName, UsageError
from hwnas.latency_models.importers import read_observations
from hwnas.latency_models.observation import Observation
from tests.support.data.table_files import KERNELS, V3, by_key, read, yaml_of

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
    assert stem == Observation("in_network", stem.blocks, 4.0, sqrt(0.16 / 100) / 4.0)
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
    assert sum(observation.ms for observation in observations) == sum(
        row["mean"] for row in V3.values()
    )


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
    with pytest.raises(InvalidFile, match="the first layer of table '160' is for 224 px"):
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
        ("56x56x24", "57x57x24", "line 5: .*stride 2 maps 112 px to 56 px, but the output has 57"),
        ("112x112x16", "112x110x16", "line 5: .*is not square"),
        ("idskip:0", "idskip:1", "line 5: .*idskip:1 needs stride 1 and equal channels"),
        ("Conv_1-", "Conv_9-", "line 9: 'Conv_9-.*' is not a layer name of proxylessnas"),
        ("-idskip:0", "", r"line 5: .* expected -expand:RATIO-kernel:K-stride:S-idskip:0\|1"),
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
    assert twice.notes == ("224 px: duplicates of earlier rows, merged: line 17",)
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
    with pytest.raises(InvalidFile, match="has no matching row"):
        read(tmp_path, "t.yaml", yaml_of(rows))


def test_a_missing_shortcut_is_told(tmp_path: Path) -> None:
    text = yaml_of(V3).replace("idskip:1", "idskip:0")
    assert "idskip:0" in read(tmp_path, "t.yaml", text).notes[0]


def test_a_table_in_another_unit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidFile, match="row 1: unit is 'us', expected 'ms'"):
        read(tmp_path, "t.json", json.dumps({"unit": "us", "tables": {"224": V3}}))


@pytest.mark.parametrize("text", ["- 1\n- 2\n", "[[1]]", "{", "a: 1\n", '{"a": {"b": 1}}', "\x00"])
def test_what_is_no_table_is_refused(tmp_path: Path, text: str) -> None:
    for name in ("t.yaml", "t.json", "t.txt"):
        with pytest.raises(UsageError):
            read(tmp_path, name, text)


def test_aliases_cannot_blow_a_table_up(tmp_path: Path) -> None:
    text = "a: &a {x: 1}\n" + "".join(f"b{row}: {{p: *a, q: *a}}\n" for row in range(9))
    with pytest.raises(InvalidFile, match="aliases and tags are not supported"):
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
    with pytest.raises(InvalidFile, match="is not a layer name of proxylessnas"):
        read(tmp_path, "t.yaml", yaml_of(V3), "proxylessnas")
    with pytest.raises(InvalidFile, match="unknown column 'model_path'"):
        read(tmp_path, "k.csv", KERNELS.replace(",latency", ",ms"), "csv")
