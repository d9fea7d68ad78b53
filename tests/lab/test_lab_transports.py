"""Commands, files and faults on a real adbd and a real sshd."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from pathlib import Path

import msgspec
import pytest

from hwnas.devices.profile import Remote
from hwnas.devices.transports.transport import Transport, open_transport
from hwnas.errors import DeviceError, DeviceLost
from tests.lab.bench import Host, Phone, host_profile, phone_profile

HOSTILE = [
    "two words",
    "it's",
    '"',
    "$(touch pwned)",
    "`id`",
    "a\nb",
    "../..",
    "-rf",
    "*",
    "\\",
    ";true",
]


@pytest.fixture(params=["adb", "ssh"])
def transport(request: pytest.FixtureRequest, phone: Phone, host: Host) -> Transport:
    profile = phone_profile(phone) if request.param == "adb" else host_profile(host)
    made = open_transport(profile)
    request.addfinalizer(made.close)
    return made


def test_status_output_and_errors_are_separate(transport: Transport) -> None:
    result = transport.run(["sh", "-c", "echo out; echo err >&2; exit 7"])
    assert (result.status, result.out, result.err.strip()) == (7, b"out\n", b"err")


def test_a_program_that_does_not_read_its_input_keeps_its_output(transport: Transport) -> None:
    """adbd drops what it has not sent yet when it cannot write a program's input."""
    for _ in range(5):
        result = transport.shell("echo out; exit 7", stdin=bytes(2**20))
        assert (result.status, result.out) == (7, b"out\n")


def test_output_arrives_byte_by_byte(transport: Transport) -> None:
    data = bytes(range(256)) * 40
    assert transport.run(["cat"], stdin=data).out == data
    assert transport.run(["printf", "no newline"]).out == b"no newline"
    assert transport.run(["true"]).out == b""


@pytest.mark.parametrize("word", HOSTILE)
def test_a_word_reaches_the_program_unchanged(transport: Transport, word: str) -> None:
    assert transport.run(["printf", "%s|", word, word]).out.decode() == f"{word}|{word}|"


