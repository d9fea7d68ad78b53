"""Budgets and shares as text."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from hwnas.specialize.spec import Milliseconds, Share
from hwnas.specialize.values import (
    format_budget,
    list_parser,
    parse_budget,
    parse_duration_ms,
    parse_fraction,
    parse_share,
    parse_targets,
    parse_threads,
)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("80ms", 80),
        ("80 ms", 80),
        (" 0.9ms\n", 0.9),
        ("900us", 0.9),
        ("900\N{MICRO SIGN}s", 0.9),
        ("900\N{GREEK SMALL LETTER MU}s", 0.9),
        ("0.1s", 100),
        ("2 s", 2000),
    ],
)
def test_a_budget_has_a_unit_of_time(text: str, ms: float) -> None:
    assert parse_budget(text) == Milliseconds(ms)


def test_percent_are_a_share_of_the_largest_network() -> None:
    assert parse_budget("50%") == parse_budget("50 %") == Share(0.5)
    assert format_budget(Share(0.07)) == "7%"


def test_a_number_beyond_all_floats_is_an_infinite_budget() -> None:
    assert parse_budget("9" * 400 + "s") == Milliseconds(math.inf)


def test_a_share_may_be_none_or_more_than_all_and_a_fraction_not() -> None:
    for text, share in (("0%", 0.0), ("2%", 0.02), ("0.07", 0.07), ("100%", 1.0), ("900%", 9.0)):
        assert parse_share(text) == share
        assert parse_fraction(text) == (share if 0 < share < 1 else None)
    assert parse_share("-1%") is parse_share("1000%") is None


def test_more_than_all_needs_its_sign() -> None:
    assert parse_share("5%") == 0.05 and parse_share("1") == 1.0
    assert parse_share("5") is parse_share("1.01") is None


@pytest.mark.parametrize(("text", "ms"), [(".5ms", 0.5), ("1.ms", 1.0), ("0.25 s", 250.0)])
def test_budgets_and_durations_are_read_alike(text: str, ms: float) -> None:
    assert parse_budget(text) == Milliseconds(ms)
    assert parse_duration_ms(text) == ms


@pytest.mark.parametrize("text", ["5", "5,0ms", "0ms", "1ns", "1e9ms", "-5ms", "5MS", "\u0665ms"])
def test_what_is_no_duration_is_no_budget_either(text: str) -> None:
    assert parse_budget(text) is parse_duration_ms(text) is None


@pytest.mark.parametrize("text", ["50%", "9" * 400 + "s"])
def test_a_share_and_infinity_are_no_durations(text: str) -> None:
    assert parse_budget(text) is not None and parse_duration_ms(text) is None


def test_a_value_that_is_given_twice_counts_once() -> None:
    budgets = list_parser(parse_budget)
    assert budgets("10ms,5ms,10000us") == (Milliseconds(10), Milliseconds(5))
    assert budgets("5,0ms") is budgets("5ms,") is budgets("") is None
    assert parse_targets(["pixel1,note10", "pixel1"]) == ("pixel1", "note10")


@pytest.mark.parametrize("read", [parse_share, parse_fraction, parse_budget])
def test_readers_return_nothing_for_text_that_has_no_value(read: Callable[[str], object]) -> None:
    assert read("x") is read("") is read("nan%") is None


@pytest.mark.parametrize(
    ("text", "value"),
    [("auto", "auto"), ("1", 1), ("16", 16), ("0", None), ("-1", None), ("", None)],
)
def test_threads_are_a_positive_number_or_auto(text: str, value: int | str | None) -> None:
    assert parse_threads(text) == value
