"""Handing a model over to a phone and to a host."""

from __future__ import annotations

import json
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from random import Random

import msgspec
import numpy as np
import pytest

from hwnas.data.datasets import load_dataset, normalise
from hwnas.deploy.bundle import read_bundle, write_bundle
from hwnas.deploy.device import deploy, verify_outputs
from hwnas.deploy.model_file import bundle_file
from hwnas.deploy.samples import data_samples, image_input
from hwnas.devices.profile import DeviceProfile
from hwnas.errors import ExportError, UsageError
from hwnas.export.compile import compile_model
from hwnas.export.verification.images import Verification
from hwnas.nn.build import build
from hwnas.spaces.mobile.space import mobile_space
from tests.deploy.networks import tracker_file
from tests.lab.bench import Host, Phone, host_profile, phone_profile


def bundle_for(profile: DeviceProfile, folder: Path) -> Path:
    data = load_dataset("fashion-mnist-6k")
    space = mobile_space(data.input_shape, data.num_classes)
    network = build(space.architecture(space.random(Random(0))))
    format = "tflite" if profile.runtime == "litert" else "onnx"
    verification = Verification(normalise(data.test.images[:8], data), data.test.labels[:8])
    path = folder / f"m.{format}"
    artifact = compile_model(network, data.input_shape, path, verification=verification)
    bundle = folder / "bundle"
    write_bundle(
        bundle,
        Path(artifact.path),
        data_samples(data),
        profile.name,
        image=image_input(data),
        labels=data.classes,
        budget_ms=5.0,
        median_ms=4.0,
    )
    return bundle


@pytest.mark.parametrize("kind", ["phone", "host"])
def test_a_bundle_computes_there_what_it_computes_here(
    phone: Phone, host: Host, tmp_path: Path, kind: str
) -> None:
    profile = phone_profile(phone) if kind == "phone" else host_profile(host)
    bundle = bundle_for(profile, tmp_path)
    done = deploy(bundle, profile)
    assert done.agreement.samples == 32
    assert done.agreement.max_relative_error < 1e-5
    assert done.agreement.accuracy == done.agreement.promised_accuracy
    again = subprocess.run(done.command, shell=True, capture_output=True, timeout=60)
    assert again.returncode == 0
    assert verify_outputs(bundle).max_relative_error == 0


@pytest.mark.parametrize("kind", ["phone", "host"])
def test_a_network_of_several_inputs_and_outputs_computes_the_same_there(
    phone: Phone, host: Host, tmp_path: Path, kind: str
) -> None:
    profile = phone_profile(phone) if kind == "phone" else host_profile(host)
    file = tracker_file(tmp_path / f"t.{'tflite' if profile.runtime == 'litert' else 'onnx'}")
    bundle_file(file, tmp_path / "bundle")
    assert deploy(tmp_path / "bundle", profile).agreement.max_relative_error < 1e-5


@pytest.mark.slow
def test_an_arm64_phone_computes_what_this_machine_computes(
    arm_phone: Phone, tmp_path: Path
) -> None:
    profile = phone_profile(arm_phone)
    bundle = bundle_for(profile, tmp_path)
    assert deploy(bundle, profile).agreement.max_relative_error < 1e-4


def test_a_changed_file_and_another_output_are_refused(host: Host, tmp_path: Path) -> None:
    bundle = bundle_for(host_profile(host), tmp_path)
    labels = bundle / "labels.txt"
    original = labels.read_text()
    labels.write_text(original + "cat\n")
    with pytest.raises(ExportError, match=r"labels\.txt: has changed since it was bundled"):
        read_bundle(bundle)
    labels.write_text(original)
    with np.load(bundle / "samples.npz") as file:
        samples = dict(file)
    np.savez(bundle / "samples.npz", **{**samples, "output_0": samples["output_0"] + 1})
    manifest = json.loads((bundle / "manifest.json").read_text())
    digest = sha256((bundle / "samples.npz").read_bytes()).hexdigest()
    manifest["files"]["samples.npz"] = digest
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ExportError, match="outputs differ from"):
        deploy(bundle, host_profile(host))
    manifest["files"]["../outside"] = digest
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UsageError, match="not the name of a file in the bundle"):
        read_bundle(bundle)


def test_the_command_verifies_a_bundle(host: Host, tmp_path: Path) -> None:
    bundle = bundle_for(host_profile(host), tmp_path)
    words = [sys.executable, "-m", "hwnas", "verify", str(bundle), "--no-latency", "--json"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert msgspec.json.decode(done.stdout)["agreement"]["max_relative_error"] == 0
    (bundle / "model.onnx").write_bytes(b"")
    assert subprocess.run(words, capture_output=True).returncode == 4
