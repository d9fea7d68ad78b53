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
    """Options of `specialize` beside device, budget and data; those of `hwnas specialize`."""

    pretrained: str
    """``--from``: trained network to tune on the data and cut to the budget, or ``"scratch"``."""
    siblings: Sequence[str]
    """Smaller trained networks to tune and measure beside what is cut."""
    space: str
    """Name or TOML file of the search space."""
    strategy: str
    strategy_options: dict[str, bool | int | float | str]
    """Options of that strategy alone, e.g. ``{"estimator": "two"}`` of ``proxyless``."""
    objective: str
    """How latency enters the search."""
    precision: str | Sequence[str]
    """``fp32`` or ``int8``; of several the better file is delivered."""
    resolution: int | Sequence[int]
    """Height and width of the images in pixels; of several the best file is delivered."""
    width_mult: float | Sequence[float]
    """Factor of all widths; of several the best file is delivered."""
    calibration: Literal["minmax", "percentile", "entropy"]
    """How the ranges of int8 files are measured; by default by the extremes."""
    max_drop: float
    """Validation accuracy, as a share of 1, that int8 may lose before it is fine-tuned."""
    tune_epochs: int
    pixels: bool
    """Whether the files take pixels from 0 to 255 and normalise them themselves."""
    effort: Literal["trial", "quick", "standard", "full"]
    minutes: float
    """Time that the run should take; by default as long as the effort takes."""
    latency_model: str
    """Name or file of the latency model; by default the device's own."""
    raw: bool
    """Whether budgets are compared with this run's clock, not with calibrated latencies."""
    wait_idle_s: float
    """Longest wait for a quiet core before latencies are measured on this machine."""
    seed: int
    device: str
    """Device that searches and trains: ``cpu``, ``cuda``, ``cuda:1`` or ``mps``."""
    amp: Literal["auto", "none", "bf16", "fp16"]
    """Precision of training steps; by default bf16 on GPUs that have it."""
    threads: int | Literal["auto"]
    skip_broken: bool
    """Whether images that can't be read are left out."""
    group_by: str
    """Column, or pattern in file names, of what must not be in two splits, such as one person."""
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

    ``budget`` is a latency such as ``"80ms"``, a number of milliseconds, or a share of the latency
    of the space's largest network such as ``"50%"``; without it, the latency of a uniform
    MobileNetV2-like network. Several targets and budgets share one supernet.

    ``data`` is the name of a data set, an image folder, an ``.npz`` file, a dict of the arrays
    ``x_train, y_train, x_test, y_test``, or data sets in the style of torchvision (see
    `hwnas.data.datasets.make_dataset`). ``target`` is a name, a TOML file or a profile.

    All files go to ``out`` (by default ``runs/TARGET``); with ``resume`` the run there continues.
    ``tracker`` gets loss, accuracy and speed while it trains (`hwnas.specialize.tracking`).
    A budget that no network keeps is the verdict ``missed`` in the report, not an error.

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
