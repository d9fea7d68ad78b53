"""Sparse recovery: find a sparse ``z`` with the measurements ``b = A z``.

    minimise  F(z) = 1/2 ||A z - b||^2 + sum_k penalty_k |z_k|

In ISTA-NAS (Yang et al., NeurIPS 2020, arXiv:2010.06176) ``z`` is the strength of each operation of
a node. `recover` follows the homotopy of Osborne, Presnell and Turlach, IMA J. Numerical Analysis
20 (2000): ``z`` is piecewise linear in the scale of the penalties, and at most a few dozen pieces
lead from ``z = 0`` to the exact minimiser. `iterate` is the method of the paper: ISTA (Daubechies,
Defrise and De Mol, Comm. Pure Appl. Math. 57 (2004), arXiv:math/0307152), or FISTA (Beck and
Teboulle, SIAM J. Imaging Sciences 2 (2009), with the restart of O'Donoghue and Candès,
arXiv:1204.3982). With the small penalties of ISTA-NAS both need 30,000 steps and more, so a search
that stops sooner selects operations by where its solver stopped
(``python -m tools.evaluate.cells.recovery``). All in float64; each component may have its own
penalty.
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

MAX_GAP = 1e-9
"""`optimality_gap` of a minimiser."""
EVENTS_PER_COLUMN = 20
"""Most events of a path per component of ``z``; usual paths have about ``2 m`` events."""
FALLBACK_STEPS = 100_000
"""Steps of FISTA if rounding breaks the path."""


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


def recover(a: Array, b: Array, penalty: float | Array) -> Array:
    """Return the ``z [n]`` that minimises ``F`` for ``A [m, n]``, ``b [m]`` and penalties > 0.

    The minimum is exact up to rounding: `optimality_gap` of the result is about 1e-12.
    """
    penalties = np.broadcast_to(np.asarray(penalty, dtype=np.float64), a.shape[1:])
    largest_penalty = float(penalties.max())
    weights = penalties / largest_penalty
    scaled = _follow_path(a / weights, b, largest_penalty)
    z = scaled / weights
    if optimality_gap(a, b, z, penalties) > MAX_GAP:  # ties of the path, by rounding
        return iterate(a, b, penalties, z, steps=FALLBACK_STEPS)
    return z


def optimality_gap(a: Array, b: Array, z: Array, penalty: float | Array) -> float:
    """Return the violation of the optimality conditions by ``z``, relative to the largest
    correlation ``|A' b|``.

    The slope of the quadratic part must be ``-penalty sign(z)`` where ``z`` is not zero, and at
    most ``penalty`` in size elsewhere.
    """
    slope = a.T @ (a @ z - b)
    excess = np.where(
        z != 0, np.abs(slope + penalty * np.sign(z)), np.maximum(np.abs(slope) - penalty, 0.0)
    )
    return float(excess.max()) / max(float(np.abs(a.T @ b).max()), 1e-300)


def _follow_path(a: Array, b: Array, penalty: float) -> Array:
    """Return the minimiser for one ``penalty``, from that of the least penalty with ``z = 0`` on.

    Between two events (a component becomes non-zero, or zero) ``z`` moves along
    ``(A_S' A_S)^-1 signs`` while the correlations of the support ``S`` all fall at rate 1.
    """
    size, columns = a.shape
    correlation = a.T @ b
    level = float(np.abs(correlation).max())
    z = np.zeros(columns)
    if level <= penalty:
        return z
    support = [int(np.abs(correlation).argmax())]
    signs = [float(np.sign(correlation[support[0]]))]
    left = -1  # the component that became zero at the last event
    for _ in range(EVENTS_PER_COLUMN * columns):
        chosen = a[:, support]
        direction = np.linalg.solve(chosen.T @ chosen, np.array(signs))
        step, event = level - penalty, -1
        if len(support) < size:
            rate = a.T @ (chosen @ direction)
            correlation = a.T @ (b - a @ z)
            for sign in (1.0, -1.0):
                with np.errstate(divide="ignore", invalid="ignore"):
                    until = (level - sign * correlation) / (1 - sign * rate)
                until[[*support, *([left] if left >= 0 else [])]] = np.inf
                until[~(until > 0)] = np.inf
                if until.min() < step:
                    step, event = float(until.min()), int(until.argmin())
        with np.errstate(divide="ignore", invalid="ignore"):
            until_zero = -z[support] / direction
        until_zero[~(until_zero > 0)] = np.inf
        leaving = int(until_zero.argmin()) if until_zero.min() < step else -1
        step = min(step, float(until_zero.min()))
        z[support] += step * direction
        level -= step
        left = -1
        if leaving >= 0:
            left = support.pop(leaving)
            signs.pop(leaving)
            z[left] = 0.0
        elif event >= 0:
            support.append(event)
            signs.append(float(np.sign(a[:, event] @ (b - a @ z))))
        else:
            break
    chosen = a[:, support]
    z[support] = np.linalg.solve(chosen.T @ chosen, chosen.T @ b - penalty * np.array(signs))
    return z


def iterate(
    a: Array,
    b: Array,
    penalty: float | Array,
    start: Array | None = None,
    steps: int = 3000,
    tolerance: float = 1e-12,
    accelerated: bool = True,
) -> Array:
    """Return ``z [n]`` after ``steps`` of ISTA on ``F`` for ``A [m, n]`` and ``b [m]``.

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
