"""Device profiles: one TOML file describes one device and how to measure on it."""

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
from hwnas.shipped import shipped

Count = Annotated[int, msgspec.Meta(ge=1)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]


class Hardware(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the vendor says. For the machine in front of you the probe fills it in."""

    source: str
    isa: str | None = None
    clock_hz: int | None = None
    cores: int | None = None
    l2_bytes: int | None = None
    ram_bytes: int | None = None


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the device can run; an architecture outside is rejected before search."""

    model_bytes: int | None = None
    ops: tuple[str, ...] | None = None
    dtypes: tuple[Literal["float32", "int8"], ...] = ("float32",)


class MeasureSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a latency must be taken on this device to be comparable."""

    threads: Count = 1
    warmup_runs: Annotated[int, msgspec.Meta(ge=0)] = 5
    """Calls of every model before anything is timed, at least."""
    warmup_s: NotNegative = 0.5
    """Length of the warm-up of a batch of models, at least."""
    processes: Count = 5
    """Fresh processes over which a model's rounds are spread, each in other company: the ratio of
    two models differs from one process to the next by a percent or three, however many rounds each
    takes, and the same for the same models in the same order."""
    runs: Count = 7
    """Timed calls of a model, and of the reference beside it, in one round."""
    min_rounds: Count = 10
    max_rounds: Count = 40
    ci: NotNegative = 0.02
    """Stop when the 95 % interval's half-width is below this share of the median."""
    max_s: NotNegative = 60.0
    """Stop a batch after this time, but not before ``min_rounds``."""
    pin: bool = True


class Simulation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A device that exists only as arithmetic, for trying out and for tests."""

    call_ms: NotNegative
    """Cost of an empty call."""
    op_ms: NotNegative
    """Cost of each operator beside its arithmetic."""
    macs_per_ms: Positive
    """Speed of dense and pointwise convolutions and of the linear layer."""
    depthwise_macs_per_ms: Positive
    noise: NotNegative = 0.0
    """Relative standard deviation of a single call; deterministic in file and call number."""
    throttle_after_calls: Annotated[int, msgspec.Meta(ge=0)] | None = None
    """Calls of all models together after which the device is hot and runs slower."""
    throttled_speed: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.7
    """Speed of a hot device, as a share."""
    drop_outs: Annotated[int, msgspec.Meta(ge=0)] = 0
    """How often the device is lost in the middle of a measurement, before it stays. What was lost
    is counted in hwnas's own folder, so a command that is called again goes on."""


class Remote(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The way to a device that is not this machine, and what runs there."""

    serial: Annotated[str, msgspec.Meta(pattern=r"^([A-Za-z0-9\[][A-Za-z0-9._:\[\]-]*)?$")] = ""
    """adb: as `adb devices` lists it; ``HOST:PORT`` is connected first. Empty: the only device."""
    host: Annotated[str, msgspec.Meta(pattern=r"^([A-Za-z0-9_][A-Za-z0-9_.@:%-]*)?$")] = ""
    """ssh: as after ``ssh``, a name of the user's own configuration too."""
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)] | None = None
    identity_file: str | None = None
    known_hosts_file: str | None = None
    folder: str = ""
    """Where files go on the device; empty: ``/data/local/tmp/hwnas``, of a host ``.hwnas``."""
    python: str = "python3"
    """Of a host: an interpreter that has numpy and the runtime."""
    program: Literal["worker", "native", "benchmark_model"] | None = None
    """What measures there; by default the Python worker on hosts, the native runner on phones."""
    kits: dict[str, str] = {}
    """Folder of the native runner by ABI, e.g. ``arm64-v8a``; else where ``hwnas kit`` put it."""
    benchmark_binary: dict[str, str] = {}
    """TFLite's ``benchmark_model`` by ABI, or of ``any``; a file here."""
    benchmark_flags: tuple[str, ...] = ()
    """Further flags of ``benchmark_model``, e.g. ``--use_gpu=true``."""
    cores: tuple[int, ...] = ()
    """Cores to pin to; empty: the last ones."""
    limit_s: Positive = 1800.0
    """Time limit on the device for one process of measuring."""
    patience_s: NotNegative = 20.0
    """How long a lost device is waited for before the measuring ends."""


class GpuSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An NVIDIA GPU of the machine that the transport leads to, and what computes on it."""

    provider: Literal["cuda", "tensorrt", "torch"] = "cuda"
    """``cuda`` and ``tensorrt`` are ONNX Runtime's."""
    number: Annotated[int, msgspec.Meta(ge=0)] = 0
    """As CUDA counts, see `hwnas.devices.worker.runtimes.cuda`."""
    precision: Literal["fp32", "tf32", "fp16"] = "fp32"


class DeviceProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One device, one runtime, one way to measure."""

    name: str
    title: str
    kind: Literal["cpu", "gpu", "android", "simulated"]
    runtime: RuntimeName
    transport: Literal["local", "adb", "ssh", "simulated"]
    hardware: Hardware
    default_input: tuple[int, int, int] | None = None
    """Input shape that the device's latency table covers; ``None``: that of the data."""
    limits: Limits = Limits()
    measure: MeasureSpec = MeasureSpec()
    simulation: Simulation | None = None
    gpu: GpuSpec | None = None
    """Exactly where ``kind = "gpu"``, except with a runner of one's own."""
    remote: Remote | None = None
    """Needed to reach a device by adb or ssh; without it only its latency models are known."""
    runner: str = ""
    """Name of the runner (entry point `hwnas.runners`) if not that of the transport."""
    emulated: bool = False
    """Runs the files, but not at a real device's speed: latencies are never ``measured``."""

    @property
    def reachable(self) -> bool:
        """Whether there is a way to the device, not only knowledge of it."""
        return bool(self.runner) or self.transport in ("local", "simulated") or bool(self.remote)


