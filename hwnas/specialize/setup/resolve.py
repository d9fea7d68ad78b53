"""Opens a run from its specification: every name in it is looked up once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple, Self

import msgspec

from hwnas.console import Console
from hwnas.data.datasets import Dataset, load_dataset
from hwnas.data.photos.labelled import ReadingOptions
from hwnas.errors import UsageError
from hwnas.files import write_atomic
from hwnas.latency_models.model import LatencyModel
from hwnas.latency_models.storage.model_file import write_model
from hwnas.latency_models.storage.store import measured_folder, read_model
from hwnas.nn.elastic.slices import NO_SLICES
from hwnas.profiling.setup import Shape, load_images, load_space
from hwnas.spaces.int8 import in_float
from hwnas.spaces.space import SearchSpace
from hwnas.specialize.card import data_warnings
from hwnas.specialize.context import RunContext
from hwnas.specialize.run_folder import RunFolder
from hwnas.specialize.setup import checks
from hwnas.specialize.setup.budget import resolve_budget
from hwnas.specialize.setup.device import settle_compute
from hwnas.specialize.setup.start.network import Start, find_start
from hwnas.specialize.setup.target import Target, find_target, model_of
from hwnas.specialize.setup.work.pace import Setting
from hwnas.specialize.setup.work.settle import settle_work
from hwnas.specialize.setup.work.threads import supernet_threads
from hwnas.specialize.spec import RunSpec
from hwnas.specialize.tracking import NO_TRACKING, Prefixed, Tracking
from hwnas.training.compute import CPU, Compute


class Resources:
    """Devices, data sets and latency models of a run, each opened once; a context manager."""

    def __init__(
        self, console: Console, tracking: Tracking = NO_TRACKING, folder: Path = Path()
    ) -> None:
        """``folder`` is that of the whole run."""
        self.console, self.tracking, self.folder = console, tracking, folder
        self.budgets = 1
        """Targets and budgets of the run that share one supernet, or one tuned network."""
        self._targets: dict[str, Target] = {}
        self._datasets: dict[tuple[str, Shape | None], Dataset] = {}
        self._models: dict[tuple[str, str], LatencyModel] = {}
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def target(self, name: str, wait_idle_s: float = 0.0) -> Target:
        if name not in self._targets:
            target = self._targets[name] = find_target(name, wait_idle_s)
            if target.runner is not None:
                self._closing.callback(target.runner.close)
        return self._targets[name]

    def dataset(
        self,
        name: str,
        *,
        input_shape: Shape | None = None,
        skip_broken: bool = False,
        group_by: str = "",
    ) -> Dataset:
        key = name, input_shape
        if key not in self._datasets:
            options = ReadingOptions(skip_broken, self.console.say, self.console.step, group_by)
            dataset = load_dataset(name, input_shape=input_shape, options=options)
            self._datasets[key] = self._datasets[name, dataset.input_shape] = dataset
        return self._datasets[key]

    def tracking_of(self, folder: Path) -> Tracking:
        """Return the tracking of a run in ``folder``, which may be one of several in a sweep."""
        if folder == self.folder or self.tracking is NO_TRACKING:
            return self.tracking
        prefix = folder.relative_to(self.folder).as_posix()
        return Tracking(Prefixed(self.tracking, prefix))

    def latency_model(self, target: Target, space: SearchSpace, name: str) -> LatencyModel:
        key = str(measured_folder(target.profile.name, space)), name
        if key not in self._models:
            self._models[key] = model_of(target, space, self.console, name)
        return self._models[key]


class ResolvedRun(NamedTuple):
    """A run of one target, budget, precision, resolution and width, before any work."""

    spec: RunSpec
    target: Target
    dataset: Dataset
    space: SearchSpace
    resources: Resources
    start: Start | None = None
    """The trained network that is cut; ``None``: networks are trained from scratch."""

    def dataset_at(self, input_shape: Shape) -> Dataset:
        """Return the data set with images of another shape ``(C, H, W)``."""
        if self.start is not None:
            return self.start.dataset_at(input_shape)
        return self.resources.dataset(
            self.spec.data,
            input_shape=input_shape,
            skip_broken=self.spec.skip_broken,
            group_by=self.spec.group_by,
        )

    def latency_model(self, folder: Path | None = None) -> LatencyModel:
        """Return the model that the run in ``folder`` started with, or else the target's."""
        stored = None if folder is None else folder / "latency_model.json"
        if stored is not None and stored.exists():
            return read_model(stored)
        return self.resources.latency_model(self.target, self.space, self.spec.latency_model)

    def budget_ms(self, model: LatencyModel) -> float:
        costs = model.costs(self.space)
        default_ms = costs.network_ms(self.space.default.choices)
        return resolve_budget(self.spec.budget, costs, default_ms)

    def setting(self, model: LatencyModel, compute: Compute) -> Setting:
        """Return the setting of a search with this latency model."""
        costs, budget_ms = model.costs(self.space), self.budget_ms(model)
        return Setting(
            self.spec,
            self.dataset,
            self.space,
            costs,
            budget_ms,
            compute,
            self.start,
            self.resources.budgets,
        )


