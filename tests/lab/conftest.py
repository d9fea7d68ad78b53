"""The lab's devices: started once, shared by its tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from bench import Host, Phone, why_not

from hwnas.devices.kit import build_kit
from hwnas.devices.profile import DeviceProfile, Hardware, MeasureSpec, Remote

QUICK = MeasureSpec(
    warmup_runs=1, warmup_s=0.0, processes=2, runs=3, min_rounds=4, max_rounds=4, ci=0.0
)

ProfileOf = Callable[..., DeviceProfile]


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
    build_kit("arm64-v8a", _arm_wheel(tmp_path_factory.mktemp("wheel")))
    made = Phone(lab / "arm", "arm64-v8a")
    yield made
    made.remove()


def phone_profile(phone: Phone, **changes: object) -> DeviceProfile:
    remote = {"serial": phone.serial, "patience_s": 15.0, **changes}
    return DeviceProfile(
        name="lab-phone",
        title="lab phone",
        kind="android",
        runtime="litert",
        transport="adb",
        hardware=Hardware(source="lab"),
        measure=QUICK,
        remote=Remote(**remote),  # type: ignore[arg-type]
        emulated=phone.abi != "x86_64",
    )


def host_profile(host: Host, **changes: object) -> DeviceProfile:
    remote = {
        "host": f"root@{host.net.address}",
        "identity_file": str(host.identity),
        "known_hosts_file": str(host.known_hosts),
        "python": sys.executable,
        "folder": str(host.root / "there"),
        "patience_s": 15.0,
        **changes,
    }
    return DeviceProfile(
        name="lab-host",
        title="lab host",
        kind="cpu",
        runtime="onnxruntime",
        transport="ssh",
        hardware=Hardware(source="lab"),
        measure=QUICK,
        remote=Remote(**remote),  # type: ignore[arg-type]
    )


def _arm_wheel(folder: Path) -> Path:
    from importlib.metadata import version

    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
        "--platform", "manylinux_2_27_aarch64", "--python-version", "3.11", "-d", str(folder),
        f"ai-edge-litert=={version('ai-edge-litert')}",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    wheels = list(folder.glob("*.whl"))
    if not wheels:
        pytest.skip(f"LiteRT's arm64 wheel could not be fetched: {done.stderr[-200:]}")
    return wheels[0]
