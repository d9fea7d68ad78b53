"""The width of a space where nobody asked for one: as wide as the budget lets it be.

The decisions of a space don't change its scale (`hwnas.specialize.pairs`): a search that has to
fill a generous budget at narrow widths spends it on slow kernels, and a plain uniform network that
is wider sees more. So a budget that is given in ms is compared with what the uniform
MobileNetV2-like network takes at each width, measured on the device. Wide networks learn slowly: a
short effort stays at the space's own width.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from hwnas.architecture.runtimes import RUNTIMES
from hwnas.console import Console
from hwnas.devices.limits import check_space_size
from hwnas.devices.profile import DeviceProfile
from hwnas.devices.runner import Runner, Subject, file_sha256, reference_file
from hwnas.errors import UsageError
from hwnas.latency_models.storage.store import calibration
from hwnas.profiling.bench import compile_untrained
from hwnas.spaces.int8 import in_float
from hwnas.spaces.mobile.space import UNIFORM, MobileSpace, mobilenet_v2_like, scaled
from hwnas.specialize.run_folder import Config, read_config
from hwnas.specialize.setup.budget import parse_budget
from hwnas.specialize.setup.effort import find_effort
from hwnas.specialize.setup.plan import PRECISIONS, asked_of
from hwnas.specialize.setup.target import Target

WIDTHS = (1.5, 2.0, 3.0)
BLOCK = UNIFORM[0]
"""Of the uniform network: MobileNetV2's own."""


def widened(config: Config, console: Console, folder: Path | None = None) -> Config:
    """Return ``config`` with the width multiplier that its budget in ms allows.

    It stays as it is where a width or another space than the default one was asked for, where the
    effort is short, where the budget is a share of the space or its default, and where the device
    can't be measured. A run that was begun in ``folder`` keeps its width.
    """
    if config.width_mult or not config.budget or parse_budget(config.budget)[1]:
        return config
    if folder is not None and (folder / "config.toml").exists():
        return msgspec.structs.replace(config, width_mult=read_config(folder).width_mult)
    if not find_effort(config.effort).widens:
        return config
    if config.space != "mobile" or config.precision not in PRECISIONS or "," in config.resolution:
        return config
    target, _, space = asked_of(config)
    inner = in_float(space)
    if not isinstance(inner, MobileSpace) or target.runner is None or config.latency_model:
        return config
    budget_ms = parse_budget(config.budget)[0]
    widths = [one for one in WIDTHS if _fits(scaled(inner, one), target.profile)]
    try:
        latencies_ms = _uniform_ms(target, target.runner, inner, widths)
    finally:
        target.runner.close()
    width = max((one for one, ms in latencies_ms.items() if ms <= budget_ms), default=0.0)
    if not width:
        return config
    console.say(
        f"--width-mult {width:g}: the uniform network {BLOCK.name} x{width:g} takes "
        f"{latencies_ms[width]:.4g} ms of {budget_ms:.4g}, so the space is searched as wide"
    )
    return msgspec.structs.replace(config, width_mult=f"{width:g}")


def _fits(space: MobileSpace, profile: DeviceProfile) -> bool:
    """Whether the device takes files of such a space at all."""
    try:
        check_space_size(space, profile)
    except UsageError:
        return False
    return True


def _uniform_ms(
    target: Target, runner: Runner, space: MobileSpace, widths: Sequence[float]
) -> dict[float, float]:
    """Measure the uniform network of each width on the target."""
    if not widths:
        return {}
    runtime = RUNTIMES[target.profile.runtime]
    with tempfile.TemporaryDirectory() as scratch:
        subjects: list[Subject] = []
        for width in widths:
            one = mobilenet_v2_like(space, BLOCK, width)
            file = Path(scratch) / f"uniform-{width:g}{runtime.suffix}"
            compile_untrained(one.blocks, one.inputs, runtime.format, file)
            subjects.append(Subject(f"{width:g}", file))
        reference = file_sha256(reference_file(runtime.name))
        measured = runner.measure(
            subjects, calibrated_reference_ms=calibration(runner.probe(), reference)
        )
    return {float(one.name): one.median_ms for one in measured}
