"""Device profiles: a TOML file describes a device and how to measure on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from hwnas import plugins
from hwnas.architecture.runtimes import RuntimeName
from hwnas.errors import InvalidFile, UnknownName, UsageError
from hwnas.files import decode_toml, read_bytes
from hwnas.shipped import shipped

Count = Annotated[int, msgspec.Meta(ge=1)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]


class Hardware(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Specification of the hardware, from the vendor or from `hwnas devices add`."""

    source: str
    isa: str | None = None
    clock_hz: int | None = None
    cores: int | None = None
    l2_bytes: int | None = None
    ram_bytes: int | None = None


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the device can run; architectures beyond it are rejected before search."""

    model_bytes: int | None = None
    ops: tuple[str, ...] | None = None
    dtypes: tuple[Literal["float32", "int8"], ...] = ("float32",)


class MeasureSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How latencies on this device must be measured to be comparable."""

    threads: Count = 1
    warmup_runs: Annotated[int, msgspec.Meta(ge=0)] = 5
    """Least number of calls of every model before anything is timed."""
    warmup_s: NotNegative = 0.5
    """Least duration of the warm-up of a process."""
    processes: Count = 5
    """Fresh processes over which the rounds are split, with the models regrouped in each. The ratio
    of two models differs by 1 to 3 % from process to process, whatever the number of rounds, and
    would repeat for the same models in the same order."""
    runs: Count = 7
    """Timed calls of a model, and of the reference model next to it, in one round."""
    min_rounds: Count = 10
    max_rounds: Count = 40
    ci: NotNegative = 0.02
    """A model is steady when the half-width of its 95 % interval is below this share of the
    median."""
    max_s: NotNegative = 60.0
    """Time after which a batch of at most 16 models stops, though not before ``min_rounds``."""
    pin: bool = True
    """Pin the process to fixed cores."""
    wait_idle_s: NotNegative = 0.0
    """This machine only: longest wait for quiet cores before each worker process."""


class Simulation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A simulated device, for trying hwnas out and for tests."""

    call_ms: NotNegative
    """Cost of an empty call."""
    op_ms: NotNegative
    """Cost of each operator in addition to its arithmetic."""
    macs_per_ms: Positive
    """Speed of dense and pointwise convolutions and of linear layers."""
    depthwise_macs_per_ms: Positive
    noise: NotNegative = 0.0
    """Relative standard deviation of a single call; it depends on file and call number only."""
    file_s: NotNegative = 0.0
    """Time that the measurement of a file takes."""
    throttle_after_calls: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """Calls, of all models together, after which the device throttles."""
    throttled_speed: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.7
    """Speed of the throttled device as a share of its full speed."""
    drop_outs: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Number of times that the device is lost in the middle of a measurement. The count is stored
    in hwnas's own folder, so a command that is run again continues."""


