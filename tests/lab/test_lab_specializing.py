"""From a phone and a budget to a file that was measured on it, all by adb."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from hwnas.cli.main import cli
from hwnas.devices.op_profile.remote import remote_operator_times
from hwnas.devices.runner import Subject
from hwnas.devices.runners.native_kit import build_kit
from hwnas.devices.runners.remote import RemoteHost, RemoteRunner
from tests.conftest import write_chain
from tests.lab.bench import Host, Phone, host_profile, phone_profile
from tests.lab.test_lab_measuring import _without_none as without_none
from tests.support.reporting.sample_run import make_small, write_images

SPACE = """name = "two"
title = "two blocks"
resolution = { least = 16, most = 16 }
stem = { width = 8 }
head = { width = 16 }
options = [{ kernel_size = [3, 5], expand_ratio = [3] }]
stages = [{ width = 8, depth = 1 }, { width = 16, depth = 1, stride = 2 }]
"""


@pytest.fixture
def target(phone: Phone, tmp_path: Path) -> Path:
    """A profile whose measurements take a second."""
    profile = phone_profile(phone)
    spec = msgspec.structs.replace(profile.measure, runs=3, min_rounds=2, max_rounds=2)
    profile = msgspec.structs.replace(profile, measure=spec)
    path = tmp_path / "lab-phone.toml"
    path.write_bytes(msgspec.toml.encode(without_none(profile)))
    (tmp_path / "two.toml").write_text(SPACE)
    return path


def call(*words: object) -> str:
    result = CliRunner().invoke(cli, [str(word) for word in words])
    # a latency of two rounds may miss the budget or be too noisy: then the run ended all the same
    code = getattr(result.exception, "exit_code", result.exit_code)
    assert code in (0, 5, 6), (result.output, result.exception)
    return result.stdout


def test_a_latency_model_and_a_file_come_from_the_phone(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_small(monkeypatch)
    data, space, out = (
        write_images(tmp_path / "images.npz"),
        tmp_path / "two.toml",
        tmp_path / "run",
    )
    options = ("--target", target, "--data", data, "--space", space)
    model = json.loads(call("latency", "measure", *options, "--networks", 3, "--quiet", "--json"))
    assert (model["kind"], model["device"]) == ("measured", "lab-phone")
    call("specialize", *options, "--budget", "95%", "--out", out, "--threads", 1, "--quiet")
    [result] = json.loads((out / "report.json").read_bytes())["results"]
    assert (result["target"], result["runtime"]) == ("lab-phone", "litert")
    assert result["latency"]["kind"] == "measured" and result["latency"]["median_ms"] > 0
    assert result["artifacts"][0]["format"] == "tflite"
    assert result["artifacts"][0]["max_relative_error"] < 1e-4
    assert result["accuracy"]["artifact"] > 0.5, "a third is chance"


def test_the_native_runner_measures_onnx_files_too(phone: Phone, tmp_path: Path) -> None:
    build_kit("x86_64", runtime="onnxruntime")
    profile = msgspec.structs.replace(phone_profile(phone), runtime="onnxruntime")
    runner = RemoteRunner(profile)
    [measurement] = runner.measure([Subject("net", write_chain(tmp_path / "net.onnx"))])
    assert (measurement.kind, measurement.environment.runtime) == ("measured", "onnxruntime")
    assert measurement.environment.runtime_version.endswith("native")


@pytest.mark.parametrize("kind", ["phone", "host"])
def test_operators_are_timed_on_the_device(
    phone: Phone, host: Host, tmp_path: Path, kind: str
) -> None:
    profile = phone_profile(phone) if kind == "phone" else host_profile(host)
    suffix = ".tflite" if kind == "phone" else ".onnx"
    file = write_chain(tmp_path / f"net{suffix}", layers=3)
    with RemoteHost(profile) as there:
        rows = remote_operator_times(there, Subject("net", file))
    assert sum("Conv" in row.kind for row in rows) == 3
    assert sum(row.share for row in rows) == pytest.approx(1)
