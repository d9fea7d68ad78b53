"""The networks that a run compared: candidates, and the lineage of networks that grew."""

from __future__ import annotations

from typing import Literal

import msgspec

from hwnas.measurement.measurement import Kind

Origin = Literal["search", "uniform", "published", "random", "resolution", "sibling"]
"""Origin of a candidate. ``uniform``: the same candidate in every decision; ``resolution``: the
whole trained network for smaller images; ``sibling``: another trained network, tuned without
cuts."""


class CandidateRow(msgspec.Struct, frozen=True, kw_only=True):
    """One of the networks from which the delivered one was chosen."""

    name: str
    origin: Origin
    digest: str
    params: int
    macs: int
    predicted_ms: float | None = None
    predicted_std_ms: float | None = None
    measured_ms: float | None = None
    """Latency on the device; ``kind`` tells whether the device is simulated."""
    ci95_ms: tuple[float, float] | None = None
    kind: Kind = "predicted"
    """Kind of `latency_ms`."""
    validation_accuracy: float | None = None
    test_accuracy: float | None = None
    label_probability: float | None = None
    """Mean probability of the label of a validation image, at the best temperature."""
    validation_agreement: float | None = None
    test_agreement: float | None = None
    """Agreements instead of accuracies, see `Result.agreement`."""
    keeps_budget: bool | None = None
    disturbed: bool = False
    """Whether the measured latency is missing because other programs disturbed the measurements;
    `latency_ms` is then the prediction."""
    chosen: bool = False
    size_px: int | None = None
    """Height and width of its images."""
    cuts: tuple[str, ...] = ()
    """What remains of each block that can be cut from a trained network: ``keep``, ``skip``, ``5/6
    width``, ``smaller kernel``, ``smallest kernel``, or a width and a kernel. Empty: it is not cut
    from one."""
    divergence: float | None = None
    """Mean Kullback-Leibler divergence in nats from the trained network's probabilities, before the
    member is trained."""
    untrained_accuracy: float | None = None
    """Accuracy on the validation images with the weights before training."""

    @property
    def latency_ms(self) -> float | None:
        """The measured latency, else the predicted one."""
        return self.predicted_ms if self.measured_ms is None else self.measured_ms

    @property
    def validation_score(self) -> float | None:
        """Accuracy or agreement on the validation images."""
        agreement = self.validation_agreement
        return self.validation_accuracy if agreement is None else agreement

    @property
    def test_score(self) -> float | None:
        """Accuracy or agreement on the test images."""
        return self.test_accuracy if self.test_agreement is None else self.test_agreement


class FamilyRow(msgspec.Struct, frozen=True, kw_only=True):
    """One network of a search that grows networks from each other."""

    name: str
    parent: str = ""
    """Name of the network that it grew from; empty: the start network."""
    steps: tuple[str, ...] = ()
    """Changes to the parent, e.g. ``wider 2.1 to 24`` (stage, layer), ``deeper 1.1 k3``."""
    digest: str
    params: int
    macs: int
    state: Literal["trained", "failed", "derived"]
    """``derived``: grown further without training, with its parent's weights."""
    latency_ms: float
    """Predicted latency."""
    measured_ms: float | None = None
    accuracy: float | None = None
    """Accuracy on validation images, after the few epochs of the search."""
    chosen: bool = False
