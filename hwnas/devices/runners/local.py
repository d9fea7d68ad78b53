"""Measuring on the machine that hwnas runs on, in a fresh worker process each time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import IO, Any, Self

import msgspec

from hwnas.devices.fingerprint import fingerprint, hardware, named_gpu, with_gpu
from hwnas.devices.profile import DeviceProfile, MeasureSpec
from hwnas.devices.runner import (
    Progress,
    Subject,
    check_file,
    file_sha256,
    gpu_request,
    reference_file,
)
from hwnas.devices.runners.schedule import company, part_of, shared
from hwnas.errors import DeviceError, HwnasError, InvalidFile
from hwnas.files import home
from hwnas.measurement.measurement import Environment, Gpu, Measurement, OnGpu, Round

WORKER = Path(__file__).parents[1] / "worker" / "launch.py"

SILENCE_S = 120.0
"""A worker writes a line at each visit to a model; one that is silent for so long hangs."""


class LocalRunner:
    """Runs `hwnas.devices.worker.main` with this interpreter, pinned to fixed cores.

    On a GPU of this machine where the profile has a ``[gpu]`` table.
    """

    def __init__(self, profile: DeviceProfile, reference: Path | None = None) -> None:
        self.profile = profile
        self.reference = reference or reference_file(profile.runtime)

    def probe(self) -> Environment:
        spec = msgspec.structs.replace(self.profile.measure, warmup_runs=0, warmup_s=0.0)
        when = _now()
        return self._environment(self._ask([], spec, 0, None)["environment"], when)

    def measure(
        self,
        subjects: Sequence[Subject],
        *,
        calibrated_reference_ms: float | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> list[Measurement]:
        for subject in subjects:
            check_file(subject, self.profile)
        if not subjects:
            return []
        when, spec = _now(), self.profile.measure
        share, plan = shared(spec), company(len(subjects), spec.processes, seed)
        rounds: list[list[Round]] = [[] for _ in subjects]
        said: dict[int, dict[str, Any]] = {}
        environments: list[dict[str, Any]] = []
        for number, (process, places) in enumerate(plan):
            told = part_of(progress, number, len(plan))
            result = self._ask([subjects[place] for place in places], share, seed + process, told)
            environments.append(result["environment"])
            for place, model in zip(places, result["models"], strict=True):
                said.setdefault(place, model)
                taken = msgspec.convert(model["rounds"], tuple[Round, ...])
                rounds[place] += [msgspec.structs.replace(one, process=process) for one in taken]
        environment = self._environment(
            {**environments[0], "load_after": environments[-1]["load_after"]}, when
        )
        return [
            Measurement(
                name=subject.name,
                rounds=tuple(rounds[place]),
                environment=msgspec.structs.replace(
                    environment,
                    runtime=subject.runtime or self.profile.runtime,
                    runtime_version=said[place]["runtime_version"],
                ),
                calibrated_reference_ms=calibrated_reference_ms,
                sha256=file_sha256(subject.path),
                first_run_ms=said[place]["first_run_ms"],
                load_ms=said[place]["load_ms"],
                batch=subject.batch,
                on_gpu=msgspec.convert(said[place].get("on_gpu"), OnGpu | None),
            )
            for place, subject in enumerate(subjects)
        ]

    def close(self) -> None:
        """Nothing to do: no worker outlives its request."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _ask(
        self,
        subjects: Sequence[Subject],
        spec: MeasureSpec,
        seed: int,
        progress: Progress | None,
    ) -> dict[str, Any]:
        request = {
            "runtime": self.profile.runtime,
            "threads": spec.threads,
            "affinity": _cores(spec.threads) if spec.pin else None,
            "gpu": gpu_request(self.profile.gpu, str(home() / "engines")),
            "models": [
                {
                    "name": one.name,
                    "path": str(one.path),
                    "runtime": one.runtime,
                    "batch": one.batch,
                }
                for one in subjects
            ],
            "reference": str(self.reference),
            "spec": spec,
            "seed": seed,
        }
        for message in _converse(msgspec.json.encode(request), self.profile):
            if "result" in message:
                return message["result"]
            if "error" in message:
                raise self._error(message)
            if progress and "progress" in message:
                progress(*message["progress"])
        raise AssertionError("a conversation ends with a result or an error")

    def _error(self, message: dict[str, Any]) -> HwnasError:
        if "file" in message:
            return InvalidFile(message["file"], message["error"])
        return DeviceError(f"{self.profile.name}: {message['error']}")

    def _environment(self, said: dict[str, Any], when: str) -> Environment:
        gpu = msgspec.convert(said.get("gpu"), Gpu | None)
        return Environment(
            device=self.profile.name,
            fingerprint=with_gpu(fingerprint(), self.profile, gpu),
            hardware=named_gpu(hardware(), self.profile, gpu),
            gpu=gpu,
            runtime=self.profile.runtime,
            threads=self.profile.measure.threads,
            when=when,
            affinity=tuple(said["affinity"]),
            **{name: said[name] for name in _AS_SAID},
        )