def read_profile(file: Traversable) -> DeviceProfile:
    """Read one profile; a wrong or unknown field is named with its path."""
    try:
        profile = msgspec.toml.decode(file.read_bytes(), type=DeviceProfile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidFile(str(file), str(error)) from None
    except OSError as error:
        raise InvalidFile(str(file), error.strerror or str(error)) from None
    stem = file.name.removesuffix(".toml")
    spec = profile.measure
    if profile.name != stem:
        why = f"Expected name {stem!r} as the file's, got {profile.name!r} - at `$.name`"
    elif (profile.transport == "simulated") != (profile.simulation is not None):
        why = (
            'Expected a [simulation] table exactly where transport = "simulated"'
            " - at `$.simulation`"
        )
    elif (gpu_why := _wrong_gpu(profile)) is not None:
        why = gpu_why
    elif spec.max_rounds < spec.min_rounds:
        why = (
            f"Expected at least min_rounds = {spec.min_rounds}, got {spec.max_rounds}"
            " - at `$.measure.max_rounds`"
        )
    elif (remote_why := _wrong_remote(profile)) is not None:
        why = remote_why
    else:
        return profile
    raise InvalidFile(str(file), why)


def _wrong_gpu(profile: DeviceProfile) -> str | None:
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
    wanted = "torch" if gpu.provider == "torch" else "onnxruntime"
    if profile.runtime != wanted:
        return f"{gpu.provider!r} needs runtime = {wanted!r} - at `$.gpu.provider`"
    if gpu.provider == "cuda" and gpu.precision == "fp16":
        return (
            "The CUDA provider computes as the file says: expected fp32 or tf32 (fp16 is of "
            "tensorrt and torch) - at `$.gpu.precision`"
        )
    if profile.remote is not None and profile.remote.program not in (None, "worker"):
        return f"{profile.remote.program!r} measures no GPU, 'worker' does - at `$.remote.program`"
    return None


def _wrong_remote(profile: DeviceProfile) -> str | None:
    remote = profile.remote
    if remote is None:
        return None
    if profile.transport not in ("adb", "ssh"):
        return (
            f"Expected no [remote] table, since transport = {profile.transport!r} - at `$.remote`"
        )
    if profile.transport == "ssh" and not remote.host:
        return "Expected the name of a host - at `$.remote.host`"
    for name, given in (("host", remote.host), ("serial", remote.serial)):
        if given and name != {"adb": "serial", "ssh": "host"}[profile.transport]:
            return f"Expected no {name}, since transport = {profile.transport!r} - at `$.remote`"
    if ".." in remote.folder.split("/") or remote.folder == "/" or "\0" in remote.folder:
        return f"Expected a folder of its own, got {remote.folder!r} - at `$.remote.folder`"
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
    if bad := [one for one in remote.benchmark_flags if not one.startswith("--")]:
        return f"Expected flags like --use_gpu=true, got {bad[0]!r} - at `$.remote.benchmark_flags`"
    return None


def with_benchmark_binary(profile: DeviceProfile, file: str) -> DeviceProfile:
    """Return the profile with the user's own ``benchmark_model`` as what measures there.

    Raises `UsageError` for a device that takes none.
    """
    if profile.remote is None or profile.transport not in ("adb", "ssh"):
        raise UsageError(
            f"--benchmark-binary: is for devices by adb or ssh; {profile.name} has no [remote]"
        )
    remote = msgspec.structs.replace(
        profile.remote, program="benchmark_model", benchmark_binary={"any": file}
    )
    changed = msgspec.structs.replace(profile, remote=remote)
    if (why := _wrong_remote(changed)) is not None:
        raise UsageError(f"--benchmark-binary: {profile.name}: {why}")
    if not Path(file).is_file():
        raise UsageError(f"--benchmark-binary: {file}: no such file")
    return changed


def find_profile(name: str) -> DeviceProfile:
    """Return a profile by path (has ``/`` or ends in ``.toml``), else by name."""
    if "/" in name or name.endswith(".toml"):
        return read_profile(Path(name))
    files = {file.name.removesuffix(".toml"): file for file in profile_files()}
    if name not in files:
        raise UnknownName("device", name, files)
    return read_profile(files[name])


def profile_files() -> Iterator[Traversable]:
    """Yield all known profiles; of one name the last wins.

    First those of packages: an entry point of ``hwnas.devices`` names a function that returns a
    folder (of two packages the first by name wins). Then hwnas's own, then those in
    ``$HWNAS_DEVICES``. A broken package hides no other device; `hwnas plugins` tells of it.
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
    """Return the profiles of a folder, by name."""
    files = [file for file in folder.iterdir() if file.name.endswith(".toml")]
    return sorted(files, key=lambda file: file.name)
