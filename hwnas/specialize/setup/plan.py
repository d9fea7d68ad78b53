"""What is settled before a search: device, data, space, latency model, budget, work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from random import Random
from statistics import fmean

import msgspec

from hwnas.architecture.runtimes import COMPILED
from hwnas.console import Console
from hwnas.data.datasets import Dataset, load_dataset
from hwnas.devices.limits import check_precision, check_space_size
from hwnas.devices.profile import DeviceProfile, find_profile
from hwnas.errors import DeviceError, UnknownName, UsageError
from hwnas.files import write_atomic
from hwnas.latency_models.model import LatencyModel
from hwnas.nn.auxiliary import WINDOW, auxiliary_place
from hwnas.plugins import names
from hwnas.processes import cores
from hwnas.search.eas.worker_pool import check_cluster
from hwnas.search.objective import OBJECTIVES
from hwnas.search.plan import SearchPlan
from hwnas.search.registry import load_strategy
from hwnas.spaces.cells.space import CellSpace
from hwnas.spaces.find import find_space
from hwnas.spaces.grown.space import GrownSpace
from hwnas.spaces.int8 import in_float, in_precision
from hwnas.spaces.mobile.space import MobileSpace, scaled
from hwnas.spaces.space import SearchSpace
from hwnas.specialize.context import RunContext
from hwnas.specialize.results.compose import latency_range
from hwnas.specialize.run_folder import Config, RunFolder
from hwnas.specialize.setup.batch_size import image_bytes, settled
from hwnas.specialize.setup.budget import parse_budget, resolve_budget
from hwnas.specialize.setup.effort import find_effort, plans
from hwnas.specialize.setup.options import strategy_options
from hwnas.specialize.setup.target import Target, find_target, model_of
from hwnas.training.distributed import ranks
from hwnas.training.loop import TrainingPlan

PRECISIONS = ("fp32", "int8")
AUXILIARY, DROP_PATH = 0.4, 0.2
"""Of cells that are trained for hundreds of epochs: DARTS (arXiv:1806.09055, appendix A.2)."""
"""What files are written and verified with: module and package."""


@contextmanager
def open_run(
    config: Config, path: Path, console: Console, resume: bool
) -> Iterator[tuple[RunContext, LatencyModel]]:
    """Resolve what a run needs and open its folder for the body, with its latency model."""
    target, dataset, space = asked_of(config)
    with ExitStack() as resources:
        if target.runner is not None:
            resources.callback(target.runner.close)
        folder = resources.enter_context(RunFolder.open(path, config, resume))
        with folder.stage("profile"):
            model = model_of(target, space, console, folder, config.latency_model)
        yield _context(folder, target, dataset, space, model, console), model


def _context(
    folder: RunFolder,
    target: Target,
    dataset: Dataset,
    space: SearchSpace,
    model: LatencyModel,
    console: Console,
) -> RunContext:
    config, costs = folder.config, model.costs(space)
    _check_repeat(folder.path, dataset)
    budget_ms = resolve_budget(config.budget or None, costs, costs.network_ms(space.usual.choices))
    effort = find_effort(config.effort)
    search_plan, training_plan = _plans(config, dataset, space, folder.path, console)
    console.say(
        f"{target.profile.name}: budget {budget_ms:.4g} ms of {costs.smallest_ms:.4g} to "
        f"{costs.largest_ms:.4g} ms; {dataset.name}: {len(dataset.train.labels)} training, "
        f"{len(dataset.valid.labels)} validation, {len(dataset.test.labels)} test images"
    )
    return RunContext(
        config,
        folder,
        target,
        dataset,
        space,
        budget_ms,
        effort,
        search_plan,
        training_plan,
        console,
    )


def plan(config: Config, console: Console) -> dict[str, object]:
    """Return what a run would do and the space's range on the target; measures a model if none."""
    target, dataset, space = asked_of(config)
    model = model_of(target, space, console, asked=config.latency_model)
    costs = model.costs(space)
    budget_ms = resolve_budget(config.budget or None, costs, costs.network_ms(space.usual.choices))
    search_plan, training_plan = _plans(config, dataset, space, None, console)
    return {
        "schema": 1,
        "dry_run": True,
        "results": [
            {
                "target": target.profile.name,
                "runtime": target.profile.runtime,
                "precision": config.precision,
                "budget_ms": budget_ms,
                "range_ms": latency_range(space, costs),
                "latency": {"kind": "table" if model.kind == "table" else "predicted"},
                "networks": space.size,
                "source": model.source,
            }
        ],
        "data": {
            "name": dataset.name,
            "train": len(dataset.train.labels),
            "valid": len(dataset.valid.labels),
            "test": len(dataset.test.labels),
            "input_shape": dataset.input_shape,
        },
        "search": search_plan,
        "training": training_plan,
    }