def test_a_file_is_pushed_once_and_pulled_unchanged(transport: Transport, tmp_path: Path) -> None:
    file = tmp_path / "$(touch pwned) it's a name.onnx"
    file.write_bytes(os.urandom(300_000))
    there = transport.push(file)
    before = transport.run(["stat", "-c", "%i %Y", there]).out
    transport._pushed.clear()
    assert transport.push(file) == there
    assert transport.run(["stat", "-c", "%i %Y", there]).out == before
    transport.pull(there, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == file.read_bytes()
    assert "pwned" not in there and " " not in there


def test_a_changed_file_of_the_same_size_goes_to_another_place(
    transport: Transport, tmp_path: Path
) -> None:
    file = tmp_path / "a.onnx"
    file.write_bytes(b"one")
    first = transport.push(file)
    file.write_bytes(b"two")
    assert transport.push(file) != first


def test_a_file_spoilt_on_the_device_is_written_again(transport: Transport, tmp_path: Path) -> None:
    file = tmp_path / "a.onnx"
    file.write_bytes(b"content")
    there = transport.push(file)
    transport.shell(f"printf spoilt > {there}")
    transport._pushed.clear()
    assert transport.run(["cat", transport.push(file)]).out == b"content"


def test_the_probe_describes_the_device(transport: Transport) -> None:
    facts = transport.probe()
    assert facts.abi == facts.machine == "x86_64"
    assert facts.cores == os.cpu_count() and facts.ram_bytes > 1e8 and facts.name
    assert transport.alive()


def test_a_command_that_hangs_is_ended_on_the_device(transport: Transport) -> None:
    with pytest.raises(DeviceError, match=r"`sleep 54321` was ended after its limit of 1 s"):
        transport.run(["sleep", "54321"], limit_s=1)
    assert transport.run(["pgrep", "-f", "[s]leep 54321"]).status != 0


def test_endless_output_is_cut_off(transport: Transport) -> None:
    with pytest.raises(DeviceError, match=r"printed more than 1,000,000 bytes"):
        transport.run(["yes"], limit_s=20, max_bytes=1_000_000)


def test_a_crash_has_its_status(transport: Transport) -> None:
    assert transport.run(["sh", "-c", "kill -SEGV $$"]).status == 139


def test_a_missing_program_and_a_missing_file_are_reported(
    transport: Transport, tmp_path: Path
) -> None:
    assert transport.run(["no-such-program"]).status == 127
    with pytest.raises(DeviceError, match="no-such-file could not be read"):
        transport.pull("no-such-file", tmp_path / "x")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("event", ["kill", "kill_adbd", "unplug"])
def test_a_phone_lost_in_mid_command_is_an_error(phone: Phone, event: str) -> None:
    transport = open_transport(phone_profile(phone))
    happens = phone.net.unplug if event == "unplug" else getattr(phone, event)
    threading.Timer(1.0, happens).start()
    with pytest.raises(DeviceLost, match=r"lab-phone: lost while it ran `sleep 30; echo end`"):
        if event == "unplug":
            threading.Timer(2.0, _disconnect, [phone.serial]).start()
        transport.shell("sleep 30; echo end", limit_s=40)
    assert not transport.alive()
    if event == "unplug":
        phone.net.plug()
        phone.kill()
    phone.net.kill()
    phone.start()
    assert transport.alive()


def test_a_full_device_is_reported_and_has_no_partial_file(phone: Phone, tmp_path: Path) -> None:
    transport = open_transport(phone_profile(phone))
    file = tmp_path / "big.tflite"
    file.write_bytes(os.urandom(4_000_000))
    transport.shell(
        "dd if=/dev/zero of=/data/fill bs=1M count=1000 2>/dev/null; "
        "truncate -s -2000000 /data/fill"
    )
    try:
        with pytest.raises(DeviceError, match=r"could not be written to .*No space left"):
            transport.push(file)
        assert transport.shell(f"ls {transport.folder}/*/*.part").status != 0
    finally:
        transport.run(["rm", "/data/fill"])
    assert transport.push(file)


def test_a_missing_phone_is_named(phone: Phone) -> None:
    profile = phone_profile(phone, serial="no-such-phone")
    with pytest.raises(DeviceError, match=r"no-such-phone is missing; is it attached"):
        open_transport(profile).probe()
    profile = phone_profile(phone, serial=f"{phone.net.address}:5556")
    with pytest.raises(DeviceError, match=r":5556 is missing"):
        open_transport(profile).probe()


def test_one_phone_needs_no_serial_and_two_do(phone: Phone, lab: Path) -> None:
    subprocess.run(["adb", "disconnect"], capture_output=True)
    subprocess.run(["adb", "connect", phone.serial], capture_output=True)
    transport = open_transport(phone_profile(phone, serial=""))
    assert transport.run(["true"]).status == 0
    second = Phone(lab / "second")
    try:
        with pytest.raises(DeviceError, match=r"expected one attached phone, found .*, .*serial"):
            open_transport(phone_profile(phone, serial="")).probe()
    finally:
        second.remove()


def test_a_refused_and_an_unknown_host_are_reported(host: Host, tmp_path: Path) -> None:
    host.stop()
    with pytest.raises(DeviceError, match="Connection refused; no ssh server answers there"):
        open_transport(host_profile(host)).probe()
    host.start()
    empty = tmp_path / "none"
    empty.write_text("")
    with pytest.raises(DeviceError, match="Host key verification failed"):
        open_transport(host_profile(host, known_hosts_file=str(empty))).probe()


def test_a_key_that_is_not_accepted_is_reported(host: Host, tmp_path: Path) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "id")], check=True
    )
    with pytest.raises(DeviceError, match=r"Permission denied.*ssh-copy-id"):
        open_transport(host_profile(host, identity_file=str(tmp_path / "id"))).probe()


def test_a_changed_host_key_is_refused(lab: Path, tmp_path: Path) -> None:
    other = Host(tmp_path / "other")
    try:
        transport = open_transport(host_profile(other))
        assert transport.run(["true"]).status == 0
        transport.close()
        other.stop()
        other.new_key()
        other.start()
        with pytest.raises(DeviceError, match="its key is unknown or has changed"):
            open_transport(host_profile(other)).probe()
    finally:
        other.remove()


def test_a_host_lost_in_mid_command_is_an_error(host: Host) -> None:
    transport = open_transport(host_profile(host))
    transport.run(["true"])
    threading.Timer(1.0, host.stop).start()
    with pytest.raises(DeviceLost, match=r"lab-host: lost while it ran `sleep 30`"):
        transport.run(["sleep", "30"], limit_s=40)
    host.start()
    ends_s = time.monotonic() + 20  # sshd listens after a while
    while not transport.alive() and time.monotonic() < ends_s:
        time.sleep(0.2)
    assert transport.alive()
    transport.close()


def test_an_unauthorised_phone_gives_advice(
    phone: Phone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "adb"  # adbd of Debian asks for no key, so the client is played
    fake.write_text("#!/bin/sh\nprintf 'List of devices attached\\nR58\\tunauthorized\\n'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    profile = msgspec.structs.replace(phone_profile(phone), remote=Remote(serial="R58"))
    with pytest.raises(DeviceError, match=r"R58 is unauthorized; unlock it and accept"):
        open_transport(profile).probe()


def _disconnect(serial: str) -> None:
    """What the user's server does once it notices; TCP itself would wait for minutes."""
    subprocess.run(["adb", "disconnect", serial], capture_output=True)
