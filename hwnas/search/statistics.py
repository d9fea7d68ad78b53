"""Statistics of a search: entropy of its decisions, moving average of its rewards."""

from __future__ import annotations

from torch import Tensor


def mean_entropy(probs: Tensor, mask: Tensor) -> float:
    """Return the mean over decisions of ``H(p) / ln K`` for ``probs [P, K]``.

    ``mask [P, K]`` marks the real candidates of each decision.
    """
    entropy = -(probs * probs.clamp_min(1e-12).log()).sum(1)
    return (entropy / mask.sum(1).clamp_min(2).log()).mean().item()


def ema_update(average: float | None, value: float, weight_new: float) -> float:
    """Return the exponential moving average after ``value``; ``None`` starts it at ``value``."""
    return value if average is None else average + weight_new * (value - average)
