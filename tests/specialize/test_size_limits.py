"""A run on a device that takes small files only: what does not fit is left out, or the run ends."""

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
from hwnas.specialize.setup.plan import _check_limits, _check_precision
from hwnas.specialize.steps.deliver import _fitting
from hwnas.specialize.steps.screening import _small_enough

SPACE = find_space("mobile", (1, 28, 28), 10)
USUAL = SPACE.architecture(SPACE.usual)


def job(**limits: Any) -> Any:
    profile = msgspec.structs.replace(find_profile("simulated-phone"), limits=Limits(**limits))
    said: list[str] = []
    return SimpleNamespace(
        target=SimpleNamespace(profile=profile), console=SimpleNamespace(say=said.append), said=said
    )


def found(origin: str, architecture: Any = USUAL) -> Any:
    return SimpleNamespace(origin=origin, architecture=architecture)


def trained(origin: str, size_bytes: int, float_layers: tuple[str, ...] = ()) -> Any:
    made = Artifact(
        f"{size_bytes}.tflite", "tflite", "int8", "litert", "2", "ab", size_bytes, None,
        float_layers=float_layers,
    )  # fmt: skip
    return SimpleNamespace(candidate=found(origin), artifact=made)


def test_networks_that_are_too_large_are_left_out_before_they_are_trained() -> None:
    least = min(
        (SPACE.architecture(one) for one in SPACE.neighbours(SPACE.usual)),
        key=lambda one: weight_bytes(one.blocks),
    )
    limited = job(model_bytes=weight_bytes(least.blocks))
    assert weight_bytes(USUAL.blocks) > weight_bytes(least.blocks)
    both = [found("search"), found("search", least), found("uniform")]
    assert _small_enough(limited, both) == [both[1]]
    assert "2 of 3 networks are larger than" in limited.said[0]
    with pytest.raises(ExportError, match="no network that was found has a file of at most"):
        _small_enough(limited, [found("search"), found("uniform", least)])
    assert _small_enough(job(), both) == both


def test_a_file_that_does_not_fit_is_not_delivered() -> None:
    limited = job(model_bytes=1000, dtypes=("int8",))
    fits, large = trained("search", 1000), trained("search", 1001)
    mixed = trained("search", 900, ("head",))
    assert _fitting(limited, (large, fits, mixed)) == (fits,)
    assert [line.split(":")[0] for line in limited.said] == ["1001.tflite", "900.tflite"]
    with pytest.raises(ExportError, match=r"1001\.tflite: 1,001 bytes, .*no other file fits"):
        _fitting(limited, (trained("uniform", 10), large))
    assert ExportError.exit_code == 4


def test_before_a_run_the_space_and_the_precision_are_checked() -> None:
    with pytest.raises(UsageError, match="the smallest network of the space 'mobile'"):
        _check_limits(SPACE, job(model_bytes=10).target.profile)
    with pytest.raises(UsageError, match="--precision fp32: simulated-phone runs int8"):
        _check_precision("fp32", job(dtypes=("int8",)).target.profile)
