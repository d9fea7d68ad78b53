"""A profile's `[limits]`: files that do not fit are rejected before they cost time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

import msgspec
import pytest
from click.testing import CliRunner

from hwnas.architecture.artifact import Artifact
from hwnas.cli.benchmark import benchmark
from hwnas.devices.limits import (
    check_precision,
    check_size,
    check_space_size,
    smallest_bytes,
    unfit,
    weight_bytes,
    weights_fit,
)
from hwnas.devices.profile import DeviceProfile, Limits, find_profile, with_benchmark_binary
from hwnas.errors import UsageError
from hwnas.spaces.find import find_space
from hwnas.spaces.int8 import Int8Space

NetWriter = Callable[..., Path]
SPACE = find_space("mobile", (1, 28, 28), 10)


def limited(**limits: object) -> DeviceProfile:
    profile = find_profile("simulated-phone")
    return msgspec.structs.replace(profile, limits=Limits(**limits))  # type: ignore[arg-type]


def smallest() -> int:
    """Return the bytes of weights of the smallest network, found by trying the candidates of each
    decision alone."""
    choices = list(SPACE.default.choices)
    for place, decision in enumerate(SPACE.decisions):
        tried = [
            msgspec.structs.replace(
                SPACE.default, choices=(*choices[:place], candidate, *choices[place + 1 :])
            )
            for candidate in range(len(decision.candidates))
        ]
        sizes = [weight_bytes(SPACE.architecture(genotype).blocks) for genotype in tried]
        choices[place] = sizes.index(min(sizes))
    genotype = msgspec.structs.replace(SPACE.default, choices=tuple(choices))
    return weight_bytes(SPACE.architecture(genotype).blocks)


def test_a_limit_just_below_the_smallest_network_is_refused() -> None:
    check_space_size(SPACE, limited())
    check_space_size(SPACE, limited(model_bytes=smallest()))
    with pytest.raises(
        UsageError,
        match=r"weights alone of the smallest network of the space 'mobile' are too large",
    ):
        check_space_size(SPACE, limited(model_bytes=smallest() - 1))


def test_in_int8_four_times_the_weights_fit() -> None:
    check_space_size(Int8Space(SPACE), limited(model_bytes=smallest() // 4 + 1))
    with pytest.raises(UsageError):
        check_space_size(SPACE, limited(model_bytes=smallest() // 4 + 1))


@pytest.mark.parametrize("name", ["mobile", "cells", "ofa"])
def test_no_network_is_smaller_than_the_reported_minimum(name: str) -> None:
    space = find_space(name, (3, 128, 128), 10)
    least = smallest_bytes(space)
    rng = Random(1)
    drawn = [space.architecture(space.random(rng)).blocks for _ in range(30)]
    assert least is None or 0 < least <= min(map(weight_bytes, drawn))
    assert least is not None or name == "cells"


def test_the_weights_of_a_network_are_checked_before_training() -> None:
    default = SPACE.architecture(SPACE.default)
    size = weight_bytes(default.blocks)
    assert size >= 4 * default.params * 0.99
    assert weights_fit(default, limited(model_bytes=size))
    assert not weights_fit(default, limited(model_bytes=size - 1))


def test_a_precision_that_the_device_does_not_support_is_refused() -> None:
    check_precision("int8", limited(dtypes=("int8",)))
    with pytest.raises(UsageError, match="--precision fp32: simulated-phone runs int8"):
        check_precision("fp32", limited(dtypes=("int8",)))
    with pytest.raises(UsageError, match="--precision int8: simulated-phone runs float32"):
        check_precision("int8", limited())


def test_a_file_is_checked_for_its_size_and_its_float_layers() -> None:
    made = Artifact("m.tflite", "tflite", "int8", "litert", "2", "ab", 1000, None)
    assert unfit(made, limited(model_bytes=1000, dtypes=("int8",))) is None
    assert "1,000 bytes, simulated-phone takes 999" in str(unfit(made, limited(model_bytes=999)))
    mixed = msgspec.structs.replace(made, float_layers=("head",))
    assert "1 of its layers stayed in float32" in str(unfit(mixed, limited(dtypes=("int8",))))
    assert unfit(mixed, limited(dtypes=("float32", "int8"))) is None


def test_a_file_that_is_too_large_is_not_measured(tmp_path: Path, write_net: NetWriter) -> None:
    file = write_net(tmp_path / "a.tflite")
    with pytest.raises(UsageError, match=r"a\.tflite: [\d,]+ bytes, simulated-phone takes 100 at"):
        check_size(str(file), file.stat().st_size, limited(model_bytes=100))
    profile = tmp_path / "small-phone.toml"
    text = Path("devices/simulated-phone.toml").read_text()
    profile.write_text(
        text.replace('"simulated-phone"', '"small-phone"').replace(
            "[limits]", "[limits]\nmodel_bytes = 100"
        )
    )
    result = CliRunner().invoke(benchmark, [str(file), "--target", str(profile)])
    assert isinstance(result.exception, UsageError) and result.exception.exit_code == 2
    assert "small-phone takes 100 at most" in str(result.exception)


def test_benchmark_binary_is_for_devices_that_can_run_it(tmp_path: Path) -> None:
    binary = tmp_path / "benchmark_model"
    with pytest.raises(UsageError, match=r"host-cpu has no \[remote\]"):
        with_benchmark_binary(find_profile("host-cpu"), str(binary))
    phone = tmp_path / "phone.toml"
    phone.write_text(
        'name = "phone"\ntitle = "a phone"\nkind = "android"\nruntime = "litert"\n'
        'transport = "adb"\n[hardware]\nsource = "none"\n[remote]\n'
    )
    profile = find_profile(str(phone))
    with pytest.raises(UsageError, match=r"benchmark_model: no such file"):
        with_benchmark_binary(profile, str(binary))
    binary.write_bytes(b"")
    remote = with_benchmark_binary(profile, str(binary)).remote
    assert remote is not None
    assert (remote.program, remote.benchmark_binary) == ("benchmark_model", {"any": str(binary)})
    onnx = msgspec.structs.replace(profile, runtime="onnxruntime")
    with pytest.raises(UsageError, match="needs runtime = 'litert'"):
        with_benchmark_binary(onnx, str(binary))
