"""What is asked of a search is checked before any work."""

from __future__ import annotations

import pytest

from hwnas.errors import UsageError
from hwnas.specialize.run_folder import Config, command_line
from hwnas.specialize.setup.plan import _check_search


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"objective": "add-linear"}, "no objective named 'add-linear', did you mean 'add#linear'"),
        ({"estimator": "too"}, "no estimator named 'too', did you mean 'two'"),
        ({"estimator": "two", "strategy": "random"}, "strategy 'random' has no such estimator"),
    ],
)
def test_an_objective_or_estimator_that_cannot_be_meant_is_one_clear_error(
    asked: dict[str, str], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        _check_search(Config(target="host-cpu", data="fashion-mnist-6k", **asked))  # type: ignore[arg-type]


def test_the_command_that_repeats_a_run_has_its_objective_and_estimator() -> None:
    config = Config(target="a", data="b", objective="mul#log", estimator="two")
    _check_search(config)
    assert command_line(config).endswith("--objective 'mul#log' --estimator two")
