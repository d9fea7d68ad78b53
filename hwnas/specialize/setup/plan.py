"""The plan of search and training, with batches that fit the memory."""

from __future__ import annotations

from random import Random
from statistics import fmean

from msgspec.structs import replace

from hwnas.architecture.size import axes
from hwnas.console import Console
from hwnas.data.datasets import Dataset
from hwnas.nn.auxiliary import POOL_KERNEL_SIZE, auxiliary_place
from hwnas.search.registry import load_strategy
from hwnas.spaces.cells.space import CellSpace
from hwnas.spaces.dependent import as_dependent
from hwnas.spaces.elastic.space import ElasticSpace
from hwnas.spaces.int8 import in_float
from hwnas.spaces.space import SearchSpace
from hwnas.specialize.setup.augmentation import default_augmentation
from hwnas.specialize.setup.batch_size import processes_for, resolve_batch_size, step_image_bytes
from hwnas.specialize.setup.effort import EFFORTS, WorkPlan, plans
from hwnas.specialize.setup.start.network import Start
from hwnas.specialize.setup.work.cut import cut_plan
from hwnas.specialize.setup.work.recipes import recipe_of, recipe_plans, scaled_training
from hwnas.specialize.spec import RunSpec
from hwnas.training.compute import CPU, Compute

RANDOM_NETWORKS = 64
"""Networks from which the mean MACs of a space are computed."""


def work_plan(
    spec: RunSpec,
    dataset: Dataset,
    space: SearchSpace,
    console: Console,
    compute: Compute = CPU,
    start: Start | None = None,
) -> WorkPlan:
    """Return the plan of search and training, in batches that fit the memory of the device."""
    if isinstance(cut := in_float(space), ElasticSpace):
        return cut_plan(spec, dataset, cut, console, compute, start)
    macs, search_macs = _mean_macs(space), _search_macs(spec.strategy, in_float(space))
    images, shape = len(dataset.train.labels), dataset.input_shape
    effort = EFFORTS[spec.effort]
    if effort.is_papers:
        recipe = recipe_of(in_float(space), spec.strategy, shape[1])
        search, training = recipe_plans(recipe, images, shape, spec.flip)
        effort = replace(effort, arch_learning_rate=recipe.arch_learning_rate)
        training = replace(training, auxiliary=training.auxiliary * _has_auxiliary_place(space))
    else:
        augmentation = default_augmentation(shape, images, spec.flip)
        search, training = plans(effort, images, macs, augmentation, search_macs)
    # several networks are trained at once; a supernet may compute more than one network
    trained = effort.trained + effort.baselines
    if load_strategy(spec.strategy).traits.own_loop:
        trained = max(trained, effort.children)
    networks_at_once = max(processes_for(trained, compute), search_macs / macs)
    planned = max(search.batch_size, training.batch_size)
    size = resolve_batch_size(
        None,
        planned,
        networks_at_once * _max_image_bytes(space, compute),
        console.say,
        "; each step takes several of them, as many images as planned" if effort.is_papers else "",
        compute.device,
    )
    if effort.is_papers:
        search = replace(search, accumulate=_parts(search.batch_size, size))
        training = replace(training, accumulate=_parts(training.batch_size, size))
    elif size < planned:
        search, training = replace(search, batch_size=size), scaled_training(training, size)
    return WorkPlan(effort, search, training)


def _search_macs(strategy: str, space: SearchSpace) -> float:
    """Return the MACs of a search step per image."""
    step_macs = load_strategy(strategy).traits.step_macs
    if step_macs is not None:
        return step_macs(space)
    return _mean_macs(space.searched if isinstance(space, CellSpace) else space)


def _parts(batch_size: int, fitting: int) -> int:
    """Return the number of parts in which a batch is computed."""
    return -(-batch_size // fitting)


def _has_auxiliary_place(space: SearchSpace) -> bool:
    """Return whether networks of cells have a feature map that is large enough for an auxiliary
    classifier."""
    inner = in_float(space)
    if not isinstance(inner, CellSpace):
        return False
    network = inner.architecture(inner.default)
    return min(axes(network.blocks[auxiliary_place(network)].out_size)) > POOL_KERNEL_SIZE


def _max_image_bytes(space: SearchSpace, compute: Compute) -> float:
    """Return the memory for one image in the training of the default network, or of the largest of
    a few random ones."""
    inner, rng = in_float(space), Random(0)
    random = [] if as_dependent(space) else [inner.random(rng) for _ in range(4)]
    return max(
        step_image_bytes(inner.architecture(each), compute) for each in (inner.default, *random)
    )


def _mean_macs(space: SearchSpace) -> float:
    """Return the mean MACs of random networks; for a space of dependent decisions the MACs of the
    default network, because its largest networks are far beyond those of a search."""
    if as_dependent(space):
        return space.architecture(space.default).macs
    rng = Random(0)
    return fmean(space.architecture(space.random(rng)).macs for _ in range(RANDOM_NETWORKS))
