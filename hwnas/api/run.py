"""Specialise a network for a device, a latency budget and data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack

if TYPE_CHECKING:
    from hwnas.devices.profile import DeviceProfile
    from hwnas.report.report import Report
    from hwnas.specialize.tracking import Tracker


class SpecializeOptions(TypedDict, total=False):
    """Further options of `specialize`, the same as those of the command `hwnas specialize`."""

    pretrained: str
    """``--from``: trained network to tune on the data and cut to the budget, or ``"scratch"``."""
    siblings: Sequence[str]
    """Names of smaller trained networks, which are tuned and measured as alternatives."""
    space: str
    """Name or TOML file of the search space."""
    strategy: str
    strategy_options: dict[str, bool | int | float | str]
    """Options of that strategy alone, e.g. ``{"estimator": "two"}`` of ``proxyless``."""
    objective: str
    """How latency enters the search: ``lagrangian``, ``add#linear``, ``mul#log`` or ``hinge``."""
    precision: str | Sequence[str]
    """``fp32``, ``int8`` or both, of which the better file is delivered."""
    resolution: int | Sequence[int]
    """Height and width of the images in pixels, or several, of which the best is delivered."""
    width_mult: float | Sequence[float]
    """Factor of all widths of the space, or several, of which the best is delivered."""
    calibration: Literal["minmax", "percentile", "entropy"]
    """Calibration of the value ranges of int8 files; the default is ``minmax``."""
    max_drop: float
    """Validation accuracy, as a share of 1, that int8 may lose before it is fine-tuned."""
    tune_epochs: int
    """Epochs of that fine-tuning."""
    pixels: bool
    """Whether the files take pixels from 0 to 255 and normalise them themselves."""
    effort: Literal["trial", "quick", "standard", "full"]
    minutes: float
    """Duration that the run is planned for; by default as long as the effort takes."""
    latency_model: str
    """Name or file of the latency model; the default is the device's own."""
    raw: bool
    """Whether budgets are compared with this run's clock, not with calibrated latencies."""
    wait_idle_s: float
    """Longest wait for a quiet core before latencies are measured on this machine."""
    seed: int
    device: str
    """Device that searches and trains: ``cpu``, ``cuda``, ``cuda:1`` or ``mps``."""
    amp: Literal["auto", "none", "bf16", "fp16"]
    """Precision of training steps; the default is bf16 on GPUs that support it."""
    threads: int | Literal["auto"]
    """Threads that train the supernet."""
    skip_broken: bool
    """Whether images that cannot be read are left out instead of ending the run."""
    group_by: str
    """Column, or pattern in file names, that groups images, e.g. by person; a group is never
    divided between splits."""
    flip: bool
    """Whether training images may be mirrored; by default colour images are, grey ones are not."""
    share_weights: bool
    """Whether candidates of a block share weights by slicing."""


def specialize(
    target: str | Path | DeviceProfile | Sequence[str | Path | DeviceProfile] = "host-cpu",
    budget: str | float | Sequence[str | float] | None = None,
    data: object = "fashion-mnist-6k",
    *,
    out: str | Path | None = None,
    resume: bool = False,
    quiet: bool = False,
    tracker: Tracker | None = None,
    **options: Unpack[SpecializeOptions],
) -> Report:
    """Search, train, compile and measure a network for a device, a latency budget and data.

    ``target`` is the name of a device, a TOML file or a profile. ``budget`` is a latency such as
    ``"80ms"``, a number of milliseconds, or a share of the latency of the space's largest network
    such as ``"50%"``; the default is the latency of a uniform MobileNetV2-like network. Several
    targets and budgets share one supernet, and each has a result in the report.

    ``data`` is the name of a data set, an image folder, an ``.npz`` file, a dict of the arrays
    ``x_train, y_train, x_test, y_test`` (uint8 images ``[N, H, W]`` or ``[N, H, W, C]`` and class
    indices ``[N]``), or data sets in the style of torchvision, see
    `hwnas.data.datasets.make_dataset`.

    All files are written to ``out`` (default ``runs/TARGET``); with ``resume`` the run in that
    folder continues. ``tracker`` receives loss, accuracy and speed during the trainings, see
    `hwnas.specialize.tracking`.

    Raises `UsageError` or `UnknownName` for a wrong value, `DeviceError` for a device that does
    not answer, and `BudgetError` before any training for a budget that no network can keep. A
    budget that the trained networks miss is the verdict ``missed`` in the report, not an error.

        >>> import hwnas, numpy as np
        >>> rng = np.random.default_rng(0)
        >>> labels = np.arange(120) % 3
        >>> noise = rng.integers(0, 60, (120, 16, 16))
        >>> images = (80 * labels[:, None, None] + noise).astype("uint8")
        >>> report = hwnas.specialize(
        ...     target="simulated-phone",
        ...     budget="60%",
        ...     data={"x_train": images, "y_train": labels, "x_test": images, "y_test": labels},
        ...     effort="trial",
        ...     out="run",
        ...     quiet=True,
        ... )
        >>> report.results[0].latency.kind
        'simulated'

    """
    from hwnas.console import console
    from hwnas.specialize.flow import specialize as run
    from hwnas.specialize.run_folder import default_folder
    from hwnas.specialize.setup.python_values import run_request

    request = run_request(target, budget, data, options)
    names = [Path(name).stem for name in request.spec.targets]
    folder = Path(out) if out is not None else default_folder(names, resume)
    return run(
        request.spec,
        folder,
        console(quiet),
        resume,
        dataset=request.dataset,
        profiles=request.profiles,
        tracker=tracker,
    )