def load_images(config: Config, profile: DeviceProfile | None = None) -> Dataset:
    """Return the images of a run, in its resolution."""
    profile = profile or find_profile(config.target)
    dataset = load_dataset(config.data, input_shape=profile.default_input)
    if not config.resolution or int(config.resolution) == dataset.input_shape[1]:
        return dataset
    size = int(config.resolution)
    return load_dataset(config.data, input_shape=(dataset.input_shape[0], size, size))


def load_space(
    name: str,
    input_shape: tuple[int, int, int],
    num_classes: int,
    precision: str = "fp32",
    width_mult: str = "",
) -> SearchSpace:
    """Return the space of that name, its widths multiplied.

    Raises `UsageError` for a space whose widths are not to be.
    """
    space = find_space(name, input_shape, num_classes)
    if width_mult and float(width_mult) != 1:
        if not isinstance(space, MobileSpace):
            raise UsageError(
                f"--width-mult {width_mult}: the space {space.name!r} is no chain of blocks whose "
                "widths could be multiplied; mobile, ofa, proxyless and TOML chains are"
            )
        space = scaled(space, float(width_mult))
    return in_precision(space, precision)


def asked_of(config: Config) -> tuple[Target, Dataset, SearchSpace]:
    """Find what the configuration names; every error here comes before any work."""
    find_effort(config.effort)
    if config.budget:
        parse_budget(config.budget)
    if config.strategy not in names("strategy"):
        raise UnknownName("strategy", config.strategy, names("strategy"))
    if ranks() > 1 and not load_strategy(config.strategy).traits.parallel:
        raise UsageError(
            f"strategy {config.strategy!r} searches in one process: start it without torchrun"
        )
    if ranks() > 1 and config.precision != "fp32":
        raise UsageError(
            f"--precision {config.precision}: int8 files are tuned in one process: start it "
            "without torchrun"
        )
    _check_search(config)
    if config.precision not in PRECISIONS:
        raise UsageError(
            f"--precision {config.precision!r}: this version compiles {', '.join(PRECISIONS)}"
        )
    target = find_target(config.target)
    dataset = load_images(config, target.profile)
    _check_precision(config.precision, target.profile)
    space = load_space(
        config.space, dataset.input_shape, dataset.num_classes, config.precision, config.width_mult
    )
    load_strategy(config.strategy).check(in_float(space))
    _check_limits(space, target.profile)
    _check_runtimes(target.profile)
    return target, dataset, space


def _check_search(config: Config) -> None:
    """Raise `UsageError` for an objective or an estimator that is not there, or not for this."""
    if config.objective and config.objective not in OBJECTIVES:
        raise UnknownName("objective", config.objective, OBJECTIVES)
    if config.objective and not load_strategy(config.strategy).traits.uses_objective:
        raise UsageError(
            f"--objective {config.objective}: strategy {config.strategy!r} has no loss or reward "
            "that latency could enter; it keeps the budget in its choice of networks"
        )
    options = strategy_options(config)
    if not config.shrink and not hasattr(options, "shrink"):
        raise UsageError(
            f"--no-shrink: strategy {config.strategy!r} has no network to start from, only eas has"
        )
    if config.ray:
        if not hasattr(options, "ray"):
            raise UsageError(
                f"--ray {config.ray}: strategy {config.strategy!r} trains no networks of their own "
                "that a cluster could train, only eas does"
            )
        check_cluster(config.ray)
    if config.estimator != "full" and not hasattr(options, "estimator"):
        raise UsageError(
            f"--estimator {config.estimator}: strategy {config.strategy!r} has no such estimator, "
            "only proxyless has"
        )


