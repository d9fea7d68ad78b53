"""Attached devices, probes and the doctor, with recorded output and a fake adb server."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from threading import Thread

import msgspec
import pytest
from click.testing import CliRunner

from hwnas.cli.devices import devices
from hwnas.devices.discovery import attached, doctor
from hwnas.devices.discovery.attached import attached_phones, parse_gpus, parse_phones
from hwnas.devices.discovery.doctor import examine
from hwnas.devices.discovery.probe import (
    android,
    linux,
    parse_cpuinfo,
    parse_getprop,
    parse_memory,
    probed_profile,
    to_toml,
)
from hwnas.devices.profile import find_profile, read_profile
from hwnas.errors import DeviceError, UsageError
from hwnas.latency_models.storage.age import ModelInfo, newest_model

PHONES = (
    "8A2X0LLL             device usb:1-1 product:flame model:Pixel_4 device:flame transport_id:1\n"
    "emulator-5554\tunauthorized transport_id:2\n"
    "????????????         no permissions (missing udev rules?); see [page] usb:1-2\n"
    "10.99.1.2:5555       offline\n"
)
PROPERTIES = (
    "[ro.product.manufacturer]: [Google]\n[ro.product.model]: [Pixel 4]\n"
    "[ro.product.cpu.abi]: [arm64-v8a]\n[ro.build.version.release]: [12]\n[empty]: []\nnoise\n"
)
PI4 = (
    "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\n"
    "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\n"
    "CPU revision\t: 3\n\nprocessor\t: 1\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\n\n"
    "Hardware\t: BCM2835\nRevision\t: c03111\nModel\t\t: Raspberry Pi 4 Model B Rev 1.1\n"
)
MEMORY = "MemTotal:        3884396 kB\nMemFree:          115456 kB\n"
GPUS = (
    "0, Tesla T4, GPU-1b2c, 535.104.05, 15360, 1590, 7.5, 00000000:3B:00.0\n"
    "1, NVIDIA Graphics Device, GPU-77, 535.104.05, [N/A], [Not Supported], 9.0, 00000000:5E:00.0\n"
    "No devices were found\n"
)


@pytest.fixture
def adb_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve `PHONES` once by the protocol of the adb server, in two pieces."""
    server = socket.create_server(("127.0.0.1", 0))
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(server.getsockname()[1]))

    def serve() -> None:
        connection, _ = server.accept()
        with server, connection:
            assert connection.recv(100) == b"000ehost:devices-l"
            answer = PHONES.encode()
            connection.sendall(b"OKAY%04x" % len(answer) + answer[:20])
            connection.sendall(answer[20:])

    Thread(target=serve, daemon=True).start()


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make no adb server answer and nvidia-smi be missing."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
    monkeypatch.setattr(attached.shutil, "which", lambda _: None)


def test_phones_are_described_with_advice() -> None:
    first, second, third, fourth = parse_phones(PHONES)
    assert (first.serial, first.state, first.model) == ("8A2X0LLL", "device", "Pixel 4")
    assert first.description == "ready"
    assert second.description.startswith("unauthorised: unlock the phone")
    assert third.description.startswith("no permission")
    assert (fourth.serial, fourth.description[:8]) == ("10.99.1.2:5555", "offline:")
    assert parse_phones("List of devices attached\n\n* daemon started\n") == []


@pytest.mark.usefixtures("adb_server")
def test_the_adb_server_is_queried_without_the_adb_program() -> None:
    assert attached_phones() == parse_phones(PHONES)


@pytest.mark.usefixtures("nothing")
def test_without_server_and_driver_nothing_is_attached() -> None:
    assert attached_phones() == []
    assert attached.attached_gpus() == []
    output = CliRunner().invoke(devices, ["list", "--attached"]).stdout
    assert output.startswith("Nothing is attached")
    assert json.loads(CliRunner().invoke(devices, ["list", "--attached", "--json"]).stdout) == []


@pytest.mark.usefixtures("adb_server")
def test_the_list_shows_attached_devices() -> None:
    output = CliRunner().invoke(devices, ["list"]).stdout
    assert all(text in output for text in ("host-cpu", "adb:8A2X0LLL", "unauthorised"))


def test_gpus_are_parsed_line_by_line() -> None:
    t4, other = parse_gpus(GPUS)
    assert (t4.name, t4.memory_bytes, t4.clock_hz) == ("Tesla T4", 15360 * 1024**2, 1_590_000_000)
    assert (other.memory_bytes, other.clock_hz) == (None, None)
    assert (t4.pci_bus_id, other.pci_bus_id) == ("0000:3b:00.0", "0000:5e:00.0")


def test_a_processor_is_named_after_its_board_or_its_cores() -> None:
    pi = parse_cpuinfo(PI4)
    assert pi == ("Raspberry Pi 4 Model B Rev 1.1", 2, ("Cortex-A72",))
    phone = parse_cpuinfo(
        "processor\t: 0\nCPU implementer : 0x41\nCPU part : 0xd05\n"
        "processor\t: 1\nCPU implementer : 0x41\nCPU part : 0xd0b\n"
    )
    assert phone.model == "Cortex-A55, Cortex-A76"
    x86 = parse_cpuinfo("processor\t: 0\nmodel name\t: AMD EPYC\nflags\t: fpu\n")
    assert x86 == ("AMD EPYC", 1, ())
    assert parse_memory(MEMORY) == 3884396 * 1024 and parse_memory("") is None
    assert parse_getprop(PROPERTIES)["ro.product.model"] == "Pixel 4"


