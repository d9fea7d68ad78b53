"""Measuring on a phone or a host, by the same interleaved rounds as on this machine.

What runs there is `hwnas.devices.worker.main` (hosts), the native runner of ``export/kits/``
(phones) or the user's ``benchmark_model``. Each process's result is spooled as soon as it is there
(`remote_spool`): a device that is lost and comes back in time goes on.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import msgspec

from hwnas.devices.fingerprint import (
    named_gpu,
    remote_fingerprint,
    remote_hardware,
    with_gpu,
)
from hwnas.devices.profile import DeviceProfile, MeasureSpec
from hwnas.devices.runner import (
    Progress,
    Subject,
    check_file,
    file_sha256,
    gpu_request,
    reference_file,
)
from hwnas.devices.runners.programs import benchmark_binary, push_kit, push_worker
from hwnas.devices.runners.protocol import Said, checked, decoded, is_pair, status_in_words
from hwnas.devices.runners.schedule import company, part_of, shared
from hwnas.devices.runners.spool import Spool
from hwnas.devices.transports.transport import Answer, Facts, Transport, open_transport
from hwnas.errors import DeviceError, DeviceLost, InvalidFile, UsageError
from hwnas.measurement.measurement import Environment, Kind, Measurement, Round

SILENCE_S = 180.0
"""What measures there tells of its progress; one that is silent for so long hangs."""
TRIES = 4
"""A process that is lost is begun again so many times, if the device comes back."""


class RemoteRunner:
    """Measures by way of a `Transport`."""

    def __init__(
        self,
        profile: DeviceProfile,
        reference: Path | None = None,
        transport: Transport | None = None,
    ) -> None:
        if profile.remote is None:
            raise UsageError(f"{profile.name}: the profile has no [remote] table")
        self.profile, self.remote = profile, profile.remote
        self.reference = reference or reference_file(profile.runtime)
        self.transport = transport or open_transport(profile)
        self._facts: Facts | None = None

    @property
    def kind(self) -> Kind:
        return "emulated" if self.profile.emulated else "measured"

    @property
    def program(self) -> str:
        """What measures there."""
        return self.remote.program or ("worker" if self.profile.transport == "ssh" else "native")

    def facts(self) -> Facts:
        """Return what the device is; asked once."""
        if self._facts is None:
            self._facts = self.transport.probe()
        return self._facts

    def probe(self) -> Environment:
        spec = msgspec.structs.replace(self.profile.measure, warmup_runs=0, warmup_s=0.0)
        when = _now()
        return self._environment(self._ask([], spec, 0, None).environment, when)

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
            if subject.runtime not in (None, self.profile.runtime) and self.program != "worker":
                raise UsageError(
                    f"{subject.path}: {self.profile.name} runs {self.profile.runtime} only"
                )
            if subject.batch != 1 and self.program != "worker":
                raise UsageError(
                    f"{subject.path}: {self.profile.name} measures one input a call, not "
                    f"{subject.batch}"
                )
        if not subjects:
            return []
        when, spec = _now(), self.profile.measure
        share, plan = shared(spec), company(len(subjects), spec.processes, seed)
        rounds: list[list[Round]] = [[] for _ in subjects]
        first: dict[int, Said.Model] = {}
        answers: list[Said] = []
        spool = Spool(self.profile, self.facts(), self.reference)
        for number, (process, places) in enumerate(plan):
            told = part_of(progress, number, len(plan))
            asked = [subjects[place] for place in places]
            said = spool.read(asked, share, seed + process)
            if said is None:
                said = self._ask_again(asked, share, seed + process, told, number, len(plan))
                spool.write(asked, share, seed + process, said)
            answers.append(said)
            for place, model in zip(places, said.models, strict=True):
                first.setdefault(place, model)
                rounds[place] += [
                    msgspec.structs.replace(one, process=process) for one in model.rounds
                ]
        environment = self._environment(
            msgspec.structs.replace(
                answers[0].environment, load_after=answers[-1].environment.load_after
            ),
            when,
        )
        spool.clear()
        return [
            Measurement(
                name=subject.name,
                rounds=tuple(rounds[place]),
                environment=msgspec.structs.replace(
                    environment,
                    runtime=subject.runtime or self.profile.runtime,
                    runtime_version=first[place].runtime_version or environment.runtime_version,
                ),
                calibrated_reference_ms=calibrated_reference_ms,
                kind=self.kind,
                sha256=file_sha256(subject.path),
                first_run_ms=first[place].first_run_ms,
                load_ms=first[place].load_ms,
                batch=subject.batch,
                on_gpu=first[place].on_gpu,
            )
            for place, subject in enumerate(subjects)
        ]

    def close(self) -> None:
        self.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _ask_again(
        self,
        subjects: Sequence[Subject],
        spec: MeasureSpec,
        seed: int,
        progress: Progress | None,
        done: int,
        planned: int,
    ) -> Said:
        """Ask; a device that is lost and comes back within its patience is asked again."""
        for attempt in range(1, TRIES + 1):
            try:
                return self._ask(subjects, spec, seed, progress)
            except DeviceLost as error:
                if attempt == TRIES or not self._back():
                    raise DeviceLost(
                        f"{error}; {done} of {planned} processes of this measurement had ended and "
                        "are kept: the same command goes on with them"
                    ) from None
        raise AssertionError("the last attempt returns or raises")

    def _back(self) -> bool:
        end = time.monotonic() + self.remote.patience_s
        while time.monotonic() < end:
            if self.transport.alive():
                return True
            time.sleep(0.5)
        return False

    def _ask(
        self, subjects: Sequence[Subject], spec: MeasureSpec, seed: int, progress: Progress | None
    ) -> Said:
        facts = self.facts()
        reference = self.transport.push(self.reference)
        paths = [self.transport.push(subject.path) for subject in subjects]
        cores = self._cores(facts) if spec.pin else []
        if self.program == "benchmark_model":
            from hwnas.devices.runners.benchmark_model import ask_benchmark_model

            binary = benchmark_binary(self.transport, self.remote, facts)
            said = ask_benchmark_model(
                self.transport, binary, paths, reference, spec, seed, self.remote, progress
            )
            return checked(said, len(paths), self.profile.name)
        if self.program == "worker":
            worker = push_worker(self.transport)
            script = shlex.join(["env", "PYTHONDONTWRITEBYTECODE=1", self.remote.python, worker])
            request = msgspec.json.encode({
                "runtime": self.profile.runtime, "threads": spec.threads,
                "affinity": cores or None, "reference": reference, "spec": spec, "seed": seed,
                "gpu": gpu_request(self.profile.gpu, f"{self.transport.folder}/engines"),
                "models": [
                    {
                        "name": path, "path": path, "runtime": subject.runtime,
                        "batch": subject.batch,
                    }
                    for path, subject in zip(paths, subjects, strict=True)
                ],
            })  # fmt: skip
        else:
            script, request = self._native(facts, paths, reference, spec, seed, cores)
        names = {path: subject.path for path, subject in zip(paths, subjects, strict=True)}
        return self._converse(script, request, names, len(paths), progress)

    def _native(
        self, facts: Facts, paths: list[str], reference: str, spec: MeasureSpec, seed: int,
        cores: list[int],
    ) -> tuple[str, bytes]:  # fmt: skip
        """Return the native runner's command, and its flags, which it reads from stdin."""
        program, libraries = push_kit(self.transport, self.remote, facts, self.profile.runtime)
        flags = {
            "reference": reference, "num_threads": spec.threads, "warmup_runs": spec.warmup_runs,
            "warmup_min_secs": spec.warmup_s, "runs": spec.runs, "min_rounds": spec.min_rounds,
            "max_rounds": spec.max_rounds, "ci": spec.ci, "max_secs": spec.max_s, "seed": seed,
            "cores": ",".join(map(str, cores)),
        }  # fmt: skip
        lines = [f"--{name}={value}" for name, value in flags.items() if value != ""]
        lines += [f"--graph={path}" for path in paths]
        command = ["env", f"LD_LIBRARY_PATH={libraries}", program, "--flags=-"]
        return shlex.join(command), ("\n".join(lines) + "\n").encode()

    def _converse(
        self, script: str, request: bytes, names: dict[str, Path], count: int,
        progress: Progress | None,
    ) -> Said:  # fmt: skip
        said: Said | None = None
        blamed: dict[str, Any] | None = None
        talk = self.transport.talk(
            script, stdin=request, limit_s=self.remote.limit_s, silence_s=SILENCE_S
        )
        while True:
            try:
                line = next(talk)
            except StopIteration as end:
                status, err = end.value
                break
            message = decoded(line)
            if message is None:
                raise DeviceError(f"{self.profile.name}: the runner there wrote {line[:80]!r}")
            if "result" in message:
                said = checked(message["result"], count, self.profile.name)
            elif "error" in message:
                blamed = message
            elif progress and is_pair(message.get("progress")):
                progress(*message["progress"])
        if blamed is not None:
            why = str(blamed["error"])[:300]
            if path := names.get(str(blamed.get("file"))):
                raise InvalidFile(str(path), why)
            raise DeviceError(f"{self.profile.name}: {why}")
        if status or said is None:
            raise DeviceError(
                f"{self.profile.name}: the runner there ended with {status_in_words(status)}; its "
                f"last words: {Answer(status, b'', err).last_words}"
            )
        return said

    def _cores(self, facts: Facts) -> list[int]:
        """Return the cores to pin to: as the profile says, else the last ones (often the big)."""
        threads = self.profile.measure.threads
        return list(self.remote.cores) or list(range(max(0, facts.cores - threads), facts.cores))

    def _environment(self, said: Said.Conditions, when: str) -> Environment:
        facts = self.facts()
        return Environment(
            device=self.profile.name,
            fingerprint=with_gpu(remote_fingerprint(facts), self.profile, said.gpu),
            hardware=named_gpu(remote_hardware(facts), self.profile, said.gpu)
            + (", emulated" if self.profile.emulated else ""),
            runtime=self.profile.runtime,
            threads=self.profile.measure.threads,
            when=when,
            system=facts.system,
            **msgspec.structs.asdict(said),
        )


def _now() -> str:
    return datetime.now(UTC).astimezone().isoformat(timespec="seconds")