def _check_precision(precision: str, profile: DeviceProfile) -> None:
    """Raise `UsageError` for a device that does not run it, or a missing quantiser."""
    check_precision(precision, profile)
    if precision != "int8":
        return
    if find_spec("ai_edge_quantizer") is None:
        raise UsageError('--precision int8 needs ai-edge-quantizer: pip install "hwnas[int8]"')


def _check_limits(space: SearchSpace, profile: DeviceProfile) -> None:
    """Raise `UsageError` for a space with operations that the device does not run, or of networks
    that are all too large for it."""
    check_space_size(space, profile)
    allowed = profile.limits.ops
    used = {site.block.op for site in space.sites()} | {block.op for block in space.fixed}
    if allowed is not None and (refused := sorted(used - set(allowed))):
        raise UsageError(
            f"{profile.name} runs {', '.join(allowed)}; the space {space.name!r} needs "
            f"{', '.join(refused)} too"
        )


def _check_runtimes(profile: DeviceProfile) -> None:
    """Raise `DeviceError` for a missing runtime, which would stop a run at its end only."""
    for runtime in COMPILED.values():
        try:
            import_module(runtime.module)
        except ImportError:
            raise DeviceError(
                f"{profile.name}: files are verified in ONNX Runtime and in LiteRT, and "
                f"{runtime.module} is not installed here: pip install {runtime.package}"
            ) from None


def _check_repeat(folder: Path, dataset: Dataset) -> None:
    """Refuse to resume a run whose data have changed."""
    path = folder / "data.json"
    now = {"name": dataset.name, "digest": dataset.digest}
    if not path.exists():
        write_atomic(path, msgspec.json.encode(now))
        return
    then = msgspec.json.decode(path.read_bytes())
    if then != now:
        raise UsageError(
            f"{folder}: the run was begun with other images (digest {then.get('digest')}, now "
            f"{now['digest']}); begin a new one with another --out"
        )


def _plans(
    config: Config, dataset: Dataset, space: SearchSpace, folder: Path | None, console: Console
) -> tuple[SearchPlan, TrainingPlan]:
    """Return what is searched and trained how long, in batches that fit the memory.

    A strategy may say what its step computes. ``folder`` keeps the batch size for a resumed run.
    """
    macs = _mean_macs(space)
    step_macs = load_strategy(config.strategy).traits.step_macs
    search_macs = macs if step_macs is None else step_macs(space)
    search, training = plans(
        find_effort(config.effort), len(dataset.train.labels), macs, config.flip, search_macs
    )
    if config.effort == "full" and isinstance(inner := in_float(space), CellSpace):
        usual = inner.architecture(inner.usual)
        deep = usual.blocks[auxiliary_place(usual)].out_size > WINDOW
        training = msgspec.structs.replace(
            training, drop_path=DROP_PATH, auxiliary=AUXILIARY if deep else 0.0
        )
    # networks are trained several at once; a search net may compute more than one
    at_once = max(1 if ranks() > 1 else cores(), search_macs / macs)
    size = settled(
        None if folder is None else folder / "batch_size.json",
        search.batch_size,
        at_once * _most_bytes(space),
        console.say,
    )
    if size == search.batch_size:
        return search, training
    rate = training.peak_learning_rate * size / search.batch_size
    return (
        msgspec.structs.replace(search, batch_size=size),
        msgspec.structs.replace(training, batch_size=size, peak_learning_rate=rate),
    )


def _most_bytes(space: SearchSpace) -> float:
    """Return what an image takes in the training of the usual network, or of the largest of a few
    random ones."""
    inner, rng = in_float(space), Random(0)
    drawn = [] if isinstance(inner, GrownSpace) else [inner.random(rng) for _ in range(4)]
    return max(image_bytes(inner.architecture(one)) for one in (inner.usual, *drawn))


def _mean_macs(space: SearchSpace) -> float:
    """Return the MACs of a random network; of a space that is grown those of the usual one: its
    largest networks are far beyond what a search meets."""
    if isinstance(in_float(space), GrownSpace):
        return space.architecture(space.usual).macs
    rng = Random(0)
    return fmean(space.architecture(space.random(rng)).macs for _ in range(64))