def test_the_probe_of_a_phone_gives_a_valid_profile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, adb = tmp_path / "answer", tmp_path / "adb"
    answer.write_text(f"{PROPERTIES}HWNAS_CPU\n{PI4}HWNAS_MEMORY\n{MEMORY}")
    adb.write_text(f'#!/bin/sh\n[ "$1 $2 $3" = "-s 8A2X0LLL shell" ] && cat "{answer}"\n')
    adb.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    file = tmp_path / "mine.toml"
    file.write_text(to_toml(android("mine", parse_phones(PHONES)[0])))
    profile = read_profile(file)
    assert (profile.title, profile.transport) == ("Google Pixel 4, LiteRT", "adb")
    assert (profile.hardware.isa, profile.hardware.cores) == ("arm64-v8a", 2)
    assert profile.remote is not None and profile.remote.serial == "8A2X0LLL"


def test_the_probe_of_a_board_gives_a_valid_profile_for_any_output(tmp_path: Path) -> None:
    text = f'aarch64\nHWNAS_CPU\n{PI4}Model\t: a "quoted" \\ name\nHWNAS_MEMORY\n{MEMORY}'
    file = tmp_path / "pi.toml"
    file.write_text(to_toml(linux("pi", "pi@board", text)))
    assert read_profile(file).hardware.isa == "aarch64"
    file.write_text(to_toml(linux("pi", "pi@board", "")))
    assert read_profile(file).title == "pi@board, LiteRT"


def test_add_writes_a_profile_of_this_machine_and_overwrites_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HWNAS_DEVICES", str(tmp_path))
    arguments = ["add", "mine", "--from", "here"]
    assert CliRunner().invoke(devices, arguments).exit_code == 0
    assert find_profile("mine").hardware.cores
    error = CliRunner().invoke(devices, arguments).exception
    assert isinstance(error, UsageError) and "--force overwrites it" in str(error)
    assert CliRunner().invoke(devices, [*arguments, "--force"]).exit_code == 0


@pytest.mark.parametrize("name", ["../x", "a b", "$(id)", "-x", ""])
def test_a_name_that_is_not_a_file_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="letters, digits"):
        probed_profile(name, "here")


@pytest.mark.parametrize("source", ["", "usb", "ssh:", "gpu:first", "ssh:-oProxyCommand=x"])
def test_an_unknown_source_is_refused(source: str) -> None:
    with pytest.raises(UsageError):
        probed_profile("x", source)


@pytest.mark.usefixtures("adb_server")
@pytest.mark.parametrize(
    ("serial", "why"),
    [("", "several phones"), ("none", "no phone none"), ("emulator-5554", "unauthorised")],
)
def test_a_phone_that_is_not_ready_is_named(serial: str, why: str) -> None:
    with pytest.raises(DeviceError, match=why):
        probed_profile("x", f"adb:{serial}")


def fake_machine(root: Path, governor: str, khz: int, heat: int, load: str) -> Path:
    clock = root / "sys/devices/system/cpu/cpu0/cpufreq"
    zone = root / "sys/class/thermal/thermal_zone0"
    for folder in (clock, zone, root / "proc"):
        folder.mkdir(parents=True)
    (clock / "scaling_governor").write_text(governor)
    (clock / "scaling_cur_freq").write_text(str(khz))
    (clock / "cpuinfo_max_freq").write_text("2000000")
    (zone / "temp").write_text(str(heat))
    (root / "proc/loadavg").write_text(f"{load} 0.1 0.1 1/100 1234")
    return root


@pytest.mark.usefixtures("nothing")
@pytest.mark.parametrize(
    ("machine", "state"),
    [
        (("performance", 1_900_000, 45_000, "0.00"), "ok"),
        (("powersave", 800_000, 91_000, "99"), "warning"),
    ],
)
def test_the_doctor_reports_disturbances(
    tmp_path: Path, machine: tuple[str, int, int, str], state: str
) -> None:
    checks = {check.name: check for check in examine(root=fake_machine(tmp_path, *machine))}
    for name in ("governor", "clock", "temperature", "load"):
        assert checks[name].state == state, checks[name]
        assert bool(checks[name].advice) == (state == "warning")
    assert checks["adb"].state == "note" and "apt-get install adb" in checks["adb"].advice


@pytest.mark.usefixtures("nothing")
def test_the_doctor_exits_with_3_for_a_missing_device() -> None:
    for name in ("pixel4", "note10"):
        result = CliRunner().invoke(devices, ["doctor", name, "--json"])
        assert result.exit_code == 3
        last = json.loads(result.stdout)[-1]
        assert (last["name"], last["state"]) == (name, "failed") and last["advice"]
    assert CliRunner().invoke(devices, ["doctor", "host-cpu"]).exit_code == 0


@pytest.mark.usefixtures("nothing")
def test_two_onnx_runtimes_in_one_folder_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "version", lambda name: "1.31")
    [clash] = [check for check in examine() if check.name == "onnxruntime-gpu"]
    assert clash.state == "failed" and "pip uninstall" in clash.advice


def test_the_age_of_a_latency_model_is_read_without_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path))
    shipped = newest_model("pixel1")
    assert shipped is not None and shipped.kind in ("table", "adapted")
    assert newest_model("pixel4") is None
    folder = tmp_path / "latency_models" / "pixel1" / "mobile"
    folder.mkdir(parents=True)
    known = ModelInfo("measured", "2020-01-01T00:00:00+00:00")
    (folder / "model.json").write_bytes(msgspec.json.encode(known))
    (folder.parent / "broken.json").write_text("{")
    newest = newest_model("pixel1")
    assert newest == known and newest is not None
    assert (newest.age_days or 0) > 2000 and newest.summary.endswith("days old")
