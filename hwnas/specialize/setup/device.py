"""The training device: chosen once for a run, and the same when the run is resumed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from hwnas.errors import UsageError
from hwnas.files import read_json, write_json
from hwnas.processes import cores, physical_cores
from hwnas.specialize.setup.augmentation import PHOTO_SIZE
from hwnas.specialize.spec import RunSpec
from hwnas.training.compute import Compute, resolve_compute, visible_gpus


def settle_compute(
    spec: RunSpec, folder: Path | None, choose_threads: Callable[[Compute], int] = lambda _: 1
) -> Compute:
    """Return the device, precision and threads of a run, stored in its ``folder``.

    A resumed run keeps its own, unless the specification names another device. Raises `UsageError`
    if the device is not available. ``choose_threads`` is called for a new run without a number.
    """
    file = None if folder is None else folder / "compute.json"
    if file is None or not file.exists():
        compute = resolve_compute(spec.device, spec.amp)
        threads = choose_threads(compute) if spec.threads == "auto" else spec.threads
        compute = msgspec.structs.replace(compute, threads=threads)
    else:
        stored = read_json(file, Compute)
        if spec.device != "auto":
            stored = resolve_compute(spec.device, spec.amp, stored.threads)
        compute = _checked(stored, folder)
    if file is not None:
        write_json(file, compute)
    return compute


def child_gpus(device: str, compute: Compute) -> tuple[str, ...]:
    """Return the GPUs for trainings in separate processes, as in CUDA_VISIBLE_DEVICES: all, unless
    ``device`` names one."""
    if compute.kind != "cuda":
        return ()
    gpus = visible_gpus()
    every = device in ("auto", "cuda")
    return tuple(gpus) if every else (gpus[int(compute.device.partition(":")[2])],)


def training_threads(size: int, networks: int) -> int:
    """Return the threads of each training of ``networks`` on images of a height in pixels: they
    share the cores, but small images need only one thread."""
    return 1 if size < PHOTO_SIZE else max(1, physical_cores() // min(networks, cores()))


def _checked(stored: Compute, folder: Path | None) -> Compute:
    try:
        here = resolve_compute(stored.device, stored.amp, stored.threads)
    except UsageError as error:
        raise UsageError(
            f"{folder}: the run was started on {stored.device} ({error}); name the device that "
            "continues it with --device"
        ) from None
    return msgspec.structs.replace(here, threads=stored.threads)
