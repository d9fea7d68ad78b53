"""Estimators of the architecture gradient from the losses of all networks, at equal probabilities.

Gradients are those of the expected loss in the logits of each decision's softmax, ``[C]``: one
entry for each candidate, decision by decision.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Choices = NDArray[np.int64]


class Estimator(msgspec.Struct, frozen=True):
    """Quality of an estimator on one supernet: a line of gradients.jsonl."""

    name: str
    seed: int
    forwards: str
    """Forward passes of networks for one draw."""
    cosine: float
    """Cosine of the mean of the draws with the exact gradient."""
    signal: float
    """Length of the mean, as a share of the standard deviation of a draw."""


def exact_gradient(choices: Choices, losses: Floats) -> Floats:
    """Return the gradient of the mean of ``losses [networks]``, those of every ``choices [N, P]``.

    ``dE/dalpha_i = p_i * (E[loss | i] - E[loss])``.
    """
    rows = [
        (losses[column == candidate].mean() - losses.mean()) / (column.max() + 1)
        for column in choices.T
        for candidate in range(column.max() + 1)
    ]
    return np.array(rows)


def decision_gradients(
    choices: Choices, losses: Floats, draws: int, rng: np.random.Generator
) -> Floats:
    """Return ``draws`` gradients, each from a random network and the losses of all networks that
    differ from it in one decision; ``losses`` are ``[networks, batches]``."""
    sizes = choices.max(0) + 1
    drawn: list[Floats] = []
    for _ in range(draws):
        row, batch = choices[rng.integers(len(choices))], rng.integers(losses.shape[1])
        parts: list[Floats] = []
        for place, size in enumerate(sizes):
            changed = np.repeat(row[None], size, 0)
            changed[:, place] = np.arange(size)
            values = losses[np.ravel_multi_index(tuple(changed.T), tuple(sizes)), batch]
            parts.append((values - values.mean()) / size)
        drawn.append(np.concatenate(parts))
    return np.array(drawn)


def policy_gradients(
    choices: Choices, losses: Floats, networks: int, draws: int, rng: np.random.Generator
) -> Floats:
    """Return ``draws`` gradients by REINFORCE from ``networks`` random ones and their mean as the
    baseline; ``losses`` are ``[networks, batches]``."""
    sizes = choices.max(0) + 1
    scores = np.concatenate(
        [np.eye(size)[column] - 1 / size for size, column in zip(sizes, choices.T, strict=True)], 1
    )
    drawn: list[Floats] = []
    for _ in range(draws):
        rows, batch = rng.integers(len(choices), size=networks), rng.integers(losses.shape[1])
        values = losses[rows, batch]
        drawn.append(((values - values.mean())[:, None] * scores[rows]).mean(0))
    return np.array(drawn)


def summary(name: str, seed: int, forwards: str, draws: Floats, exact: Floats) -> Estimator:
    """Compare ``draws [N, C]`` of an estimator with the exact gradient ``[C]``."""
    mean = draws.mean(0)
    noise = math.sqrt(((draws - mean) ** 2).sum(1).mean())
    # the mean of N draws has a noise of its own, which would make the signal too strong
    length = math.sqrt(max(0.0, float(mean @ mean) - noise**2 / len(draws)))
    cosine = float(mean @ exact) / max(length * float(np.linalg.norm(exact)), 1e-30)
    return Estimator(name, seed, forwards, min(1.0, cosine), length / max(noise, 1e-30))


def accumulated_cosine(estimator: Estimator, steps: int) -> float:
    """Return about the expected cosine of the mean of ``steps`` draws with the exact gradient."""
    signal = estimator.signal * math.sqrt(steps)
    return estimator.cosine * signal / math.sqrt(1 + signal**2)
