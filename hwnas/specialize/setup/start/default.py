"""The network that a run starts from if the user states none."""

from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from hwnas.console import Console
from hwnas.data.datasets import count_photos, median_photo_px
from hwnas.errors import UsageError
from hwnas.pretrained.sources import Source, find_source, weights_file
from hwnas.recovery import is_run
from hwnas.specialize.spec import SCRATCH, RunSpec

MIN_PHOTO_PX = 64
"""Shorter side of most photos from which a trained network is worth its latency. An estimate, not
measured."""
MAX_PHOTOS = 100_000
"""Number of photos up to which a trained network saves time; with more, training from scratch is as
good. An estimate, not measured."""

DEFAULTS = ("efficientnet_lite0", "mobilenet_v3_large", "mobilenet_v2", "mnasnet1_0")
"""Networks for runs of photos, in order of preference; the first whose weights are on this machine
is used. All are designed for phones, and their blocks can be cut."""


def started(spec: RunSpec, folder: Path | None, console: Console) -> RunSpec:
    """Return ``spec`` with the network that it starts from, or `SCRATCH` for photos that have none.

    The specification of an existing run in ``folder`` is unchanged. Nothing is downloaded:
    ``console`` shows the command that downloads a network. Raises `UsageError` for siblings without
    a network to cut.
    """
    spec = _started(spec, folder, console)
    if spec.siblings and not spec.starts_trained:
        raise UsageError(
            f"--siblings {','.join(spec.siblings)}: they are compared with a trained network that "
            "is cut; give it by --from"
        )
    return spec


def _started(spec: RunSpec, folder: Path | None, console: Console) -> RunSpec:
    if spec.starts_trained and spec.strategy == RunSpec().strategy:
        return replace(spec, strategy="elastic")
    exists = folder is not None and is_run(folder)
    if spec.pretrained or exists or not _is_open(spec) or not _are_photos(spec.data):
        return spec
    source = _installed()
    if source is None:
        console.say(
            f"{spec.data}: photos are classified better by a trained network that is cut to the "
            f"budget: `{find_source(DEFAULTS[0]).obtained_by}`, and the same command starts from "
            "it; this run trains networks from scratch"
        )
        return replace(spec, pretrained=SCRATCH)
    console.say(
        f"--from {source.name}: photos start from a trained network whose weights are on this "
        f"machine; --from {SCRATCH} trains networks from scratch"
    )
    return replace(spec, pretrained=source.name, strategy="elastic")


def _is_open(spec: RunSpec) -> bool:
    """Return whether no option is given that only a search from scratch has."""
    default = RunSpec()
    fields = ("space", "strategy", "width_mults", "objective", "latency_model", "share_weights")
    return all(getattr(spec, field) == getattr(default, field) for field in fields)


def _are_photos(data: str) -> bool:
    """Return whether the data are photos, not too small and not too many."""
    if not 0 < count_photos(data) <= MAX_PHOTOS:
        return False
    return (median_photo_px(data) or 0) >= MIN_PHOTO_PX


def _installed() -> Source | None:
    """Return the first of `DEFAULTS` whose weights are on this machine."""
    return next((s for s in map(find_source, DEFAULTS) if weights_file(s) is not None), None)
