"""A device that takes small files only: networks that are too large are left out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from hwnas.architecture.artifact import Artifact
from hwnas.devices.limits import weight_bytes
from hwnas.devices.profile import Limits, find_profile
from hwnas.errors import ExportError, UsageError
from hwnas.spaces.find import find_space
from hwnas.specialize.context import Candidate
from hwnas.specialize.setup.checks import check_limits, check_precision
from hwnas.specialize.steps.deliver import TrainedCandidate, files_within_limits
from hwnas.specialize.steps.screening import networks_within_limits

SPACE = find_space("mobile", (1, 28, 28), 10)
DEFAULT = SPACE.architecture(SPACE.default)


def run(**limits: Any) -> Any:
    """Return what these functions need of a run on a device with such limits."""
    profile = msgspec.structs.replace(find_profile("simulated-phone"), limits=Limits(**limits))
    lines: list[str] = []
    return SimpleNamespace(
        target=SimpleNamespace(profile=profile),
        console=SimpleNamespace(say=lines.append),
        lines=lines,
    )


def candidate(origin: Any, architecture: Any = DEFAULT) -> Candidate:
    return Candidate(name="", origin=origin, architecture=architecture, predicted_ms=None)


def trained(origin: str, size_bytes: int, float_layers: tuple[str, ...] = ()) -> TrainedCandidate:
    artifact = Artifact(
        f"{size_bytes}.tflite",
        "tflite",
        "int8",
        "litert",
        "2",
        "ab",
        size_bytes,
        None,
        float_layers=float_layers,
    )
    result: Any = None
    return TrainedCandidate(candidate(origin), result, artifact, None)


def test_networks_that_are_too_large_are_left_out_before_they_are_trained() -> None:
    smallest = min(
        (SPACE.architecture(genotype) for genotype in SPACE.neighbours(SPACE.default)),
        key=lambda network: weight_bytes(network.blocks),
    )
    limited = run(model_bytes=weight_bytes(smallest.blocks))
    assert weight_bytes(DEFAULT.blocks) > weight_bytes(smallest.blocks)
    candidates = [candidate("search"), candidate("search", smallest), candidate("uniform")]
    assert networks_within_limits(limited, candidates) == [candidates[1]]
    assert "2 of 3 networks are larger than" in limited.lines[0]
    with pytest.raises(ExportError, match="the search gave no network with a file of at most"):
        networks_within_limits(limited, [candidate("search"), candidate("uniform", smallest)])
    assert networks_within_limits(run(), candidates) == candidates


def test_a_file_that_does_not_fit_is_not_delivered() -> None:
    limited = run(model_bytes=1000, dtypes=("int8",))
    fitting, large = trained("search", 1000), trained("search", 1001)
    mixed = trained("search", 900, ("head",))
    assert files_within_limits(limited, (large, fitting, mixed)) == (fitting,)
    assert [line.split(":")[0] for line in limited.lines] == ["1001.tflite", "900.tflite"]
    with pytest.raises(ExportError, match=r"1001\.tflite: 1,001 bytes, .*no other file fits"):
        files_within_limits(limited, (trained("uniform", 10), large))
    assert ExportError.exit_code == 4


def test_before_a_run_the_space_and_the_precision_are_checked() -> None:
    with pytest.raises(UsageError, match="the smallest network of the space 'mobile'"):
        check_limits(SPACE, run(model_bytes=10).target.profile)
    with pytest.raises(UsageError, match="--precision fp32: simulated-phone runs int8"):
        check_precision("fp32", run(dtypes=("int8",)).target.profile)
