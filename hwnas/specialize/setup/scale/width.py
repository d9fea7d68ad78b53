"""The width of a space if the user states none: as wide as the budget allows.

The decisions of a space don't change its scale: a search that has to fill a generous budget with
narrow layers spends it on slow kernels, while a wider uniform network has more capacity. So a
budget in ms is compared with the latency of the uniform MobileNetV2-like network at each width,
measured on the device. Wide networks learn slowly: a short effort keeps the space's own width.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from hwnas.recovery import is_run
from hwnas.spaces.int8 import in_float
from hwnas.spaces.mobile.space import UNIFORM, MobileSpace, mobilenet_v2_like, scaled
from hwnas.specialize.setup.effort import EFFORTS
from hwnas.specialize.setup.resolve import Resources, resolve
from hwnas.specialize.setup.scale.uniform import fits, measured_ms
from hwnas.specialize.spec import Milliseconds, RunSpec, read_spec

WIDTHS = (1.5, 2.0, 3.0)
BLOCK = UNIFORM[0]
"""The block of MobileNetV2, used everywhere in the uniform network."""


def widened(spec: RunSpec, resources: Resources, folder: Path | None = None) -> RunSpec:
    """Return ``spec`` with the width multiplier that its budget in ms allows.

    It stays the same if a width or another space than the default one is given, the effort is
    short, the budget is no time, or the device cannot be measured. A run that exists in ``folder``
    keeps its width.
    """
    if spec.width_mults or len(spec.budgets) != 1 or not isinstance(spec.budget, Milliseconds):
        return spec
    if folder is not None and is_run(folder):
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
    networks = {
        f"{width:g}": mobilenet_v2_like(space, BLOCK, width)
        for width in WIDTHS
        if fits(scaled(space, width), profile)
    }
    uniform_ms = measured_ms(networks, profile, runner)
    latencies_ms = {float(width): ms for width, ms in uniform_ms.items()}
    budget_ms = spec.budget.value
    width = max((width for width, ms in latencies_ms.items() if ms <= budget_ms), default=None)
    if width is None:
        return spec
    resources.console.say(
        f"--width-mult {width:g}: the uniform network {BLOCK.name} x{width:g} takes "
        f"{latencies_ms[width]:.4g} of {budget_ms:.4g} ms, so the space is searched at this width"
    )
    return msgspec.structs.replace(spec, width_mults=(width,))
