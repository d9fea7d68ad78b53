"""The specification of a run: the options of `hwnas specialize` as one typed value.

It is parsed once, from a command line (`hwnas.specialize.options`) or from Python values. The run's
folder stores it as ``config.toml``, which ends in a hash, and in ``manifest.json``.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec

from hwnas.errors import InvalidFile, UsageError
from hwnas.export.recipe import Calibration
from hwnas.files import decode_toml, read_json
from hwnas.integrity import is_sealed_toml, seal_toml

Precision = Literal["fp32", "int8"]
EffortName = Literal["trial", "quick", "standard", "full"]
AmpName = Literal["auto", "none", "bf16", "fp16"]
Scalar = bool | int | float | str
Positive = Annotated[float, msgspec.Meta(gt=0)]
Count = Annotated[int, msgspec.Meta(ge=1)]
Value = TypeVar("Value")


class Milliseconds(msgspec.Struct, frozen=True, tag_field="unit", tag="ms"):
    """A latency budget in milliseconds."""

    value: Positive


class Share(msgspec.Struct, frozen=True, tag_field="unit", tag="share"):
    """A latency budget as a share of the latency of the space's largest network; 0.5 is a half."""

    value: Positive


Budget = Milliseconds | Share


SCRATCH = "scratch"
"""The value of ``--from`` for networks that are trained from random weights."""


class RunSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The devices, budgets, data and settings of a run: ``config.toml``.

    Several targets or budgets give one network each; of several precisions, resolutions or widths
    the best network is delivered.
    """

    targets: Annotated[tuple[str, ...], msgspec.Meta(min_length=1)] = ("host-cpu",)
    """Names of devices, or files of their profiles."""
    data: str = "fashion-mnist-6k"
    """A data set as `hwnas.data.datasets.load_dataset` takes it."""
    budgets: tuple[Budget, ...] = ()
    """Latency budgets; empty: the latency of the space's default network."""
    pretrained: str = ""
    """Trained network to cut (`hwnas.pretrained`), or `SCRATCH`; empty: photos start from one that
    is on this machine (`setup.start.default`)."""
    siblings: tuple[str, ...] = ()
    """Other trained networks, which are tuned without cuts and delivered if they are better."""
    space: str = "mobile"
    strategy: str = "proxyless"
    strategy_options: dict[str, Scalar] = {}
    """Options of that strategy alone, e.g. ``{"estimator": "two"}`` of ``proxyless``."""
    objective: str = ""
    """How latency enters the search; empty: the strategy's default."""
    precisions: Annotated[tuple[Precision, ...], msgspec.Meta(min_length=1)] = ("fp32",)
    resolutions: tuple[Count, ...] = ()
    """Heights and widths of the images in pixels; empty: those of the data set or the target."""
    width_mults: tuple[Positive, ...] = ()
    """Factors of all widths of the space; empty: 1, or the width that `setup.scale.width` finds."""
    calibration: Calibration | None = None
    """Calibration of the ranges of int8 files; ``None``: that of the format's recipe."""
    max_drop: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.02
    """Validation accuracy, as a share of 1, that int8 may lose before the network is fine-tuned."""
    tune_epochs: Annotated[int, msgspec.Meta(ge=0)] = 2
    """Epochs of that fine-tuning; 0: sensitive layers stay in float32 instead."""
    pixels: bool = False
    """Whether the files take pixels from 0 to 255 and normalise them themselves."""
    effort: EffortName = "quick"
    minutes: Positive | None = None
    """Time that the run should take; epochs are planned from measured speed. ``None``: as long as
    the effort takes."""
    latency_model: str = ""
    """File or name of the latency model; empty: the device's own."""
    raw: bool = False
    """Whether budgets are compared with this run's own clock, not with calibrated milliseconds."""
    wait_idle_s: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    """Longest wait for quiet cores of this machine before anything is measured on it."""
    seed: int = 0
    device: str = "auto"
    """Device of search and training: ``cpu``, ``cuda``, ``cuda:N`` or ``mps``."""
    amp: AmpName = "auto"
    """Precision of training steps; ``auto``: bf16 on GPUs that have it."""
    threads: Count | Literal["auto"] = "auto"
    """Threads of the supernet's training; a result is repeatable with the same number only."""
    skip_broken: bool = False
    """Whether images that can't be read are left out, instead of ending the run."""
    group_by: str = ""
    """Photos of one group stay in one split: a regular expression for names, or a column."""
    flip: bool | None = None
    """Whether training images may be mirrored; ``None``: colour images, but not grey ones."""
    share_weights: bool = True
    """Whether candidates of a block share weights by slicing (`hwnas.nn.supernet`)."""

    @property
    def starts_trained(self) -> bool:
        """Whether the run cuts a trained network that the user names."""
        return self.pretrained not in ("", SCRATCH)

    @property
    def target(self) -> str:
        """The target of a run that has only one."""
        return _single(self.targets)

    @property
    def precision(self) -> Precision:
        return _single(self.precisions)

    @property
    def budget(self) -> Budget | None:
        """The budget of a run that has only one; ``None``: the default network's latency."""
        return _single(self.budgets or (None,))

    @property
    def resolution(self) -> int | None:
        return _single(self.resolutions or (None,))

    @property
    def width_mult(self) -> float:
        return _single(self.width_mults or (1.0,))


def _single(values: tuple[Value, ...]) -> Value:
    [value] = values
    return value


def check_types(spec: RunSpec) -> RunSpec:
    """Return a specification that was made in Python, its numbers and choices checked."""
    try:
        return msgspec.convert(msgspec.to_builtins(spec), RunSpec)
    except msgspec.ValidationError as error:
        raise UsageError(f"the run's specification: {error}") from None


def encode_spec(spec: RunSpec) -> bytes:
    """Return the TOML that `read_spec` reads; a field of ``None`` is left out."""
    fields = msgspec.to_builtins(spec).items()
    content = msgspec.toml.encode({name: value for name, value in fields if value is not None})
    return seal_toml(content)


class Stated(msgspec.Struct, frozen=True):
    """The field of ``manifest.json`` that `read_spec` needs."""

    spec: RunSpec | None = None


def read_spec(folder: Path) -> RunSpec:
    """Read the specification of the run in ``folder``.

    If ``config.toml`` is missing or its hash differs, the specification in ``manifest.json`` is
    read. Raises `UsageError` if there is no run, `InvalidFile` if neither file can be used.
    """
    path = folder / "config.toml"
    if has_whole_spec(folder):
        return decode_toml(path.read_bytes(), RunSpec, str(path))
    with suppress(UsageError):
        stated = read_json(folder / "manifest.json", Stated).spec
        if stated is not None:
            return stated
    if not path.exists():
        raise UsageError(f"{folder}: there is no run to resume (no config.toml)")
    raise InvalidFile(
        str(path),
        "its hash is missing or differs, and manifest.json has no specification; start a new run "
        "with another --out",
    )


def has_whole_spec(folder: Path) -> bool:
    """Whether ``config.toml`` is there and was neither damaged nor edited."""
    path = folder / "config.toml"
    return path.is_file() and is_sealed_toml(path.read_bytes())
