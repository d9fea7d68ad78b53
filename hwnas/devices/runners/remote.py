"""Worker processes on a phone or another computer, reached by a transport.

The program there is `hwnas.devices.worker.main` (computers), the native runner of ``export/kits/``
(phones) or the user's own ``benchmark_model``.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Generator
from contextlib import closing
from math import ceil
from pathlib import Path
from typing import Self

import msgspec

from hwnas.devices.fingerprint import remote_fingerprint, remote_hardware
from hwnas.devices.profile import DeviceProfile, MeasureSpec
from hwnas.devices.runner import Progress, Subject
from hwnas.devices.runners.programs import benchmark_binary, push_kit, push_model, push_worker
from hwnas.devices.runners.protocol import WorkerRequest, describe_status, read_result
from hwnas.devices.runners.worker import HostFacts, WorkerRunner
from hwnas.devices.transports.transport import (
    CommandResult,
    DeviceFacts,
    Stream,
    Transport,
    open_transport,
)
from hwnas.errors import DeviceError, UsageError

MAX_SILENCE_S = 180.0
"""A worker there reports its progress; one that is silent for longer is considered hung."""


class RemoteHost:
    """A device behind a `Transport`. A context manager."""

    can_be_lost = True

    def __init__(self, profile: DeviceProfile, transport: Transport | None = None) -> None:
        if profile.remote is None:
            raise UsageError(f"{profile.name}: the profile has no [remote] table")
        self.profile, self.remote = profile, profile.remote
        self.transport = transport or open_transport(profile)
        self._facts: DeviceFacts | None = None

    @property
    def program(self) -> str:
        """The kind of program that measures there: `Remote.program`, or the transport's default."""
        return self.remote.program or ("worker" if self.profile.transport == "ssh" else "native")

    @property
    def engines_folder(self) -> str:
        return f"{self.transport.folder}/engines"

    @property
    def has_batches(self) -> bool:
        """Programs other than the worker open all of their models at once."""
        return self.program == "worker"

    def facts(self) -> DeviceFacts:
        """Return what the device reports about itself; probed once."""
        if self._facts is None:
            self._facts = self.transport.probe()
        return self._facts

    def host_facts(self) -> HostFacts:
        facts = self.facts()
        return HostFacts(remote_fingerprint(facts), remote_hardware(facts), facts.system)

    def cores(self, threads: int) -> list[int]:
        """Return the profile's cores, else the last ones, which are often the big ones."""
        count = self.facts().cores
        return list(self.remote.cores) or list(range(max(0, count - threads), count))

    def check(self, subject: Subject) -> None:
        if self.program == "worker":
            return
        if subject.runtime not in (None, self.profile.runtime):
            raise UsageError(
                f"{subject.path}: {self.profile.name} runs {self.profile.runtime} only"
            )
        if subject.batch not in (None, 1):
            raise UsageError(
                f"{subject.path}: {self.profile.name} measures batch 1 only, not {subject.batch}"
            )
        if subject.shapes:
            raise UsageError(
                f"{subject.path}: {self.profile.name} measures inputs of fixed shapes only, so "
                "--input-shape cannot be used"
            )

    def wait_idle(self, spec: MeasureSpec) -> None:
        """Return at once: only this machine is waited for."""

    def run(self, request: WorkerRequest, progress: Progress | None) -> object:
        paths = [push_model(self.transport, Path(model.path)) for model in request.models]
        files = {path: Path(model.path) for path, model in zip(paths, request.models, strict=True)}
        is_worker = self.program == "worker"
        larger, probe = (request.references, request.probe) if is_worker else ((), "")
        there = msgspec.structs.replace(
            request,
            reference=self.transport.push(Path(request.reference)),
            references=tuple(self.transport.push(Path(path)) for path in larger),
            probe=self.transport.push(Path(probe)) if probe else "",
            models=tuple(
                msgspec.structs.replace(model, name=path, path=path)
                for path, model in zip(paths, request.models, strict=True)
            ),
        )
        if self.program == "benchmark_model":
            from hwnas.devices.runners.benchmark_model import run_benchmark_model

            binary = benchmark_binary(self.transport, self.remote, self.facts())
            return run_benchmark_model(self.transport, binary, there, self.remote, progress)
        script, stdin = self._worker(there) if self.program == "worker" else self._native(there)
        batches = max(1, ceil(len(there.models) / there.together))
        process = _Process(
            self.transport.stream(
                script,
                stdin=stdin,
                limit_s=self.remote.limit_s * batches,
                silence_s=MAX_SILENCE_S,
            ),
            self.profile.name,
        )
        with closing(process.lines):
            name = self.profile.name
            result = read_result(process.lines, name, files, process.failure, progress)
            for _ in process.lines:
                pass  # it must have ended before the next one begins
        if process.status:
            raise process.failure("failed")
        return result

    def _worker(self, request: WorkerRequest) -> tuple[str, bytes]:
        """Return the Python worker's command, and the request that it reads from stdin."""
        worker = push_worker(self.transport)
        command = ["env", "PYTHONDONTWRITEBYTECODE=1", self.remote.python, worker]
        return shlex.join(command), msgspec.json.encode(request)

    def _native(self, request: WorkerRequest) -> tuple[str, bytes]:
        """Return the native runner's command, and the flags that it reads from stdin."""
        runtime = self.profile.runtime
        program, libraries = push_kit(self.transport, self.remote, self.facts(), runtime)
        spec = request.spec
        flags: dict[str, object] = {
            "reference": request.reference,
            "num_threads": request.threads,
            "warmup_runs": spec.warmup_runs,
            "warmup_min_secs": spec.warmup_s,
            "runs": spec.runs,
            "min_rounds": spec.min_rounds,
            "max_rounds": spec.max_rounds,
            "ci": spec.ci,
            "max_secs": spec.max_s,
            "seed": request.seed,
        }
        if request.affinity:
            flags["cores"] = ",".join(map(str, request.affinity))
        lines = [f"--{name}={value}\n" for name, value in flags.items()]
        lines += [f"--graph={model.path}\n" for model in request.models]
        command = ["env", f"LD_LIBRARY_PATH={libraries}", program, "--flags=-"]
        return shlex.join(command), "".join(lines).encode()

    def wait(self) -> bool:
        """Return whether the device answers within the profile's patience."""
        end = time.monotonic() + self.remote.patience_s
        while time.monotonic() < end:
            if self.transport.alive():
                return True
            time.sleep(0.5)
        return False

    def close(self) -> None:
        self.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Process:
    """The output of a process on the device; ``status`` is known when `lines` has ended."""

    def __init__(self, stream: Stream, device: str) -> None:
        self.device = device
        self.status: int | None = None
        self.error_output = b""
        self.lines = self._read(stream)

    def _read(self, stream: Stream) -> Generator[bytes]:
        self.status, self.error_output = yield from stream

    def failure(self, problem: str) -> DeviceError:
        if self.status is None:
            return DeviceError(f"{self.device}: the runner there {problem}")
        last = CommandResult(self.status, b"", self.error_output).last_line
        return DeviceError(
            f"{self.device}: the runner there ended with {describe_status(self.status)}; the last "
            f"line of its output: {last}"
        )


class RemoteRunner(WorkerRunner[RemoteHost]):
    """The runner of profiles with ``transport = "adb"`` or ``"ssh"``."""

    def __init__(
        self,
        profile: DeviceProfile,
        reference: Path | None = None,
        transport: Transport | None = None,
    ) -> None:
        super().__init__(profile, RemoteHost(profile, transport), reference)
