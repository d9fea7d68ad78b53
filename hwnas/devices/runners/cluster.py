"""Devices of one kind on a Ray cluster, which share the files to measure.

A task (`hwnas.devices.cluster_task`) measures a few files on one device, on the node that reaches
it; Ray gives a device to one task at a time, also between runs. A device or a node that is lost
takes no further files, and another device measures those that it had.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import msgspec

from hwnas.devices.cluster_task import (
    MeasureSettings,
    TaskAnswer,
    TaskRequest,
    packed_file,
    run_task,
)
from hwnas.devices.profile import DeviceProfile
from hwnas.devices.runner import Progress, Subject, check_file
from hwnas.errors import DeviceError, DeviceLost, InvalidFile, UsageError, last_line
from hwnas.measurement.disturbance import Disturbed
from hwnas.measurement.measurement import Environment, Measurement
from hwnas.processes import connect_cluster

TURNS = 3
"""Parts of the files per device: a slow device measures fewer parts."""
MAX_PART = 16
"""Most files of one task; a lost device loses the results of its task."""
POLL_S = 2.0
"""Time between two checks of which nodes are alive."""


class ClusterRunner:
    """Measures on all devices of a profile's ``[cluster]`` at once."""

    def __init__(self, profile: DeviceProfile) -> None:
        if profile.cluster is None:
            raise UsageError(f'{profile.name}: transport = "ray" needs a [cluster] table')
        self.profile, self.cluster = profile, profile.cluster
        self._ray: Any = None

    def probe(self) -> Environment:
        """Return the environment of the first device that answers."""
        environment = _Work(self, (), MeasureSettings()).probe()
        return msgspec.structs.replace(environment, device=self.profile.name)

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
        settings = MeasureSettings(calibrated_reference_ms, seed)
        return _Work(self, subjects, settings).measure(progress)

    def close(self) -> None:
        """Nothing to do: the connection serves the whole process."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def connected(self) -> Any:
        """Return the module of Ray, connected. Raises `DeviceError`, `UsageError` without Ray."""
        if self._ray is None:
            where = f"{self.profile.name}: [cluster] address"
            self._ray = connect_cluster(self.cluster.address, where)
        return self._ray


class _Running(NamedTuple):
    device: str
    part: range
    """Indices of its files."""


class _Ended(NamedTuple):
    device: str
    part: range
    answer: TaskAnswer | None
    """``None`` if the device was lost."""


class _Work:
    """The files of one call, and the devices that measure them."""

    def __init__(
        self, runner: ClusterRunner, subjects: Sequence[Subject], settings: MeasureSettings
    ) -> None:
        self.name, self.cluster = runner.profile.name, runner.cluster
        self.ray, self.subjects, self.settings = runner.connected(), subjects, settings
        self.task = self.ray.remote(run_task)
        self.lost: dict[str, str] = {}
        """Reason for each lost device."""
        self.running: dict[Any, _Running] = {}

    def probe(self) -> Environment:
        """Return the environment of the first device that answers."""
        self._lose_missing()
        for device in self._devices():
            self._start(device, range(0))
            for _, _, answer in self._ended():
                if answer is not None and answer.environment is not None:
                    return answer.environment
        raise self._no_device()

    def measure(self, progress: Progress | None) -> list[Measurement]:
        self._lose_missing()
        idle = deque(self._devices())
        size = max(1, min(MAX_PART, -(-len(self.subjects) // (TURNS * max(1, len(idle))))))
        starts = range(0, len(self.subjects), size)
        parts = deque(range(start, min(start + size, len(self.subjects))) for start in starts)
        results: dict[int, Measurement | None] = {}
        disturbed = ""
        # what still runs after an error ends by itself: a task that is cancelled while its result
        # arrives makes Ray 2.60 end this process
        while parts or self.running:
            while parts and idle:
                self._start(idle.popleft(), parts.popleft())
            if not self.running:
                raise self._no_device()
            for device, part, answer in self._ended():
                if answer is None:
                    parts.appendleft(part)
                    continue
                idle.append(device)
                results |= dict(zip(part, answer.measurements, strict=True))
                disturbed = disturbed or answer.disturbed
                if progress is not None:
                    progress(len(results), len(self.subjects))
        measurements = [results[place] for place in range(len(self.subjects))]
        self._check_alike([each for each in measurements if each is not None])
        if disturbed:
            raise Disturbed(disturbed, measurements)
        return [each for each in measurements if each is not None]

    def _devices(self) -> list[str]:
        return [device for device in self.cluster.devices if device not in self.lost]

    def _start(self, device: str, part: range) -> None:
        files = tuple(packed_file(self.subjects[place]) for place in part)
        request = msgspec.msgpack.encode(TaskRequest(device, files, self.settings))
        # the device is what the task needs, not a core; after a loss another device is asked
        options = {"num_cpus": 0, "max_retries": 0, "resources": {f"device:{device}": 1}}
        task = self.task.options(**options).remote(request)
        self.running[task] = _Running(device, part)

    def _ended(self) -> list[_Ended]:
        """Wait for tasks; return those that ended, and those whose device was lost."""
        done, _ = self.ray.wait(list(self.running), num_returns=1, timeout=POLL_S)
        ended = [_Ended(*self.running[task], self._answer(task)) for task in done]
        for task in done:
            del self.running[task]
        if not done:
            self._lose_missing()
            for task, (device, part) in list(self.running.items()):
                if device in self.lost:
                    del self.running[task]
                    ended.append(_Ended(device, part, None))
        return ended

    def _answer(self, task: Any) -> TaskAnswer | None:
        """Return the answer of a task, ``None`` if its device was lost. Raises its other errors."""
        device = self.running[task].device
        try:
            answer = msgspec.msgpack.decode(self.ray.get(task), type=TaskAnswer)
        except Exception as error:  # Ray's, for a lost node or process
            self.lost[device] = last_line(str(error), type(error).__name__)
            return None
        if answer.lost:
            self.lost[device] = answer.lost
            return None
        if answer.invalid:
            raise InvalidFile(*answer.invalid)
        if answer.error:
            raise DeviceError(answer.error)
        return answer

    def _lose_missing(self) -> None:
        """Mark the devices as lost that no node of the cluster reaches."""
        there = self.ray.cluster_resources()
        for device in self._devices():
            if not there.get(f"device:{device}"):
                self.lost[device] = f"no node of the cluster has the resource device:{device}"

    def _no_device(self) -> DeviceLost:
        [device, *others] = self.lost
        more = f"; the same of {len(others)} more" if others else ""
        return DeviceLost(
            f"{self.name}: no device of the cluster at {self.cluster.address} is left: "
            f"{device}: {self.lost[device]}{more}. A node is started by `ray start --address "
            f"HOST:PORT --resources '{{\"device:{device}\": 1}}'`"
        )

    def _check_alike(self, measurements: Sequence[Measurement]) -> None:
        """Raise `DeviceError` if the devices are not of one kind."""
        kinds = {each.environment.fingerprint: each.environment for each in measurements}
        if len(kinds) > 1:
            first, second, *_ = kinds.values()
            raise DeviceError(
                f"{self.name}: its devices differ: {first.device} is {first.hardware} with "
                f"{first.runtime_version}, {second.device} {second.hardware} with "
                f"{second.runtime_version}; expected devices of one kind"
            )