class Remote(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Connection to a device that is not this machine, and the program that measures there."""

    serial: Annotated[str, msgspec.Meta(pattern=r"^([A-Za-z0-9\[][A-Za-z0-9._:\[\]-]*)?$")] = ""
    """adb: as `adb devices` lists it; ``HOST:PORT`` is connected first. Empty: the only phone."""
    host: Annotated[str, msgspec.Meta(pattern=r"^([A-Za-z0-9_][A-Za-z0-9_.@:%-]*)?$")] = ""
    """ssh: destination, which may be a name in the user's own ssh configuration."""
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | None = None
    identity_file: str | None = None
    known_hosts_file: str | None = None
    folder: str = ""
    """Folder on the device; empty: ``/data/local/tmp/hwnas`` (adb), ``.hwnas`` (ssh)."""
    python: str = "python3"
    """ssh: a Python interpreter, 3.10 or later, that has numpy and the runtime."""
    program: Literal["worker", "native", "benchmark_model"] | None = None
    """Program that measures; default: the Python worker (ssh), the native runner (adb)."""
    kits: dict[str, str] = {}
    """Folder of the native runner by ABI, e.g. ``arm64-v8a``; default: that of `hwnas kit`."""
    benchmark_binary: dict[str, str] = {}
    """Local file of TFLite's ``benchmark_model`` by ABI, or for ``any``."""
    benchmark_flags: tuple[str, ...] = ()
    """Additional flags for ``benchmark_model``, e.g. ``--use_gpu=true``."""
    cores: tuple[int, ...] = ()
    """Cores to pin to; empty: the last ones."""
    limit_s: Positive = 1800.0
    """Time limit on the device for one measuring process, for each 16 models that it measures."""
    patience_s: NotNegative = 20.0
    """How long to wait for a lost device before the measurement fails."""


class Cluster(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Devices of one kind that nodes of a Ray cluster reach, and that measure at once."""

    address: str
    """``HOST:PORT`` of the cluster's head, or ``auto`` on one of its nodes."""
    devices: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
    """Names of the devices' profiles on the nodes that reach them. A node is started with the
    resource ``device:NAME`` for each of its devices."""


class GpuSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An NVIDIA GPU of the machine that the transport reaches, and how to compute on it."""

    provider: Literal["cuda", "tensorrt", "torch"] = "cuda"
    """``cuda`` and ``tensorrt`` are providers of ONNX Runtime."""
    number: Annotated[int, msgspec.Meta(ge=0)] = 0
    """CUDA's number of the GPU, see `hwnas.devices.worker.runtimes.cuda`."""
    precision: Literal["fp32", "tf32", "fp16"] = "fp32"


class DeviceProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A device with one runtime and one way to measure."""

    name: str
    title: str
    kind: Literal["cpu", "gpu", "android", "simulated"]
    runtime: RuntimeName
    transport: Literal["local", "adb", "ssh", "simulated", "ray"]
    hardware: Hardware
    default_input: tuple[int, int, int] | None = None
    """Input shape that the device's latency table covers; ``None``: the data's."""
    limits: Limits = Limits()
    measure: MeasureSpec = MeasureSpec()
    simulation: Simulation | None = None
    gpu: GpuSpec | None = None
    """Required where ``kind = "gpu"``, unless `runner` names another runner."""
    remote: Remote | None = None
    """Required to reach a device by adb or ssh; without it only the device's latency models are
    usable."""
    cluster: Cluster | None = None
    """Required where ``transport = "ray"``."""
    runner: str = ""
    """Name of an entry point in ``hwnas.runners``; empty: the transport's runner."""
    emulated: bool = False
    """Whether the device is emulated: it runs the files, but not at the speed of a real device."""

    @property
    def reachable(self) -> bool:
        """Whether hwnas can connect to the device."""
        here = self.transport in ("local", "simulated", "ray")
        return bool(self.runner) or here or bool(self.remote)


def read_profile(file: Traversable) -> DeviceProfile:
    """Read a profile. Raises `InvalidFile`, with the path of the invalid or unknown field."""
    profile = decode_toml(read_bytes(file), DeviceProfile, str(file))
    stem = file.name.removesuffix(".toml")
    spec = profile.measure
    if profile.name != stem:
        why = f"Expected name {stem!r} as the file's, got {profile.name!r} - at `$.name`"
    elif (profile.transport == "simulated") != (profile.simulation is not None):
        why = (
            'Expected a [simulation] table exactly where transport = "simulated"'
            " - at `$.simulation`"
        )
    elif (profile.transport == "ray") != (profile.cluster is not None):
        why = 'Expected a [cluster] table exactly where transport = "ray" - at `$.cluster`'
    elif (gpu_why := _check_gpu(profile)) is not None:
        why = gpu_why
    elif spec.max_rounds < spec.min_rounds:
        why = (
            f"Expected at least min_rounds = {spec.min_rounds}, got {spec.max_rounds}"
            " - at `$.measure.max_rounds`"
        )
    elif (remote_why := _check_remote(profile)) is not None:
        why = remote_why
    else:
        return profile
    raise InvalidFile(str(file), why)


def _check_gpu(profile: DeviceProfile) -> str | None:
    """Return what is wrong with the [gpu] table, or ``None``."""
    gpu = profile.gpu
    if gpu is None:
        if profile.kind == "gpu" and profile.transport == "local" and not profile.runner:
            return 'Expected a [gpu] table where kind = "gpu" - at `$.gpu`'
        return None
    if profile.kind != "gpu" or profile.transport not in ("local", "ssh"):
        return (
            'Expected a [gpu] table only where kind = "gpu" and transport is local or ssh'
            " - at `$.gpu`"
        )
    runtime = "torch" if gpu.provider == "torch" else "onnxruntime"
    if profile.runtime != runtime:
        return f"{gpu.provider!r} needs runtime = {runtime!r} - at `$.gpu.provider`"
    if gpu.provider == "cuda" and gpu.precision == "fp16":
        return (
            "The CUDA provider computes in the precision of the file: expected fp32 or tf32 (fp16 "
            "needs tensorrt or torch) - at `$.gpu.precision`"
        )
    if profile.remote is not None and profile.remote.program not in (None, "worker"):
        return (
            f"Expected 'worker', since {profile.remote.program!r} measures no GPU"
            " - at `$.remote.program`"
        )
    return None


def _check_remote(profile: DeviceProfile) -> str | None:
    """Return what is wrong with the [remote] table, or ``None``."""
    remote = profile.remote
    if remote is None:
        return None
    if profile.transport not in ("adb", "ssh"):
        return (
            f"Expected no [remote] table, since transport = {profile.transport!r} - at `$.remote`"
        )
    if profile.transport == "ssh" and not remote.host:
        return "Expected a host name - at `$.remote.host`"
    for name, given in (("host", remote.host), ("serial", remote.serial)):
        if given and name != {"adb": "serial", "ssh": "host"}[profile.transport]:
            return f"Expected no {name}, since transport = {profile.transport!r} - at `$.remote`"
    if ".." in remote.folder.split("/") or remote.folder == "/" or "\0" in remote.folder:
        return f"Expected a folder for hwnas alone, got {remote.folder!r} - at `$.remote.folder`"
    if remote.program == "benchmark_model" and not remote.benchmark_binary:
        return "Expected a file for each ABI - at `$.remote.benchmark_binary`"
    if remote.program == "benchmark_model" and profile.runtime != "litert":
        return "'benchmark_model' needs runtime = 'litert' - at `$.remote.program`"
    native = remote.program == "native" or profile.transport == "adb"
    if native and profile.runtime == "torch":
        return "The native runner has no PyTorch: expected litert or onnxruntime - at `$.runtime`"
    if remote.program == "worker" and profile.transport == "adb":
        return (
            "A phone has no Python: expected 'native' or 'benchmark_model' - at `$.remote.program`"
        )
    if bad := [flag for flag in remote.benchmark_flags if not flag.startswith("--")]:
        return f"Expected flags like --use_gpu=true, got {bad[0]!r} - at `$.remote.benchmark_flags`"
    return None


def with_benchmark_binary(profile: DeviceProfile, file: str) -> DeviceProfile:
    """Return the profile with the user's own ``benchmark_model`` as the measuring program.

    Raises `UsageError` for a device that cannot run it.
    """
    if profile.remote is None or profile.transport not in ("adb", "ssh"):
        raise UsageError(
            f"--benchmark-binary: expected a device by adb or ssh; {profile.name} has no [remote]"
        )
    remote = msgspec.structs.replace(
        profile.remote, program="benchmark_model", benchmark_binary={"any": file}
    )
    changed = msgspec.structs.replace(profile, remote=remote)
    if (why := _check_remote(changed)) is not None:
        raise UsageError(f"--benchmark-binary: {profile.name}: {why}")
    if not Path(file).is_file():
        raise UsageError(f"--benchmark-binary: {file}: no such file")
    return changed


def find_profile(name: str | DeviceProfile) -> DeviceProfile:
    """Return a profile by path (with ``/``, or ending in ``.toml``), or else by name.

    A `DeviceProfile` is returned unchanged. Raises `UnknownName`, or `InvalidFile` as
    `read_profile`.
    """
    if isinstance(name, DeviceProfile):
        return name
    if "/" in name or name.endswith(".toml"):
        return read_profile(Path(name))
    files = {file.name.removesuffix(".toml"): file for file in profile_files()}
    if name not in files:
        raise UnknownName("device", name, files)
    return read_profile(files[name])


def profile_files() -> Iterator[Traversable]:
    """Yield all known profiles; the last one of a name takes precedence.

    First come those of packages: an entry point in ``hwnas.devices`` names a function that returns
    a folder (the first package by name takes precedence). Then come hwnas's own, then those in
    ``$HWNAS_DEVICES``. A broken package hides no other device; `hwnas plugins` reports it.
    """
    for name in reversed(plugins.names("device")):
        try:
            yield from toml_files(plugins.load("device", name)())
        except Exception:
            continue
    yield from toml_files(shipped("devices"))
    if own := os.environ.get("HWNAS_DEVICES"):
        if not Path(own).is_dir():
            raise UsageError(f"HWNAS_DEVICES: {own} is not a folder")
        yield from toml_files(Path(own))


def toml_files(folder: Traversable) -> list[Traversable]:
    """Return the profiles in a folder, sorted by name."""
    files = [file for file in folder.iterdir() if file.name.endswith(".toml")]
    return sorted(files, key=lambda file: file.name)
