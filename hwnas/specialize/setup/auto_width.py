"""The width of a space if none is given: as wide as the budget allows.

The decisions of a space don't change its scale: a search that has to fill a generous budget with
narrow layers spends it on slow kernels, while a wider uniform network has more capacity. So a
budget in ms is compared with the latency of the uniform MobileNetV2-like network at each width,
measured on the device. Wide networks learn slowly: a short effort keeps the space's own width.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from hwnas.architecture.runtimes import RUNTIMES
from hwnas.devices.limits import check_space_size
from hwnas.devices.profile import DeviceProfile
from hwnas.devices.runner import Runner, Subject, reference_sha256
from hwnas.errors import UsageError
from hwnas.latency_models.storage.store import calibration
from hwnas.profiling.bench import compile_untrained
from hwnas.spaces.int8 import in_float
from hwnas.spaces.mobile.space import UNIFORM, MobileSpace, mobilenet_v2_like, scaled
from hwnas.specialize.setup.effort import EFFORTS
from hwnas.specialize.setup.resolve import Resources, resolve
from hwnas.specialize.spec import Milliseconds, RunSpec, read_spec

WIDTHS = (1.5, 2.0, 3.0)
BLOCK = UNIFORM[0]
"""The block of MobileNetV2, used everywhere in the uniform network."""


def widened(spec: RunSpec, resources: Resources, folder: Path | None = None) -> RunSpec:
    """Return ``spec`` with the width multiplier that its budget in ms allows.

    It stays the same if a width or another space than the default one is given, the effort is
    short, the budget is no time, or the device can't be measured. A run that exists in ``folder``
    keeps its width.
    """
    if spec.width_mults or len(spec.budgets) != 1 or not isinstance(spec.budget, Milliseconds):
        return spec
    if folder is not None and (folder / "config.toml").exists():
        return msgspec.structs.replace(spec, width_mults=read_spec(folder).width_mults)
    single = len(spec.precisions) == 1 and len(spec.resolutions) <= 1
    if not single or spec.space != "mobile" or spec.latency_model:
        return spec
    if not EFFORTS[spec.effort].widens:
        return spec
    run = resolve(spec, resources)
    space, (profile, runner) = in_float(run.space), run.target
    if not isinstance(space, MobileSpace) or runner is None:
        return spec
    widths = [width for width in WIDTHS if _fits(scaled(space, width), profile)]
    latencies_ms = _uniform_ms(profile, runner, space, widths)
    budget_ms = spec.budget.value
    width = max((width for width, ms in latencies_ms.items() if ms <= budget_ms), default=None)
    if width is None:
        return spec
    resources.console.say(
        f"--width-mult {width:g}: the uniform network {BLOCK.name} x{width:g} takes "
        f"{latencies_ms[width]:.4g} of {budget_ms:.4g} ms, so the space is searched at this width"
    )
    return msgspec.structs.replace(spec, width_mults=(width,))


def _fits(space: MobileSpace, profile: DeviceProfile) -> bool:
    """Whether the device takes a file of at least the smallest network."""
    try:
        check_space_size(space, profile)
    except UsageError:
        return False
    return True


def _uniform_ms(
    profile: DeviceProfile, runner: Runner, space: MobileSpace, widths: Sequence[float]
) -> dict[float, float]:
    """Measure the uniform network of each width on the target."""
    if not widths:
        return {}
    runtime = RUNTIMES[profile.runtime]
    with tempfile.TemporaryDirectory() as scratch:
        subjects: list[Subject] = []
        for width in widths:
            network = mobilenet_v2_like(space, BLOCK, width)
            file = Path(scratch) / f"uniform-{width:g}{runtime.suffix}"
            compile_untrained(network.blocks, network.inputs, file)
            subjects.append(Subject(f"{width:g}", file))
        reference = reference_sha256(profile.runtime)
        measurements = runner.measure(
            subjects, calibrated_reference_ms=calibration(runner.probe(), reference)
        )
    return {float(each.name): each.median_ms for each in measurements}