def resolve(spec: RunSpec, resources: Resources) -> ResolvedRun:
    """Look up everything that ``spec`` names. Any error in it is raised here, before any work."""
    checks.check_strategy(spec)
    target = resources.target(spec.target, spec.wait_idle_s)
    load = partial(resources.dataset, skip_broken=spec.skip_broken, group_by=spec.group_by)
    checks.check_precision(spec.precision, target.profile)
    start = find_start(spec, load) if spec.starts_trained else None
    if start is None:
        dataset = load_images(spec.data, target.profile, spec.resolution, load)
        space = load_space(spec.space, dataset, spec.precision, spec.width_mult)
    else:
        dataset, space = start.dataset, start.space(spec.precision)
    checks.check_space(spec, in_float(space))
    checks.check_limits(space, target.profile)
    checks.check_runtimes(target.profile)
    return ResolvedRun(spec, target, dataset, space, resources, start)


@contextmanager
def open_run(spec: RunSpec, path: Path, resources: Resources, resume: bool) -> Iterator[RunContext]:
    """Resolve a run, and lock its folder during the body.

    The run's own copies of the latency model and of the plan make a resumed run the same.
    """
    start_s = time.perf_counter()
    run, console = resolve(spec, resources), resources.console
    with RunFolder.open(path, spec, resume, resources.console.say) as folder:
        with folder.stage("profile"):
            model = run.latency_model(path)
        write_model(model, path / "latency_model.json")
        if _check_data(path, run.dataset):
            for warning in data_warnings(run.dataset):
                console.say(f"{run.dataset.name}: {warning}")
        setting = run.setting(model, CPU)
        compute = settle_compute(spec, path, partial(supernet_threads, setting))
        setting = setting._replace(compute=compute)
        budget_ms, costs = setting.budget_ms, setting.costs
        work = settle_work(setting, path, console, start_s)
        data = run.dataset
        console.say(
            f"{run.target.profile.name}: budget {budget_ms:.4g} ms of {costs.smallest_ms:.4g} to "
            f"{costs.largest_ms:.4g} ms; {data.name}: {len(data.train.labels)} training, "
            f"{len(data.valid.labels)} validation, {len(data.test.labels)} test images"
        )
        for note in data.notes:
            console.say(f"{data.name}: {note}")
        yield RunContext(
            spec=spec,
            folder=folder,
            target=run.target,
            dataset=data,
            space=run.space,
            latency_model=model,
            budget_ms=budget_ms,
            effort=work.effort,
            search_plan=work.search,
            training_plan=work.training,
            compute=setting.compute,
            console=console,
            tracking=resources.tracking_of(path),
            load_at=run.dataset_at,
            weights=None if run.start is None else run.start.network.weights,
            slices=NO_SLICES if run.start is None else run.start.network.slices,
            siblings=() if run.start is None else run.start.siblings,
        )


def _check_data(folder: Path, dataset: Dataset) -> bool:
    """Return whether the run is new. Raises `UsageError` if it is resumed with other images than it
    started with."""
    path = folder / "data.json"
    now = {"name": dataset.name, "digest": dataset.digest}
    if not path.exists():
        write_atomic(path, msgspec.json.encode(now))
        return True
    before = msgspec.json.decode(path.read_bytes())
    if before != now:
        raise UsageError(
            f"{folder}: the run started with other images (digest {before.get('digest')}, now "
            f"{now['digest']}); start a new one with another --out"
        )
    return False
