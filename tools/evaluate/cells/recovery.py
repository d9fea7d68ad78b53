"""How often is the sparse recovery of ISTA-NAS right, by solver?

    python -m tools.evaluate.cells.recovery

Random problems ``b = A z`` of a node with two selected operations, 7 measurements and 14 to 35
candidates, ``|z|`` from 0.5 to 1.5. For each solver: the share of problems whose two largest
components are the true ones; the share in which it takes another pair than the exact minimiser;
its relative distance from the minimiser; and its time. Solvers: the homotopy that a search uses;
FISTA and ISTA with 3,000 steps; ISTA with 100 steps in each of 100 recoveries that start at the
last one, as in a search of 100 epochs with constant ``b``; and the linear program of basis pursuit
(the limit of small penalties) by HiGHS.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import click
import numpy as np
from scipy.optimize import linprog

from hwnas.search.cells.ista.sparse_recovery import (
    Array,
    MatrixKind,
    iterate,
    largest,
    measurement_matrix,
    recover,
)
from tools.lib.results import command, results_folder, table, write_results

PENALTY = 1e-5
"""The penalty of ISTA-NAS (`hwnas.search.cells.ista.two_stage`)."""
MEASUREMENTS = 7
SELECTED = 2
CANDIDATES = (14, 21, 28, 35)


def basis_pursuit(a: Array, b: Array) -> Array:
    """Return the ``z`` with ``A z = b`` and the least sum of ``|z|``."""
    columns = a.shape[1]
    program = linprog(np.ones(2 * columns), A_eq=np.hstack([a, -a]), b_eq=b)
    return program.x[:columns] - program.x[columns:]


def warm_started(a: Array, b: Array) -> Array:
    z = np.zeros(a.shape[1])
    for _ in range(100):
        z = iterate(a, b, PENALTY, z, steps=100, accelerated=False)
    return z


SOLVERS: dict[str, Callable[[Array, Array], Array]] = {
    "homotopy": lambda a, b: recover(a, b, PENALTY),
    "FISTA, 3,000 steps": lambda a, b: iterate(a, b, PENALTY),
    "ISTA, 3,000 steps": lambda a, b: iterate(a, b, PENALTY, accelerated=False),
    "ISTA, warm starts, 10,000 steps": warm_started,
    "linear program": basis_pursuit,
}


def row(solver: str, kind: MatrixKind, columns: int, problems: int) -> list[str]:
    solve = SOLVERS[solver]
    true, other, distances, seconds = 0, 0, [], 0.0
    for seed in range(problems):
        rng = np.random.default_rng(seed)
        a = measurement_matrix(MEASUREMENTS, columns, rng, kind)
        support = rng.choice(columns, SELECTED, replace=False)
        z = np.zeros(columns)
        z[support] = rng.uniform(0.5, 1.5, SELECTED) * rng.choice([-1, 1], SELECTED)
        begin = time.thread_time()
        result = solve(a, a @ z)
        seconds += time.thread_time() - begin
        exact = recover(a, a @ z, PENALTY)
        true += set(largest(result, SELECTED)) == set(support.tolist())
        other += largest(result, SELECTED) != largest(exact, SELECTED)
        distances.append(float(np.linalg.norm(result - exact) / np.linalg.norm(exact)))
    return [
        kind,
        str(columns),
        solver,
        f"{true / problems:.0%}",
        f"{other / problems:.0%}",
        f"{np.median(distances):.2g}",
        f"{1e3 * seconds / problems:.1f}",
    ]


@click.command()
@click.option("--problems", default=100, show_default=True, help="Random problems for each row.")
def main(problems: int) -> None:
    """Write the table of solvers for the sparse recovery of ISTA-NAS."""
    kinds: tuple[MatrixKind, ...] = ("gauss_unit", "uniform")
    rows = [
        row(solver, kind, columns, problems)
        for kind in kinds
        for columns in CANDIDATES
        for solver in SOLVERS
    ]
    head = [
        "matrix",
        "candidates",
        "solver",
        "true pair",
        "another pair than the minimiser",
        "median relative distance",
        "CPU ms",
    ]
    called_as = command(__file__, f"--problems {problems}")
    path = results_folder(__file__) / "recovery.md"
    print(write_results(path, "Sparse recovery of ISTA-NAS", called_as, table(head, rows)))


if __name__ == "__main__":
    main()
