"""Worker processes on the machine that hwnas runs on."""

from __future__ import annotations

import os
import platform
import signal
import sys
from pathlib import Path

import msgspec

from hwnas.devices.fingerprint import fingerprint, hardware
from hwnas.devices.idle import wait_idle
from hwnas.devices.profile import DeviceProfile, MeasureSpec
from hwnas.devices.runner import Progress, Subject
from hwnas.devices.runners.protocol import WorkerRequest, read_result
from hwnas.devices.runners.worker import HostFacts, WorkerRunner
from hwnas.devices.transports.client import Client
from hwnas.errors import DeviceError
from hwnas.files import home

WORKER = Path(__file__).parents[1] / "worker" / "launch.py"

MAX_SILENCE_S = 120.0
"""A worker writes a line at each visit to a model; one that is silent for longer is considered
hung."""


class LocalHost:
    """Runs `hwnas.devices.worker.main` with this interpreter; no worker outlives its request."""

    can_be_lost = False
    has_batches = True

    def __init__(self, profile: DeviceProfile) -> None:
        self.profile = profile

    @property
    def engines_folder(self) -> str:
        return str(home() / "engines")

    def host_facts(self) -> HostFacts:
        system = f"{platform.system()} {platform.release()}"
        return HostFacts(fingerprint(), hardware(), system)

    def cores(self, threads: int) -> list[int] | None:
        """Return the last ``threads`` of the cores this process may use.

        The first cores are avoided, since most systems serve interrupts and their own work there.
        """
        if not hasattr(os, "sched_getaffinity"):
            return None
        return sorted(os.sched_getaffinity(0))[-threads:]

    def check(self, subject: Subject) -> None:
        """Accept every file: the worker has all runtimes."""

    def wait_idle(self, spec: MeasureSpec) -> None:
        if spec.wait_idle_s and hasattr(os, "sched_getaffinity"):
            wait_idle(spec.threads, os.sched_getaffinity(0), spec.wait_idle_s)

    def run(self, request: WorkerRequest, progress: Progress | None) -> object:
        files = {path: Path(path) for path in (model.path for model in request.models)}
        files[request.reference] = Path(request.reference)
        worker = f"the {self.profile.runtime} worker"
        # -P: the worker's folder must not shadow modules of the standard library
        command = [sys.executable, "-P", str(WORKER)]
        with Client(command, msgspec.json.encode(request), silence_s=MAX_SILENCE_S) as client:

            def failure(problem: str) -> DeviceError:
                status = client.wait(timeout_s=1.0)
                if status is not None and status < 0:
                    problem = f"died of {signal.Signals(-status).name}"
                elif status is not None:
                    problem += f", exit {status}"
                return DeviceError(
                    f"{self.profile.name}: {worker} {problem}; last line of its stderr: "
                    f"{client.last_error_line}"
                )

            lines = client.lines(self.profile.name, worker)
            return read_result(lines, self.profile.name, files, failure, progress)

    def wait(self) -> bool:
        return False

    def close(self) -> None:
        """Nothing to do."""


class LocalRunner(WorkerRunner[LocalHost]):
    """The runner of profiles with ``transport = "local"``."""

    def __init__(self, profile: DeviceProfile, reference: Path | None = None) -> None:
        super().__init__(profile, LocalHost(profile), reference)
