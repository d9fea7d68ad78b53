"""Sparse recovery by ISTA and FISTA: which few numbers ``z`` explain the measurements ``b = A z``.

    minimise  F(z) = 1/2 ||A z - b||^2 + sum_k penalty_k |z_k|

Daubechies, Defrise and De Mol, Comm. Pure Appl. Math. 57 (2004), arXiv:math/0307152; accelerated:
Beck and Teboulle, SIAM J. Imaging Sciences 2 (2009), with the restart of O'Donoghue and Candès,
arXiv:1204.3982. In ISTA-NAS (Yang et al., NeurIPS 2020, arXiv:2010.06176) ``z`` is the strength
of each operation of a node. All in float64; penalties may differ from number to number.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import UsageError

Array = NDArray[np.float64]
MatrixKind = Literal["gauss_unit", "uniform"]
"""Gaussian columns of length 1, or uniform in [0, 1) as in ISTA-NAS's code: nearly parallel."""


def measurement_matrix(
    rows: int, columns: int, rng: np.random.Generator, kind: MatrixKind = "gauss_unit"
) -> Array:
    """Draw ``A [m, n]``. Raises `UsageError` for more measurements than there are numbers."""
    if not 1 <= rows <= columns:
        raise UsageError(
            f"{rows} measurements of {columns} operations: expected 1 to {columns}, "
            "since more cannot tell more"
        )
    if kind == "uniform":
        return rng.random((rows, columns))
    drawn = rng.standard_normal((rows, columns))
    return drawn / np.linalg.norm(drawn, axis=0)


def soft_threshold(values: Array, threshold: float | Array) -> Array:
    """Move every value towards zero by ``threshold``, and not beyond."""
    return np.sign(values) * np.maximum(np.abs(values) - threshold, 0.0)


def objective(a: Array, b: Array, z: Array, penalty: float | Array) -> float:
    """Return ``F(z)``."""
    return float(0.5 * np.sum((a @ z - b) ** 2) + np.sum(penalty * np.abs(z)))


def ista_step(a: Array, b: Array, z: Array, penalty: float | Array, step: float) -> Array:
    """Descend by ``step`` on the quadratic part, then shrink. Lowers ``F`` up to ``1/||A||^2``."""
    return soft_threshold(z - step * (a.T @ (a @ z - b)), step * penalty)


def recover(
    a: Array,
    b: Array,
    penalty: float | Array,
    start: Array | None = None,
    steps: int = 3000,
    tolerance: float = 1e-12,
    accelerated: bool = True,
) -> Array:
    """Return the ``z [n]`` that minimises ``F`` for ``A [m, n]`` and ``b [m]``.

    Ends before ``steps`` when a step moves ``z`` by less than ``tolerance`` of its length. With
    ``accelerated`` it is FISTA, whose momentum is dropped where it points uphill.
    """
    size = 1.0 / float(np.linalg.norm(a, 2)) ** 2
    z = np.zeros(a.shape[1]) if start is None else start.astype(np.float64)
    ahead, speed = z, 1.0
    for _ in range(steps):
        new = ista_step(a, b, ahead, penalty, size)
        if np.linalg.norm(new - z) <= tolerance * np.linalg.norm(new):
            return new
        if accelerated and float((ahead - new) @ (new - z)) <= 0:
            faster = 0.5 * (1 + np.sqrt(1 + 4 * speed**2))
            ahead, speed = new + (speed - 1) / faster * (new - z), faster
        else:
            ahead, speed = new, 1.0
        z = new
    return z


def largest(z: Array, count: int) -> tuple[int, ...]:
    """Return the places of the ``count`` largest ``|z|`` in rising order; the first wins a tie."""
    return tuple(sorted(np.argsort(-np.abs(z), kind="stable")[:count].tolist()))


def gate_bias(a: Array, z: Array, support: tuple[int, ...]) -> Array:
    """Return ``[(A'A - I) z_S]_S``, what to take from ``A_S' b`` to get the gates of ``support``.

    ISTA without shrinkage rests where ``z = A'b - (A'A - I) z``. With the right side's ``z`` held,
    cut to the support, that is a ``z_S(b)`` with gradient ``A_S'``, and

        A_S' b - bias = z_S + A_S' (b - A z_S).
    """
    chosen = list(support)
    kept = np.zeros_like(z)
    kept[chosen] = z[chosen]
    return (a.T @ (a @ kept) - kept)[chosen]
