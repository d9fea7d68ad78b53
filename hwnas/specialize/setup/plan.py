"""How much a run will search and train, and in which batches."""

from __future__ import annotations

from pathlib import Path
from random import Random
from statistics import fmean

import msgspec

from hwnas.console import Console
from hwnas.data.datasets import Dataset
from hwnas.nn.auxiliary import POOL_KERNEL_SIZE, auxiliary_place
from hwnas.processes import cores
from hwnas.search.plan import SearchPlan
from hwnas.search.registry import load_strategy
from hwnas.spaces.cells.space import CellSpace
from hwnas.spaces.grown.space import GrownSpace
from hwnas.spaces.int8 import in_float
from hwnas.spaces.space import SearchSpace
from hwnas.specialize.setup.augmentation import default_augmentation
from hwnas.specialize.setup.batch_size import image_bytes, resolve_batch_size
from hwnas.specialize.setup.effort import EFFORTS, plans
from hwnas.specialize.spec import RunSpec
from hwnas.training.distributed import ranks
from hwnas.training.plan import TrainingPlan

AUXILIARY_WEIGHT, DROP_PATH = 0.4, 0.2
"""For cells that are trained for hundreds of epochs: DARTS (arXiv:1806.09055, appendix A.2)."""
RANDOM_NETWORKS = 64
"""Networks behind the mean number of MACs of a space."""


def work_plans(
    spec: RunSpec, dataset: Dataset, space: SearchSpace, folder: Path | None, console: Console
) -> tuple[SearchPlan, TrainingPlan]:
    """Return the plans of search and training, in batches that fit the memory.

    The batch size is stored in ``folder``, so that a resumed run has the same.
    """
    macs = _mean_macs(space)
    step_macs = load_strategy(spec.strategy).traits.step_macs
    search_macs = macs if step_macs is None else step_macs(space)
    images = len(dataset.train.labels)
    augmentation = default_augmentation(dataset.input_shape, images, spec.flip)
    search, training = plans(EFFORTS[spec.effort], images, macs, augmentation, search_macs)
    if spec.effort == "full" and isinstance(inner := in_float(space), CellSpace):
        network = inner.architecture(inner.default)
        deep = network.blocks[auxiliary_place(network)].out_size > POOL_KERNEL_SIZE
        training = msgspec.structs.replace(
            training, drop_path=DROP_PATH, auxiliary=AUXILIARY_WEIGHT if deep else 0.0
        )
    # several networks are trained at once; a supernet may compute more than one network
    networks_at_once = max(1 if ranks() > 1 else cores(), search_macs / macs)
    size = resolve_batch_size(
        None if folder is None else folder / "batch_size.json",
        search.batch_size,
        networks_at_once * _max_image_bytes(space),
        console.say,
    )
    if size == search.batch_size:
        return search, training
    rate = training.peak_learning_rate * size / search.batch_size
    return (
        msgspec.structs.replace(search, batch_size=size),
        msgspec.structs.replace(training, batch_size=size, peak_learning_rate=rate),
    )


def _max_image_bytes(space: SearchSpace) -> float:
    """Return the memory for one image in the training of the default network, or of the largest of
    a few random ones."""
    inner, rng = in_float(space), Random(0)
    random = [] if isinstance(inner, GrownSpace) else [inner.random(rng) for _ in range(4)]
    return max(image_bytes(inner.architecture(each)) for each in (inner.default, *random))


def _mean_macs(space: SearchSpace) -> float:
    """Return the mean MACs of random networks; for a space that grows networks those of the default
    one, because its largest networks are far beyond those that a search meets."""
    if isinstance(in_float(space), GrownSpace):
        return space.architecture(space.default).macs
    rng = Random(0)
    return fmean(space.architecture(space.random(rng)).macs for _ in range(RANDOM_NETWORKS))
