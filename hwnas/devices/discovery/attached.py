"""Lists the phones attached to the adb server, and the GPUs that nvidia-smi reports.

It starts no program: without a running adb server no phone is listed.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from typing import NamedTuple

from hwnas.devices.worker.runtimes.cuda import cuda_gpus

ADB_PORT = 5037
TIMEOUT_S = 3.0
MAX_ANSWER_BYTES = 65_536

GPU_FIELDS = "index,name,uuid,driver_version,memory.total,clocks.max.sm,compute_cap,pci.bus_id"
ADVICE = {
    "device": "ready",
    "unauthorized": "unauthorised: unlock the phone and accept this computer's key",
    "offline": "offline: plug it in again, or run `adb reconnect`",
    "no permissions": "no permission: see Android's documentation on udev rules",
}


class Phone(NamedTuple):
    """A phone or emulator that the adb server knows."""

    serial: str
    state: str
    """In adb's terms: ``device``, ``unauthorized``, ``offline``, ..."""
    model: str

    @property
    def description(self) -> str:
        """Describe the state, with advice."""
        advice = (text for state, text in ADVICE.items() if self.state.startswith(state))
        return next(advice, self.state)


class NvidiaGpu(NamedTuple):
    """A GPU in a line of nvidia-smi."""

    number: int
    """The number that nvidia-smi gives it; see `cuda_number`."""
    name: str
    uuid: str
    driver: str
    memory_bytes: int | None
    clock_hz: int | None
    compute_capability: str
    pci_bus_id: str
    """In CUDA's form: ``0000:3b:00.0``."""


def attached_phones() -> list[Phone]:
    """Return the phones that this machine's adb server lists; empty if none runs."""
    port = os.environ.get("ANDROID_ADB_SERVER_PORT", "")
    address = ("127.0.0.1", int(port) if port.isdigit() and int(port) < 65536 else ADB_PORT)
    try:
        with socket.create_connection(address, timeout=TIMEOUT_S) as server:
            request = b"host:devices-l"
            server.sendall(b"%04x" % len(request) + request)
            answer = _answer(server)
    except OSError:
        return []
    return parse_phones(answer.decode(errors="replace"))


def _answer(server: socket.socket) -> bytes:
    """Return the payload after ``OKAY`` and four hexadecimal digits of length, or nothing."""
    head = _read(server, 8)
    try:
        length = int(head[4:], 16)
    except ValueError:
        return b""
    return _read(server, min(length, MAX_ANSWER_BYTES)) if head.startswith(b"OKAY") else b""


def _read(server: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length and (more := server.recv(length - len(data))):
        data += more
    return data


def parse_phones(text: str) -> list[Phone]:
    """Parse ``adb devices -l``: serial, state, and ``model:...`` among other words."""
    phones: list[Phone] = []
    for line in text.splitlines():
        serial, _, rest = line.strip().partition(" ")
        serial, tab, state = serial.partition("\t")
        rest = f"{state} {rest}".strip() if tab else rest.strip()
        if not serial or not rest or serial in ("List", "*"):
            continue
        words = rest.split()
        model = next((word[6:] for word in words if word.startswith("model:")), "")
        state = "no permissions" if rest.startswith("no permissions") else words[0]
        phones.append(Phone(serial, state, model.replace("_", " ")))
    return phones


def attached_gpus() -> list[NvidiaGpu]:
    """Return NVIDIA GPUs; empty if nvidia-smi is missing or fails."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    command = [tool, f"--query-gpu={GPU_FIELDS}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return (
        parse_gpus(done.stdout[:MAX_ANSWER_BYTES].decode(errors="replace"))
        if not done.returncode
        else []
    )


def cuda_number(gpu: NvidiaGpu) -> int | None:
    """Return CUDA's number of a GPU, which profiles state; ``None`` if CUDA does not see the GPU.

    It differs from nvidia-smi's if ``CUDA_VISIBLE_DEVICES`` or ``CUDA_DEVICE_ORDER`` is set.
    """
    by_bus = os.environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID") == "PCI_BUS_ID"
    if by_bus and "CUDA_VISIBLE_DEVICES" not in os.environ:
        return gpu.number
    try:
        bus_ids = [visible.pci_bus_id for visible in cuda_gpus()]
    except RuntimeError:
        return None
    return bus_ids.index(gpu.pci_bus_id) if gpu.pci_bus_id in bus_ids else None


def parse_gpus(text: str) -> list[NvidiaGpu]:
    """Parse lines of `GPU_FIELDS`; a value that the driver doesn't know is ``[N/A]``."""
    gpus: list[NvidiaGpu] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) != GPU_FIELDS.count(",") + 1 or not cells[0].isdigit():
            continue
        memory, clock = _number(cells[4]), _number(cells[5])
        gpus.append(
            NvidiaGpu(
                number=int(cells[0]),
                name=cells[1],
                uuid=cells[2],
                driver=cells[3],
                memory_bytes=memory * 1024**2 if memory else None,
                clock_hz=clock * 1_000_000 if clock else None,
                compute_capability=cells[6],
                pci_bus_id=cells[7].lower()[-len("0000:00:00.0") :],  # 00000000:3B:00.0
            )
        )
    return gpus


def _number(cell: str) -> int | None:
    return int(cell) if cell.isascii() and cell.isdigit() and len(cell) < 12 else None