_AS_SAID = (
    "runtime_version",
    "system",
    "governor",
    "frequency_mhz",
    "temperature_c",
    "load_before",
    "load_after",
    "steal_s",
)


def _cores(threads: int) -> list[int] | None:
    """Return the last ``threads`` of the cores this process may use.

    Not the first: most systems serve interrupts and their own work there.
    """
    if not hasattr(os, "sched_getaffinity"):
        return None
    return sorted(os.sched_getaffinity(0))[-threads:]


def _converse(request: bytes, profile: DeviceProfile) -> Iterator[dict[str, Any]]:
    """Yield a worker's messages; the last one is its result or its error.

    Raises `DeviceError` for a worker that dies, hangs or talks nonsense, and leaves none behind.
    """
    with tempfile.TemporaryFile() as stderr:
        # -P: the worker's folder must not shadow modules of the standard library
        worker = subprocess.Popen(
            [sys.executable, "-P", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
        try:
            for line in _talk(worker, request):
                message = _decoded(line)
                if message is None:
                    raise _failure(profile, worker, stderr, f"wrote {line[:80]!r}")
                yield message
                if "result" in message or "error" in message:
                    return
            raise _failure(profile, worker, stderr, "ended without a result")
        except TimeoutError:
            reason = f"was silent for {SILENCE_S:.0f} s"
            raise _failure(profile, worker, stderr, reason) from None
        finally:
            worker.kill()
            worker.wait()
            for pipe in (worker.stdin, worker.stdout):
                if pipe:
                    pipe.close()


def _talk(worker: subprocess.Popen[bytes], request: bytes) -> Iterator[bytes]:
    """Send the request, yield the lines of the answer; raises TimeoutError at a silence."""
    assert worker.stdin and worker.stdout
    try:
        worker.stdin.write(request)
        worker.stdin.close()
    except BrokenPipeError:
        pass  # it died at its start; its exit status says more
    lines: SimpleQueue[bytes] = SimpleQueue()
    Thread(target=_pump, args=(worker.stdout, lines), daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=SILENCE_S)
        except Empty:
            raise TimeoutError from None
        if not line:
            return
        yield line


def _pump(pipe: IO[bytes], lines: SimpleQueue[bytes]) -> None:
    for line in pipe:
        lines.put(line)
    lines.put(b"")


def _decoded(line: bytes) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except msgspec.DecodeError:
        return None


def _failure(
    profile: DeviceProfile, worker: subprocess.Popen[bytes], stderr: IO[bytes], what: str
) -> DeviceError:
    """Return the error that tells of a worker's end and its last words."""
    try:
        status = worker.wait(timeout=1.0)
        what = f"died of {signal.Signals(-status).name}" if status < 0 else f"{what}, exit {status}"
    except subprocess.TimeoutExpired:
        pass
    stderr.seek(0)
    last = stderr.read().decode(errors="replace").strip().splitlines()[-1:] or ["nothing"]
    return DeviceError(
        f"{profile.name}: the {profile.runtime} worker {what}; last line of its stderr: {last[0]}"
    )


def _now() -> str:
    return datetime.now(UTC).astimezone().isoformat(timespec="seconds")
