"""What the steps of a run work with, and the networks they hand on."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

from hwnas.architecture.architecture import Architecture
from hwnas.console import Console
from hwnas.data.datasets import Dataset
from hwnas.search.plan import SearchPlan
from hwnas.spaces.space import SearchSpace
from hwnas.specialize.run_folder import Config, RunFolder
from hwnas.specialize.setup.effort import Effort
from hwnas.specialize.setup.target import Target
from hwnas.training.loop import TrainingPlan


class RunContext(NamedTuple):
    """Everything that is settled before the search begins."""

    spec: Config
    folder: RunFolder
    target: Target
    dataset: Dataset
    space: SearchSpace
    budget_ms: float
    effort: Effort
    search_plan: SearchPlan
    training_plan: TrainingPlan
    console: Console


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A network that may be trained, and what is known of it before."""

    name: str
    origin: Literal["search", "uniform", "published", "random"]
    architecture: Architecture
    predicted_ms: float | None
    predicted_std_ms: float | None = None
    """Standard deviation of a measurement around the prediction."""
    supernet_accuracy: float | None = None
    """On validation images, with the supernet's weights and recalibrated statistics."""
    measured_ms: float | None = None
    """With inherited or fresh weights; the trained file is measured again."""
    measured_high_ms: float | None = None
    """Upper end of the median's 95 % interval."""
