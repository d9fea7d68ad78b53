"""The table of options: a command line and a specification say the same."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any, get_args

import click
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hwnas.cli.specialize import specialize
from hwnas.errors import UnknownName, UsageError
from hwnas.export.recipe import Calibration
from hwnas.search import objective
from hwnas.specialize.command_line import command_line, parse_fields
from hwnas.specialize.options import OBJECTIVES, OPTIONS
from hwnas.specialize.setup.effort import EFFORTS
from hwnas.specialize.spec import (
    AmpName,
    EffortName,
    Milliseconds,
    RunSpec,
    Share,
    check_types,
    encode_spec,
)

NAMES = st.from_regex(r"[a-zA-Z-][a-zA-Z0-9 #%'\"./:=-]{0,12}[a-zA-Z0-9]", fullmatch=True)
COUNTS = st.integers(1, 99999)
FACTORS = st.floats(min_value=0, exclude_min=True, allow_infinity=False)
SHARES = st.floats(0, 1, exclude_min=True, exclude_max=True)


def tuples(values: st.SearchStrategy[Any], least: int = 0) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(values, min_size=least, max_size=3, unique=True).map(tuple)


FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "targets": tuples(NAMES, least=1),
    "data": NAMES,
    "pretrained": st.just("") | NAMES,
    "siblings": tuples(NAMES.filter(lambda name: name == name.strip())),
    "budgets": tuples(FACTORS.map(Milliseconds) | FACTORS.map(Share)),
    "space": NAMES,
    "strategy": NAMES,
    "strategy_options": st.dictionaries(
        st.from_regex("[a-z_]{1,8}", fullmatch=True),
        st.booleans()
        | st.integers(-(2**60), 2**60)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        max_size=3,
    ),
    "objective": st.sampled_from(["", *OBJECTIVES]),
    "precisions": st.sampled_from([("fp32",), ("int8",), ("fp32", "int8"), ("int8", "fp32")]),
    "resolutions": tuples(COUNTS),
    "width_mults": tuples(FACTORS),
    "calibration": st.none() | st.sampled_from(get_args(Calibration)),
    "max_drop": SHARES,
    "tune_epochs": st.integers(0, 99999),
    "pixels": st.booleans(),
    "effort": st.sampled_from(get_args(EffortName)),
    "minutes": st.none() | FACTORS,
    "latency_model": st.just("") | NAMES,
    "raw": st.booleans(),
    "wait_idle_s": st.just(0.0) | st.integers(1, 999_999).map(lambda tenths_s: tenths_s / 10),
    "seed": st.integers(-(2**62), 2**62),
    "threads": st.just("auto") | COUNTS,
    "skip_broken": st.booleans(),
    "group_by": st.just("") | NAMES,
    "flip": st.none() | st.booleans(),
    "device": st.sampled_from(["auto", "cpu", "cuda", "cuda:1", "mps"]),
    "amp": st.sampled_from(get_args(AmpName)),
    "share_weights": st.booleans(),
}


def parse(line: str) -> RunSpec:
    """Read a command line as `hwnas specialize` does."""
    _, command, *words = shlex.split(line)
    assert command == "specialize"
    context = specialize.make_context("specialize", words)
    return RunSpec(**parse_fields(context.params))


@given(st.fixed_dictionaries(FIELDS))
def test_the_command_that_repeats_a_run_gives_the_same_specification(
    fields: dict[str, Any],
) -> None:
    spec = RunSpec(**fields)
    assert parse(command_line(spec)) == spec


@given(st.fixed_dictionaries(FIELDS))
def test_config_toml_gives_the_same_specification(fields: dict[str, Any]) -> None:
    spec = RunSpec(**fields)
    assert msgspec.toml.decode(encode_spec(spec), type=RunSpec) == spec


def test_every_field_has_an_option_and_a_strategy_of_this_test() -> None:
    fields = {field.name for field in msgspec.structs.fields(RunSpec)}
    assert {option.field for option in OPTIONS} == fields == set(FIELDS)


def test_the_choices_are_those_that_exist() -> None:
    assert set(OBJECTIVES) == set(objective.OBJECTIVES)
    assert set(get_args(EffortName)) == set(EFFORTS)


def test_a_default_run_is_repeated_by_its_target_and_data_alone() -> None:
    line = "hwnas specialize --target host-cpu --data fashion-mnist-6k"
    assert command_line(RunSpec()) == line
    assert parse("hwnas specialize") == RunSpec()


def test_files_are_named_by_absolute_paths_and_names_stay_beside_folders_called_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("mobile", "host-cpu", "pixel1/table-2018"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("phone.toml", "own.toml", "model.json"):
        (tmp_path / name).write_text("")
    named = parse(
        "hwnas specialize --space mobile --target host-cpu --latency-model pixel1/table-2018"
    )
    assert (named.space, named.targets) == ("mobile", ("host-cpu",))
    assert named.latency_model == "pixel1/table-2018"
    files = parse(
        "hwnas specialize --space own.toml --target phone.toml,pixel1 --latency-model model.json"
    )
    assert files.targets == (str(tmp_path / "phone.toml"), "pixel1")
    assert (files.space, files.latency_model) == (
        str(tmp_path / "own.toml"),
        str(tmp_path / "model.json"),
    )


def test_a_strategy_option_that_looks_like_a_number_can_still_be_text() -> None:
    spec = RunSpec(strategy_options={"name": "12", "shrink": False, "address": "10.0.0.1:99"})
    assert "--option shrink=false" in command_line(spec)
    assert parse(command_line(spec)) == spec


@pytest.mark.parametrize(
    "text",
    [
        "",
        "80",
        "ms",
        "-3ms",
        "0ms",
        "0.0%",
        "fast",
        "80 m",
        "1e3ms",
        "nanms",
        "infms",
        "8,5ms",
        "80ms 90ms",
        "5 %%",
        "80MS",
    ],
)
def test_nonsense_is_a_usage_error_that_shows_the_form(text: str) -> None:
    message = f"^{re.escape(repr(text))}: expected a positive number with its unit"
    with pytest.raises(click.UsageError, match=message) as caught:
        parse(shlex.join(["hwnas", "specialize", "--budget", text]))
    assert caught.value.exit_code == 2 and "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--precision", "fp32,int4"], "'fp32,int4': expected fp32, int8 or auto"),
        (["--resolution", "24,big"], "'24,big': expected pixels, like 24,28,32"),
        (["--width-mult", "1,wide"], "'1,wide': expected positive numbers, like 0.75,1"),
        (["--width-mult", "0"], "'0': expected positive numbers, like 0.75,1"),
        (["--max-drop", "2"], "'2': expected a share between 0% and 100%"),
    ],
)
def test_a_value_that_cannot_be_read_is_refused_before_any_work(
    words: list[str], message: str
) -> None:
    with pytest.raises(click.UsageError, match=message):
        parse(shlex.join(["hwnas", "specialize", *words]))


def test_a_choice_that_there_is_not_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(UnknownName, match="no objective named 'add-linear', did you mean 'add#lin"):
        parse("hwnas specialize --objective add-linear")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"effort": "quik"}, r"Invalid enum value 'quik' - at `\$.effort`"),
        ({"threads": 0}, r"Expected `int` >= 1 - at `\$.threads`"),
        ({"budgets": (Milliseconds(-1.0),)}, r"Expected `float` > 0.0 - at `\$.budgets"),
        ({"targets": ()}, r"at `\$.targets`"),
    ],
)
def test_a_specification_made_in_python_is_checked(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_types(RunSpec(**fields))


def test_auto_is_both_precisions() -> None:
    assert parse("hwnas specialize --precision auto").precisions == ("fp32", "int8")
