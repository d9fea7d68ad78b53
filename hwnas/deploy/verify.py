"""Verifies a bundle: hashes, outputs, accuracy, and the latency on its target."""

from __future__ import annotations

from pathlib import Path

import msgspec

from hwnas.deploy.bundle import Manifest, read_bundle
from hwnas.deploy.device import verify_outputs
from hwnas.deploy.samples import Agreement
from hwnas.devices.idle import waiting
from hwnas.devices.profile import DeviceProfile, find_profile
from hwnas.devices.runner import Subject, open_runner, reference_sha256
from hwnas.errors import BudgetError
from hwnas.latency_models.storage.store import calibration


class BundleLatency(msgspec.Struct, frozen=True):
    """The latency of a bundle's model, measured again."""

    kind: str
    """As in `Measurement`, e.g. ``measured`` or ``emulated``."""
    median_ms: float
    ci95_ms: tuple[float, float]
    promised_ms: float | None
    budget_ms: float | None


class BundleCheck(msgspec.Struct, frozen=True):
    """The result of verifying a bundle."""

    bundle: str
    agreement: Agreement
    latency: BundleLatency | None
    """None if it was not measured."""


def verify_bundle(
    folder: Path, target: str | None = None, measure: bool = True, wait_idle_s: float = 0.0
) -> BundleCheck:
    """Check hashes and outputs of a bundle and, if its target is reachable, measure its latency.

    ``target`` replaces the bundle's own. This machine waits for quiet cores before it measures, at
    most ``wait_idle_s``. Raises `ExportError` for a file or an output that has
    changed.
    """
    manifest, agreement = read_bundle(folder), verify_outputs(folder)
    latency = None
    if measure:
        profile = waiting(find_profile(target or manifest.target), wait_idle_s)
        latency = _measure(folder, manifest, profile) if profile.reachable else None
    return BundleCheck(str(folder), agreement, latency)


def check_budget(check: BundleCheck) -> None:
    """Raise `BudgetError` if the whole interval of the latency is above the budget.

    An emulated device is not judged, as it is slower than a real one.
    """
    latency = check.latency
    if latency is None or latency.budget_ms is None or latency.kind == "emulated":
        return
    if latency.ci95_ms[0] > latency.budget_ms:
        raise BudgetError(
            f"{latency.median_ms:.4g} ms {latency.kind}, the budget is {latency.budget_ms:.4g} ms"
        )


def _measure(folder: Path, manifest: Manifest, profile: DeviceProfile) -> BundleLatency:
    reference = reference_sha256(profile.runtime)
    with open_runner(profile) as runner:
        [measurement] = runner.measure(
            [Subject(manifest.model, folder / manifest.model)],
            calibrated_reference_ms=calibration(runner.probe(), reference),
        )
    return BundleLatency(
        measurement.kind,
        measurement.median_ms,
        measurement.ci95_ms,
        manifest.median_ms,
        manifest.budget_ms,
    )
