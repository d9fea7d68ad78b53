"""The lab's devices: started once, shared by its tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hwnas.devices.runners.native_kit import KITS, build_kit
from tests.lab.bench import Host, Phone, why_not


@pytest.fixture(scope="session", autouse=True)
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home, keys and an adb server of the lab's own."""
    if reason := why_not():
        pytest.skip(f"no devices in namespaces: {reason}")
    root = tmp_path_factory.mktemp("lab")
    kits = root / "hwnas"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(root))
        patch.setenv("HWNAS_HOME", str(kits))
        patch.setenv("ANDROID_ADB_SERVER_PORT", str(15000 + os.getpid() % 4000))
        build_kit("x86_64")
        yield root
        subprocess.run(["adb", "kill-server"], capture_output=True)


@pytest.fixture(scope="session")
def phone(lab: Path) -> Iterator[Phone]:
    made = Phone(lab / "phone")
    yield made
    made.remove()


@pytest.fixture(scope="session")
def host(lab: Path) -> Iterator[Host]:
    made = Host(lab / "host")
    yield made
    made.remove()


@pytest.fixture(scope="session")
def arm_phone(lab: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phone]:
    if reason := why_not(arm=True):
        pytest.skip(f"no arm64 phone: {reason}")
    for runtime in KITS:
        wheel = _arm_wheel(tmp_path_factory.mktemp("wheel"), KITS[runtime].package)
        build_kit("arm64-v8a", wheel, runtime=runtime)
    made = Phone(lab / "arm", "arm64-v8a")
    yield made
    made.remove()


def _arm_wheel(folder: Path, package: str) -> Path:
    from importlib.metadata import version

    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--platform",
        "manylinux_2_27_aarch64",
        "--platform",
        "manylinux_2_28_aarch64",
        "--python-version",
        "3.11",
        "-d",
        str(folder),
        f"{package}=={version(package)}",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if not wheels:
        pytest.skip(f"the arm64 wheel of {package} could not be fetched: {done.stderr[-200:]}")
    return wheels[0]
