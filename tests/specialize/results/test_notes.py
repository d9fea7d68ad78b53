"""The notes of a report."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from hwnas.spaces.cells.space import cell_space
from hwnas.spaces.int8 import in_precision
from hwnas.spaces.mobile.space import mobile_space
from hwnas.specialize.results.notes import count_note, failed_training_note, width_hint

MOBILE = mobile_space((1, 28, 28), 10)


def test_a_wider_baseline_names_the_option_that_searches_its_width() -> None:
    for space in (MOBILE, in_precision(MOBILE, "int8")):
        assert "`--width-mult 1,2.5`" in width_hint(space, (), "uniform mb k3 e6 x2.5")


def test_nothing_is_advised_where_width_is_not_the_reason() -> None:
    assert not width_hint(MOBILE, (), "uniform mb k3 e6 x0.75")
    assert not width_hint(MOBILE, (1.0, 2.0), "uniform mb k3 e6 x2.5")
    assert not width_hint(MOBILE, (), "published")
    assert not width_hint(cell_space((1, 28, 28), 10), (), "DARTS_V2 x2")


def test_a_report_states_where_not_all_test_images_were_verified() -> None:
    assert "on 2,000 of 50,000 test images" in count_note(2_000, 50_000)
    assert count_note(250, 250) == ""


@pytest.mark.parametrize(("accuracy", "noted"), [(0.11, True), (0.9, False)])
def test_a_delivered_network_that_is_not_better_than_chance_is_named(
    accuracy: float, noted: bool
) -> None:
    valid = SimpleNamespace(labels=np.arange(1000) % 10)
    run: Any = SimpleNamespace(dataset=SimpleNamespace(valid=valid, score_name="agreement"))
    result = SimpleNamespace(validation_accuracy=accuracy)
    delivered: Any = SimpleNamespace(chosen=SimpleNamespace(result=result))
    note = failed_training_note(run, delivered)
    assert ("not better than chance: 11.0% agreement on 1,000" in note) == noted == bool(note)
