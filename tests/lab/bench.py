"""Real devices without hardware: AOSP's ``adbd`` and OpenSSH's ``sshd`` in network namespaces.

Each device has a namespace of its own (adbd's port is fixed and it asks for no key), reached by a
veth pair on 10.99.N.0/30; nothing listens on this machine's own interfaces. A phone has a mount
namespace too, with an empty /data on a small tmpfs and stubs of getprop and uname. An arm64 phone
runs its files by binfmt_misc and qemu-user, under an ARM /proc/cpuinfo. Needs root.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from hwnas.devices.profile import DeviceProfile, Hardware, MeasureSpec, Remote

QUICK = MeasureSpec(
    warmup_runs=1, warmup_s=0.0, processes=2, runs=3, min_rounds=4, max_rounds=4, ci=0.0
)

QEMU_MAGIC = (
    r":qemu-aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
    r":\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:{}:"
)
ARM_CPU = (
    "processor\t: {}\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32 cpuid\n"
    "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd08\n"
    "CPU revision\t: 3\n\n"
)
START = """set -e
mount --make-rprivate /
mount -t tmpfs -o size=160m tmpfs /data
mkdir -p /data/local/tmp
if [ -f "$1/cpuinfo" ]; then
    mount --bind "$1/cpuinfo" /proc/cpuinfo
    export QEMU_LD_PREFIX=/usr/aarch64-linux-gnu QEMU_CPU=cortex-a72
fi
export PATH="$1/bin:/usr/sbin:/usr/bin:/sbin:/bin" HOME=/data/local/tmp TMPDIR=/data/local/tmp
exec adbd
"""


def why_not(arm: bool = False) -> str:
    """Return why there can be no devices here; empty: there can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root on Linux, for network namespaces"
    for tool in ("adb", "adbd", "ssh", "/usr/sbin/sshd", "ip", "unshare", "gcc"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    for tool in ("qemu-aarch64", "aarch64-linux-gnu-gcc") if arm else ():
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    name = f"hwtry{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True).returncode:
        return "network namespaces are not allowed here"
    tried = subprocess.run(
        ["ip", "netns", "exec", name, "unshare", "-m", "mount", "--make-rprivate", "/"],
        capture_output=True,
    )
    subprocess.run(["ip", "netns", "del", name], capture_output=True)
    return "mount namespaces are not allowed here" if tried.returncode else ""


class Net:
    """A network namespace with one address, ``address``, reachable from here."""

    def __init__(self) -> None:
        for number in range(11, 250):
            link = f"hwlab{number}"
            added = subprocess.run(["ip", "netns", "add", link], capture_output=True)
            if added.returncode == 0:
                break
        else:
            raise RuntimeError("no free address for a device")
        self.name = self.link = link
        self.address = f"10.99.{number}.2"
        _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", link)
        _ip("addr", "add", f"10.99.{number}.1/30", "dev", link)
        _ip("-n", link, "addr", "add", f"{self.address}/30", "dev", "eth0")
        _ip("-n", link, "link", "set", "lo", "up")
        _ip("-n", link, "link", "set", "eth0", "up")
        self.plug()

    def plug(self) -> None:
        _ip("link", "set", self.link, "up")

    def unplug(self) -> None:
        _ip("link", "set", self.link, "down")

    def command(self, *words: str) -> list[str]:
        return ["ip", "netns", "exec", self.name, *words]

    def kill(self) -> None:
        """End all that runs in the namespace."""
        pids = subprocess.run(
            ["ip", "netns", "pids", self.name], capture_output=True, text=True
        ).stdout.split()
        for pid in pids:
            _end(int(pid))

    def remove(self) -> None:
        self.kill()
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True)
        subprocess.run(["ip", "link", "del", self.link], capture_output=True)


class Phone:
    """An Android device as far as adb can tell."""

    def __init__(self, root: Path, abi: str = "x86_64") -> None:
        self.root, self.abi, self.net = root, abi, Net()
        self.serial = f"{self.net.address}:5555"
        (root / "bin").mkdir(parents=True)
        os.makedirs("/data", exist_ok=True)
        _script(
            root / "bin" / "getprop",
            'case "$1" in ro.product.model) echo "lab phone";; '
            f"ro.product.cpu.abi) echo {abi};; ro.build.version.release) echo 14;; esac",
        )
        if abi == "arm64-v8a":
            _script(
                root / "bin" / "uname",
                '[ "$1" = -m ] && echo aarch64 && exit\nexec /bin/uname "$@"',
            )
            (root / "cpuinfo").write_text("".join(ARM_CPU.format(core) for core in range(2)))
            _register_qemu()
        self.start()

    def start(self) -> None:
        """Start it, with an empty /data."""
        with open(self.root / "adbd.log", "ab") as log:
            self.process = subprocess.Popen(
                self.net.command("unshare", "-m", "sh", "-c", START, "sh", str(self.root)),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        subprocess.run(["adb", "disconnect", self.serial], capture_output=True)
        for _ in range(100):
            subprocess.run(["adb", "connect", self.serial], capture_output=True)
            if (
                subprocess.run(
                    ["adb", "-s", self.serial, "get-state"], capture_output=True
                ).returncode
                == 0
            ):
                return
            time.sleep(0.1)
        raise RuntimeError((self.root / "adbd.log").read_text())

    def kill(self) -> None:
        """The device is gone: daemon and all it runs."""
        self.net.kill()
        self.process.wait()

    def kill_adbd(self) -> None:
        _end(self.process.pid)
        self.process.wait()

    def remove(self) -> None:
        self.net.remove()
        self.process.wait()
        subprocess.run(["adb", "disconnect", self.serial], capture_output=True)


class Host:
    """A Linux machine as far as ssh can tell."""

    def __init__(self, root: Path) -> None:
        self.root, self.net = root, Net()
        root.mkdir(parents=True)
        os.makedirs("/run/sshd", exist_ok=True)
        self.identity, self.known_hosts = root / "id", root / "known_hosts"
        self.new_key()
        _key(self.identity)
        shutil.copy(root / "id.pub", root / "authorized_keys")
        (root / "sshd_config").write_text(
            f"Port 22\nHostKey {root}/hostkey\nAuthorizedKeysFile {root}/authorized_keys\n"
            f"PidFile {root}/sshd.pid\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            "UsePAM no\nPermitRootLogin prohibit-password\nStrictModes no\n"
        )
        key = (root / "hostkey.pub").read_text().split()
        self.known_hosts.write_text(f"{self.net.address} {key[0]} {key[1]}\n")
        self.start()

    def start(self) -> None:
        command = ("/usr/sbin/sshd", "-f", str(self.root / "sshd_config"))
        subprocess.run(self.net.command(*command), check=True, stdin=subprocess.DEVNULL)

    def stop(self) -> None:
        self.net.kill()

    def new_key(self) -> None:
        for file in self.root.glob("hostkey*"):
            file.unlink()
        _key(self.root / "hostkey")

    def remove(self) -> None:
        self.net.remove()


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


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def _key(path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)


def _script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def _end(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _register_qemu() -> None:
    """Let the kernel run arm64 files; a rule that is there already stays as it is."""
    folder = Path("/proc/sys/fs/binfmt_misc")
    if not os.path.ismount(folder):
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(folder)], check=True)
    if not (folder / "qemu-aarch64").exists():
        rule = QEMU_MAGIC.format(shutil.which("qemu-aarch64"))
        (folder / "register").write_text(rule)
