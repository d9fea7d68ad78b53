"""Checks of a run before any work, for errors that would otherwise occur hours later."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from hwnas.architecture.runtimes import COMPILED
from hwnas.devices import limits
from hwnas.devices.profile import DeviceProfile
from hwnas.errors import DeviceError, UnknownName, UsageError
from hwnas.search.objective import OBJECTIVES
from hwnas.search.registry import load_strategy, parse_options
from hwnas.spaces.space import SearchSpace
from hwnas.specialize.spec import Precision, RunSpec
from hwnas.training.distributed import ranks


def check_strategy(spec: RunSpec) -> None:
    """Raise `UsageError` for a strategy, option or objective that is unknown or does not fit."""
    traits = load_strategy(spec.strategy).traits
    parse_options(spec.strategy, spec.strategy_options).check()
    if ranks() > 1 and not traits.parallel:
        raise UsageError(
            f"strategy {spec.strategy!r} searches in one process: start it without torchrun; the "
            "trainings after its search use all GPUs of this machine then"
        )
    if ranks() > 1 and spec.precision != "fp32":
        raise UsageError(
            f"--precision {spec.precision}: int8 files are tuned in one process: start it without "
            "torchrun"
        )
    if ranks() > 1 and spec.minutes is not None:
        raise UsageError(
            f"--minutes {spec.minutes:g}: speed is measured in one process: start it without "
            "torchrun, or give an --effort"
        )
    if spec.objective and spec.objective not in OBJECTIVES:
        raise UnknownName("objective", spec.objective, OBJECTIVES)
    if spec.objective and not traits.uses_objective:
        raise UsageError(
            f"--objective {spec.objective}: strategy {spec.strategy!r} has no loss or reward that "
            "latency could enter; it keeps the budget in its choice of networks"
        )


def check_space(spec: RunSpec, space: SearchSpace) -> None:
    """Raise `UsageError` for a space that the strategy can't search."""
    load_strategy(spec.strategy).check(space)


def check_precision(precision: Precision, profile: DeviceProfile) -> None:
    """Raise `UsageError` for a precision that the device does not run, or a missing quantiser."""
    limits.check_precision(precision, profile)
    if precision == "int8" and find_spec("ai_edge_quantizer") is None:
        raise UsageError('--precision int8 needs ai-edge-quantizer: pip install "hwnas[int8]"')


def check_limits(space: SearchSpace, profile: DeviceProfile) -> None:
    """Raise `UsageError` for a space whose networks are all too large for the device, or that has
    operations which it does not run."""
    limits.check_space_size(space, profile)
    allowed = profile.limits.ops
    needed = {site.block.op for site in space.sites()} | {block.op for block in space.fixed}
    if allowed is not None and (refused := sorted(needed - set(allowed))):
        raise UsageError(
            f"{profile.name} runs {', '.join(allowed)}; the space {space.name!r} needs "
            f"{', '.join(refused)} too"
        )


def check_runtimes(profile: DeviceProfile) -> None:
    """Raise `DeviceError` if a runtime is missing with which a run verifies its files."""
    for runtime in COMPILED.values():
        try:
            import_module(runtime.module)
        except ImportError:
            raise DeviceError(
                f"{profile.name}: files are verified in ONNX Runtime and in LiteRT, and "
                f"{runtime.module} is not installed here: pip install {runtime.package}"
            ) from None
