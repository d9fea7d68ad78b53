"""What a run is refused for before any work."""

from __future__ import annotations

import pytest

from hwnas.errors import UsageError
from hwnas.search.registry import load_strategy
from hwnas.specialize.setup import checks
from hwnas.specialize.setup.checks import check_strategy
from hwnas.specialize.spec import RunSpec

ALONE = ("darts", "darts-2", "pc-darts", "ista", "ista-one-stage", "eas", "eas-random")


def test_strategies_that_search_in_one_process_are_refused_under_torchrun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checks, "ranks", lambda: 2)
    for name in ALONE:
        with pytest.raises(
            UsageError,
            match=f"'{name}' searches in one process: start it without torchrun; the trainings "
            "after its search use all GPUs",
        ):
            check_strategy(RunSpec(strategy=name))
    for name in ("proxyless", "reinforce", "evolution", "nsga2"):
        assert load_strategy(name).traits.parallel
        check_strategy(RunSpec(strategy=name))
