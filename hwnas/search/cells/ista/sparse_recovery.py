"""Sparse recovery by ISTA and FISTA: find a sparse ``z`` with the measurements ``b = A z``.

    minimise  F(z) = 1/2 ||A z - b||^2 + sum_k penalty_k |z_k|

Daubechies, Defrise and De Mol, Comm. Pure Appl. Math. 57 (2004), arXiv:math/0307152; accelerated:
Beck and Teboulle, SIAM J. Imaging Sciences 2 (2009), with the restart of O'Donoghue and Candès,
arXiv:1204.3982. In ISTA-NAS (Yang et al., NeurIPS 2020, arXiv:2010.06176) ``z`` is the strength
of each operation of a node. All in float64; each component may have its own penalty.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from hwnas.errors import UsageError

Array = NDArray[np.float64]
MatrixKind = Literal["gauss_unit", "uniform"]
"""Gaussian columns of unit length, or uniform in [0, 1) as in the code of ISTA-NAS (columns are
nearly parallel)."""


def measurement_matrix(
    rows: int, columns: int, rng: np.random.Generator, kind: MatrixKind = "gauss_unit"
) -> Array:
    """Draw ``A [m, n]``. Raises `UsageError` for more measurements than components."""
    if not 1 <= rows <= columns:
        raise UsageError(
            f"{rows} measurements of {columns} operations; expected 1 to {columns}, "
            "since further ones are redundant"
        )
    if kind == "uniform":
        return rng.random((rows, columns))
    matrix = rng.standard_normal((rows, columns))
    return matrix / np.linalg.norm(matrix, axis=0)


def soft_threshold(values: Array, threshold: float | Array) -> Array:
    """Move every value towards zero by ``threshold``, at most to zero."""
    return np.sign(values) * np.maximum(np.abs(values) - threshold, 0.0)


def objective(a: Array, b: Array, z: Array, penalty: float | Array) -> float:
    """Return ``F(z)``."""
    return float(0.5 * np.sum((a @ z - b) ** 2) + np.sum(penalty * np.abs(z)))


def ista_step(a: Array, b: Array, z: Array, penalty: float | Array, step: float) -> Array:
    """Descend by ``step`` on the quadratic part, then shrink; lowers ``F`` if step <= 1/||A||^2."""
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

    Stops early when a step changes ``z`` by less than ``tolerance`` times its length.
    ``accelerated`` is FISTA, whose momentum restarts when it points uphill.
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
    """Return the ascending indices of the ``count`` largest ``|z|``; the first wins a tie."""
    return tuple(sorted(np.argsort(-np.abs(z), kind="stable")[:count].tolist()))


def gate_bias(a: Array, z: Array, support: tuple[int, ...]) -> Array:
    """Return ``[(A'A - I) z_S]_S``: subtracted from ``A_S' b`` it gives the gates of ``support``.

    A fixed point of ISTA without shrinkage has ``z = A'b - (A'A - I) z``. With ``z`` on the right
    held constant and restricted to the support, this is a ``z_S(b)`` with gradient ``A_S'``, and

        A_S' b - bias = z_S + A_S' (b - A z_S).
    """
    chosen = list(support)
    on_support = np.zeros_like(z)
    on_support[chosen] = z[chosen]
    return (a.T @ (a @ on_support) - on_support)[chosen]
