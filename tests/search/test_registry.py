"""Strategies by name: a plug-in that does not state what it is, is refused in one line."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hwnas.errors import HwnasError, UnknownName, UsageError
from hwnas.plugins import names
from hwnas.search.blackbox.random import RandomSearch
from hwnas.search.proxyless.gradient import ProxylessOptions
from hwnas.search.registry import judges, load_strategy, parse_options
from hwnas.search.strategy import SearchContext, StrategyTraits
from hwnas.testing import ContractBroken, check_interface, check_strategy
from hwnas.testing.strategy import small_costs, small_space


def strategy_without(name: str, **attributes: Any) -> type:
    """Return a class with the attributes of random search except ``name``, and with
    ``attributes``."""
    own = {key: getattr(RandomSearch, key) for key in dir(RandomSearch) if key[:2] != "__"}
    own.pop(name, None)
    return type("Annealing", (), own | attributes)


@pytest.mark.parametrize("name", names("strategy"))
def test_every_strategy_has_the_whole_interface(name: str) -> None:
    kind = load_strategy(name)
    assert isinstance(kind.traits, StrategyTraits)
    assert isinstance(parse_options(name, {}), kind.Options)


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        (strategy_without("traits"), "no attribute 'traits'; expected traits = StrategyTraits"),
        (strategy_without("traits", trait=1), "did you mean 'traits' where it has 'trait'?"),
        (strategy_without("traits", traits={}), "'traits' is dict; expected traits = Strat"),
        (strategy_without("Options", Option=1), "did you mean 'Options' where it has 'Option'?"),
        (strategy_without("inherits"), "no attribute 'inherits'; expected a method inherits()"),
        (
            strategy_without("begin_epoch", begin_epochs=print),
            "did you mean 'begin_epoch' where it has 'begin_epochs'?",
        ),
        (
            strategy_without("traits", traits=StrategyTraits(own_loop=True)),
            r"expected a method search\(\)",
        ),
    ],
)
def test_a_missing_or_misspelt_attribute_is_refused_when_a_strategy_is_loaded(
    kind: type, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hwnas.search.registry.load", lambda *_: kind)
    with pytest.raises(HwnasError, match=f"^strategy 'annealing' .*{problem}") as error:
        load_strategy("annealing")
    assert "\n" not in str(error.value)
    for check in (lambda: check_interface("strategy", kind), lambda: check_strategy(kind)):
        with pytest.raises(ContractBroken, match=problem):
            check()


def test_a_misspelt_trait_is_refused() -> None:
    with pytest.raises(TypeError, match="paralel"):
        StrategyTraits(paralel=True)  # type: ignore[call-arg]


def test_options_are_parsed_from_text() -> None:
    assert parse_options("proxyless", {"estimator": "two"}) == ProxylessOptions("two")
    assert not judges("proxyless", {"choice": "most-probable"})
    assert judges("proxyless", {}) and judges("evolution", {}) and not judges("random", {})
    options = parse_options("eas", {"shrink": "false", "ray": "head:6379"})
    assert msgspec.structs.asdict(options) == {"ray": "head:6379", "shrink": False}


@pytest.mark.parametrize(
    ("strategy", "values", "kind", "problem"),
    [
        ("proxyless", {"estimator": "too"}, UnknownName, "'too', did you mean 'two'"),
        ("proxyless", {"estimater": "two"}, UnknownName, "did you mean 'estimator'"),
        ("random", {"shrink": "true"}, UnknownName, "option of strategy 'random' named 'shrink'"),
        ("eas", {"shrink": "perhaps"}, UsageError, "option shrink=perhaps: Expected `bool`"),
    ],
)
def test_an_option_that_is_not_there_is_refused_with_the_nearest(
    strategy: str, values: dict[str, str], kind: type[Exception], problem: str
) -> None:
    with pytest.raises(kind, match=problem):
        parse_options(strategy, values)


def test_options_of_another_strategy_are_refused() -> None:
    space = small_space()
    context = SearchContext(
        space=space,
        costs=small_costs(space),
        budget_ms=5.0,
        generator=None,  # type: ignore[arg-type]
        options=parse_options("eas", {}),
    )
    with pytest.raises(UsageError, match="options are EasOptions; expected ProxylessOptions"):
        context.options_as(ProxylessOptions)
