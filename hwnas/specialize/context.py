"""The context of the steps of an open run, and the networks that the steps pass on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec
from torch import Tensor

from hwnas.architecture.architecture import Architecture
from hwnas.console import Console
from hwnas.data.datasets import Dataset
from hwnas.latency_models.model import LatencyModel
from hwnas.measurement.measurement import Kind
from hwnas.nn.elastic.slices import NO_SLICES, TrainedSlices
from hwnas.pretrained.network import PretrainedNetwork
from hwnas.report.candidate_rows import Origin
from hwnas.search.plan import SearchPlan
from hwnas.spaces.space import SearchSpace
from hwnas.specialize.run_folder import RunFolder
from hwnas.specialize.setup.effort import Effort
from hwnas.specialize.setup.target import Target
from hwnas.specialize.spec import RunSpec
from hwnas.specialize.tracking import Tracking
from hwnas.training.compute import Compute
from hwnas.training.images.loader import Data, as_data
from hwnas.training.plan import TrainingPlan

Shape = tuple[int, int, int]

MIN_BUDGET_USE = 0.85
"""Share of the budget below which a network wastes the budget."""


class RunContext(NamedTuple):
    """An open run (`setup.resolve.open_run`): everything that is determined before its search."""

    spec: RunSpec
    folder: RunFolder
    target: Target
    dataset: Dataset
    space: SearchSpace
    latency_model: LatencyModel
    """The model that the search starts with."""
    budget_ms: float
    effort: Effort
    search_plan: SearchPlan
    training_plan: TrainingPlan
    compute: Compute
    """Device and precision of the trainings."""
    console: Console
    tracking: Tracking
    load_at: Callable[[Shape], Dataset]
    """Load the data set with images of another shape ``(C, H, W)``."""
    weights: Mapping[str, Tensor] | None = None
    """Weights of the network that the space is cut from; ``None`` for other spaces."""
    slices: TrainedSlices = NO_SLICES
    """The blocks of that network that were trained to be cut."""
    siblings: tuple[PretrainedNetwork, ...] = ()
    """Other trained networks for the same images and classes, which are tuned without cuts."""

    def dataset_at(self, input_shape: Shape) -> Dataset:
        """Return the data set with images of the shape that a network takes."""
        same = input_shape == self.dataset.input_shape
        return self.dataset if same else self.load_at(input_shape)

    def images(self, input_shape: Shape) -> tuple[Data, Data]:
        """Return training and validation images of a shape, in batches on the run's device."""
        data = self.dataset_at(input_shape)
        train, valid = (as_data(split, data, self.compute) for split in (data.train, data.valid))
        return train, valid


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A network that may be trained, with its figures before the training."""

    name: str
    origin: Origin
    architecture: Architecture
    predicted_ms: float | None
    predicted_std_ms: float | None = None
    """Standard deviation of a measurement around the prediction."""
    supernet_accuracy: float | None = None
    """Accuracy on validation images, with the supernet's weights and recalibrated statistics."""
    divergence: float | None = None
    """Divergence of the predictions of a cut network from those of the trained network, before
    training (`hwnas.search.elastic.divergence`)."""
    inherits: bool = False
    """Whether its training starts from weights in the run folder."""
    measured_kind: Kind = "measured"
    measured_ms: float | None = None
    """Latency with inherited or fresh weights; the trained file is measured again."""
    measured_high_ms: float | None = None
    """Upper end of the median's 95 % interval."""

    @property
    def may_be_delivered(self) -> bool:
        """Whether it may be delivered; other candidates are only baselines."""
        return self.origin in ("search", "resolution", "sibling")

    @property
    def latency_ms(self) -> float:
        """The measured latency, else the predicted one; infinite if neither is known."""
        latency_ms = self.predicted_ms if self.measured_ms is None else self.measured_ms
        return float("inf") if latency_ms is None else latency_ms
