"""Measures by fresh worker processes, on this machine or on a device: one runner for both."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, Self, TypeVar

import msgspec

from hwnas.devices.fingerprint import gpu_fingerprint, gpu_hardware
from hwnas.devices.profile import DeviceProfile, MeasureSpec
from hwnas.devices.quiet import learn, read_clocks, with_scale
from hwnas.devices.runner import (
    Progress,
    Subject,
    check_file,
    larger_references,
    memory_probe,
    reference_file,
)
from hwnas.devices.runners.protocol import (
    GpuRequest,
    ModelRequest,
    ModelResult,
    WorkerConditions,
    WorkerRequest,
    WorkerResult,
    check_result,
)
from hwnas.devices.runners.schedule import (
    TOGETHER,
    assign_batches,
    models_per_process,
    per_process_spec,
    scaled_progress,
)
from hwnas.devices.runners.spool import Spool
from hwnas.errors import DeviceLost
from hwnas.files import file_sha256
from hwnas.measurement.disturbance import Disturbed, counted, disturbed_line, settle
from hwnas.measurement.measurement import Environment, Measurement, Program, local_time

MAX_TRIES = 4
"""Most starts of a worker process whose device was lost and came back."""


MAX_PROGRAMS = 3
"""Most other programs that an `Environment` lists."""


class HostFacts(NamedTuple):
    """Identity of a machine."""

    fingerprint: str
    hardware: str
    system: str


class WorkerHost(Protocol):
    """Where worker processes run: this machine, or a device behind a transport."""

    can_be_lost: bool
    """Whether the results of single processes are spooled, as the connection may break."""

    @property
    def engines_folder(self) -> str:
        """Folder there where TensorRT caches its engines."""
        ...

    @property
    def has_batches(self) -> bool:
        """Whether a process there can measure batches of models, one after the other."""
        ...

    def host_facts(self) -> HostFacts: ...

    def cores(self, threads: int) -> list[int] | None:
        """Return the cores to pin ``threads`` threads to; ``None`` if the system cannot pin."""
        ...

    def check(self, subject: Subject) -> None:
        """Raise `UsageError` for a file that the host cannot measure."""
        ...

    def wait_idle(self, spec: MeasureSpec) -> None:
        """Wait for quiet cores as long as ``spec`` allows. Raises `TooNoisy`."""
        ...

    def run(self, request: WorkerRequest, progress: Progress | None) -> object:
        """Run one worker process; paths of the request are on this machine.

        Returns the result unchecked. Raises `DeviceLost` if the connection breaks.
        """
        ...

    def wait(self) -> bool:
        """Wait for a lost device; returns whether it is back."""
        ...

    def close(self) -> None: ...


class WorkerRun(NamedTuple):
    """One worker process of a measurement."""

    process: int
    indices: list[int]
    """Indices of its models among the measured files."""
    result: WorkerResult


Host = TypeVar("Host", bound=WorkerHost)


class WorkerRunner(Generic[Host]):
    """Runs workers on a host, pinned to fixed cores, or on its GPU if the profile has one."""

    def __init__(self, profile: DeviceProfile, host: Host, reference: Path | None = None) -> None:
        self.profile, self.host = profile, host
        self.reference = reference or reference_file(profile.runtime)
        shipped = reference is None and profile.gpu is None
        self.references = larger_references(profile.runtime) if shipped else []
        self.memory_probe = str(memory_probe(profile.runtime) or "") if shipped else ""

    def probe(self) -> Environment:
        spec = msgspec.structs.replace(self.profile.measure, warmup_runs=0, warmup_s=0.0)
        when = local_time()
        return self._environment(self.run_worker([], spec, 0, None).environment, when)

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
            self.host.check(subject)
        if not subjects:
            return []
        when = local_time()
        runs = self._run_all(subjects, seed, progress)
        first, last = runs[0].result.environment, runs[-1].result.environment
        environment = self._environment(
            msgspec.structs.replace(
                first,
                load_after=last.load_after,
                programs=busiest_programs([run.result.environment for run in runs]),
            ),
            when,
        )
        results: list[list[ModelResult]] = [[] for _ in subjects]
        for run in runs:
            for index, model in zip(run.indices, run.result.models, strict=True):
                results[index].append(self._numbered(model, run.process))
        return self._settled(
            [
                self._measurement(subject, models, environment, calibrated_reference_ms)
                for subject, models in zip(subjects, results, strict=True)
            ]
        )

    def close(self) -> None:
        self.host.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _measurement(
        self,
        subject: Subject,
        results: Sequence[ModelResult],
        environment: Environment,
        calibrated_reference_ms: float | None,
    ) -> Measurement:
        """Return the measurement of a file from its results in all processes."""
        first = results[0]
        return Measurement(
            name=subject.name,
            rounds=tuple(round for result in results for round in result.rounds),
            environment=msgspec.structs.replace(
                environment,
                runtime=subject.runtime or self.profile.runtime,
                runtime_version=first.runtime_version or environment.runtime_version,
            ),
            calibrated_reference_ms=calibrated_reference_ms,
            kind="emulated" if self.profile.emulated else "measured",
            sha256=file_sha256(subject.path),
            first_run_ms=first.first_run_ms,
            load_ms=first.load_ms,
            batch=first.batch or subject.batch or 1,
            input_shapes={
                each.name or str(place): each.shape for place, each in enumerate(first.inputs)
            },
            on_gpu=first.on_gpu,
        )

    def _numbered(self, model: ModelResult, process: int) -> ModelResult:
        """Return a result whose rounds state their process and its threads."""
        threads = self.profile.measure.threads
        rounds = tuple(
            msgspec.structs.replace(round, process=process, threads=threads)
            for round in model.rounds
        )
        return msgspec.structs.replace(model, rounds=rounds)

    def _settled(self, measurements: Sequence[Measurement]) -> list[Measurement]:
        """Return the measurements with the calls that count. Raises `Disturbed`.

        Disturbances do not matter for emulated latencies, which are not those of a real device.
        """
        if self.profile.emulated:
            return list(measurements)
        learn(measurements)
        measurements = [with_scale(each, measurements) for each in measurements]
        least = self.profile.measure.min_rounds
        clocks = [read_clocks(each.environment).wall_per_cpu for each in measurements]
        settled = [
            settle(each, least, clock) for each, clock in zip(measurements, clocks, strict=True)
        ]
        failed = [place for place, each in enumerate(settled) if each is None]
        if failed:
            first = measurements[failed[0]]
            with_counted = counted(first, least, clocks[failed[0]])
            line = disturbed_line(first, len(failed) - 1, with_counted)
            raise Disturbed(f"{self.profile.name}: {line}", settled)
        return [each for each in settled if each is not None]

    def _run_all(
        self, subjects: Sequence[Subject], seed: int, progress: Progress | None
    ) -> list[WorkerRun]:
        """Run the worker processes of a measurement, one after the other."""
        spec = per_process_spec(self.profile.measure)
        most, profile = TOGETHER, self.profile
        if self.host.has_batches:
            most = models_per_process(each.runtime or profile.runtime for each in subjects)
        plan = assign_batches(len(subjects), profile.measure.processes, most, seed)
        spool = self._spool() if self.host.can_be_lost else None
        runs: list[WorkerRun] = []
        for number, (process, indices) in enumerate(plan):
            part = [subjects[index] for index in indices]
            result = spool.read(part, spec, seed + process) if spool else None
            if result is None:
                self.host.wait_idle(spec)
                own_progress = scaled_progress(progress, number, len(plan))
                try:
                    result = self._retry(part, spec, seed + process, own_progress)
                except DeviceLost as error:
                    raise DeviceLost(
                        f"{error}; {number} of {len(plan)} processes of this measurement are done "
                        "and their results are kept: run the same command again to continue"
                    ) from None
                if spool:
                    spool.write(part, spec, seed + process, result)
            runs.append(WorkerRun(process, indices, result))
        if spool:
            spool.clear()
        return runs

    def _retry(
        self, subjects: Sequence[Subject], spec: MeasureSpec, seed: int, progress: Progress | None
    ) -> WorkerResult:
        """Run a worker, and again if the device is lost and comes back within its patience."""
        for _ in range(MAX_TRIES - 1):
            try:
                return self.run_worker(subjects, spec, seed, progress)
            except DeviceLost:
                if not self.host.wait():
                    raise
        return self.run_worker(subjects, spec, seed, progress)

    def run_worker(
        self, subjects: Sequence[Subject], spec: MeasureSpec, seed: int, progress: Progress | None
    ) -> WorkerResult:
        """Run one worker process on the host and check its result."""
        profile, gpu = self.profile, self.profile.gpu
        cores = self.host.cores(spec.threads) if spec.pin else None
        request = WorkerRequest(
            runtime=profile.runtime,
            threads=spec.threads,
            affinity=tuple(cores) if cores else None,
            gpu=gpu
            and GpuRequest(gpu.provider, gpu.number, gpu.precision, self.host.engines_folder),
            models=tuple(
                ModelRequest(
                    subject.name, str(subject.path), subject.runtime, subject.batch, subject.shapes
                )
                for subject in subjects
            ),
            together=TOGETHER,
            reference=str(self.reference),
            references=tuple(map(str, self.references)),
            probe=self.memory_probe,
            spec=spec,
            seed=seed,
        )
        return check_result(self.host.run(request, progress), len(subjects), profile.name)

    def _spool(self) -> Spool:
        return Spool(self.profile, self.host.host_facts().fingerprint, self.reference)

    def _environment(self, conditions: WorkerConditions, when: str) -> Environment:
        facts, profile = self.host.host_facts(), self.profile
        return Environment(
            device=profile.name,
            fingerprint=gpu_fingerprint(facts.fingerprint, profile, conditions.gpu),
            hardware=gpu_hardware(facts.hardware, profile, conditions.gpu)
            + (", emulated" if profile.emulated else ""),
            runtime=profile.runtime,
            threads=profile.measure.threads,
            when=when,
            system=facts.system,
            **msgspec.structs.asdict(conditions),
        )


def busiest_programs(conditions: Sequence[WorkerConditions]) -> tuple[Program, ...]:
    """Return the busiest other programs during all processes of a measurement, each once."""
    by_pid: dict[int, Program] = {}
    for program in (program for each in conditions for program in each.programs):
        before = by_pid.get(program.pid)
        if before is None or before.cores < program.cores:
            by_pid[program.pid] = program
    return tuple(sorted(by_pid.values(), key=lambda program: -program.cores)[:MAX_PROGRAMS])
