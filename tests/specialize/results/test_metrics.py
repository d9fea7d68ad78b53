"""A tracker gets the numbers of a result under names that say what they are."""

from __future__ import annotations

import msgspec
import pytest

from hwnas.measurement.measurement import Kind
from hwnas.specialize.results.metrics import metrics
from tests.support.reporting.sample_report import measured_result, table_result


@pytest.mark.parametrize("kind", ["measured", "simulated"])
def test_a_latency_is_named_by_its_kind(kind: Kind) -> None:
    result = measured_result(kind)
    assert result.latency is not None and result.accuracy is not None
    numbers = metrics(result)
    assert numbers[f"result/{kind}_ms"] == result.latency.median_ms
    assert numbers["result/accuracy"] == result.accuracy.artifact
    assert numbers["result/budget_ms"] == result.budget_ms and numbers["result/kept"] == 1.0
    assert numbers["result/size_bytes"] == result.artifacts[0].size_bytes


def test_what_was_not_measured_has_no_verdict() -> None:
    assert "result/kept" not in metrics(table_result())
    missed = msgspec.structs.replace(measured_result(), verdict="missed")
    assert metrics(missed)["result/kept"] == 0.0
