"""Sparse recovery: soft threshold, conditions of the minimiser, and recovery rates."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

from hwnas.errors import UsageError
from hwnas.search.cells.ista.sparse_recovery import (
    MatrixKind,
    gate_bias,
    ista_step,
    iterate,
    largest,
    measurement_matrix,
    objective,
    optimality_gap,
    recover,
    soft_threshold,
)


def problem(rows: int, columns: int, sparsity: int, seed: int, kind: MatrixKind = "gauss_unit"):
    """Return ``A``, ``b = A z`` and ``z`` with magnitudes between 0.5 and 1.5."""
    rng = np.random.default_rng(seed)
    a = measurement_matrix(rows, columns, rng, kind)
    z = np.zeros(columns)
    places = rng.choice(columns, sparsity, replace=False)
    z[places] = rng.uniform(0.5, 1.5, sparsity) * rng.choice([-1, 1], sparsity)
    return a, a @ z, z


def test_the_soft_threshold_moves_values_to_zero_at_most() -> None:
    shrunk = soft_threshold(np.array([-2, -0.5, 0, 0.3, 1.5]), 0.5)
    assert shrunk.tolist() == [-1.5, 0, 0, 0, 1]
    each = soft_threshold(np.array([2.0, 2.0]), np.array([0.5, 3.0]))
    assert each.tolist() == [1.5, 0]


def test_every_step_of_ista_lowers_the_objective() -> None:
    a, b, _ = problem(7, 28, 2, 0)
    penalty = np.linspace(0.001, 0.1, 28)
    z, size = np.random.default_rng(1).standard_normal(28), 1 / float(np.linalg.norm(a, 2)) ** 2
    values = [objective(a, b, z, penalty)]
    for _ in range(200):
        z = ista_step(a, b, z, penalty, size)
        values.append(objective(a, b, z, penalty))
    assert (np.diff(values) <= 1e-12).all() and values[-1] < 0.1 * values[0]


def test_too_long_a_step_can_raise_the_objective() -> None:
    a, b, _ = problem(7, 28, 2, 0)
    z = np.random.default_rng(1).standard_normal(28)
    size = 3 / float(np.linalg.norm(a, 2)) ** 2
    values = [objective(a, b, z := ista_step(a, b, z, 1e-3, size), 1e-3) for _ in range(50)]
    assert max(np.diff(values)) > 0


def test_fista_reaches_the_minimum_of_ista_sooner() -> None:
    a, b, _ = problem(40, 100, 5, 2)
    slow = iterate(a, b, 0.01, steps=20_000, accelerated=False)
    fast = iterate(a, b, 0.01, steps=20_000)
    np.testing.assert_allclose(slow, fast, atol=1e-8)
    best = objective(a, b, recover(a, b, 0.01), 0.01)
    early = [iterate(a, b, 0.01, steps=60, accelerated=quick) for quick in (False, True)]
    ista, fista = (objective(a, b, z, 0.01) - best for z in early)
    assert fista < 0.2 * ista


@pytest.mark.parametrize("weighted", [False, True])
def test_the_minimiser_fulfils_the_kkt_conditions(weighted: bool) -> None:
    a, b, _ = problem(40, 100, 5, 3)
    penalty = np.linspace(0.005, 0.03, 100) if weighted else np.full(100, 0.01)
    z = recover(a, b, penalty)
    slope = a.T @ (a @ z - b)
    assert (np.abs(slope) <= penalty + 1e-8).all()
    on = z != 0
    assert 0 < on.sum() < 40
    np.testing.assert_allclose(slope[on], (-penalty * np.sign(z))[on], atol=1e-8)


@pytest.mark.parametrize("kind", ["gauss_unit", "uniform"])
@pytest.mark.parametrize("columns", [14, 35, 70])
def test_the_recovery_is_exact_for_the_penalties_of_a_search(
    columns: int, kind: MatrixKind
) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        a = measurement_matrix(7, columns, rng, kind)
        b, penalty = 0.5 * rng.standard_normal(7), 1e-5 * (1 + rng.random(columns))
        z = recover(a, b, penalty)
        assert optimality_gap(a, b, z, penalty) < 1e-10
        iterated = objective(a, b, iterate(a, b, penalty, steps=300), penalty)
        assert objective(a, b, z, penalty) <= (1 + 1e-12) * iterated


def test_thousands_of_steps_do_not_reach_the_minimiser() -> None:
    """The reason for an exact solver: a search would select pairs by where its solver stopped."""
    others = 0
    for seed in range(5):
        a, b, _ = problem(7, 35, 2, seed)
        others += largest(iterate(a, b, 1e-5), 2) != largest(recover(a, b, 1e-5), 2)
    assert others >= 1


def test_a_penalty_above_all_correlations_recovers_zero() -> None:
    a, b, _ = problem(7, 14, 2, 0)
    assert not recover(a, b, 1.01 * float(np.abs(a.T @ b).max())).any()
    assert np.count_nonzero(recover(a, b, 0.99 * float(np.abs(a.T @ b).max()))) == 1


def test_the_minimiser_of_small_penalties_is_that_of_the_linear_program() -> None:
    for seed in range(10):
        a, b, _ = problem(7, 21, 2, seed)
        program = linprog(np.ones(42), A_eq=np.hstack([a, -a]), b_eq=b)
        wanted = program.x[:21] - program.x[21:]
        np.testing.assert_allclose(recover(a, b, 1e-9), wanted, atol=1e-6)


def test_a_minimiser_is_a_fixed_point() -> None:
    a, b, _ = problem(40, 100, 5, 3)
    z = recover(a, b, 0.01)
    np.testing.assert_allclose(iterate(a, b, 0.01, start=z, steps=1), z, atol=1e-9)


@pytest.mark.parametrize(("rows", "columns", "sparsity"), [(40, 100, 5), (64, 256, 8)])
def test_with_enough_measurements_the_true_support_is_recovered(
    rows: int, columns: int, sparsity: int
) -> None:
    errors = []
    for seed in range(20):
        a, b, z = problem(rows, columns, sparsity, seed)
        recovered = recover(a, b, 1e-4)
        assert set(largest(recovered, sparsity)) == set(np.flatnonzero(z))
        errors.append(np.linalg.norm(recovered - z) / np.linalg.norm(z))
    assert np.median(errors) < 5e-4


def recovery_rate(rows: int, columns: int, kind: MatrixKind, trials: int = 100) -> float:
    """Return the share of trials in which the two largest of ``z`` are the true two."""
    right = 0
    for seed in range(trials):
        a, b, z = problem(rows, columns, 2, seed, kind)
        recovered = recover(a, b, 1e-5)
        right += set(largest(recovered, 2)) == set(np.flatnonzero(z))
    return right / trials


def test_the_recovery_rate_of_seven_measurements_falls_with_operations() -> None:
    few, many = recovery_rate(7, 14, "gauss_unit"), recovery_rate(7, 35, "gauss_unit")
    assert few > 0.8 and 0.45 < many < few
    assert recovery_rate(14, 35, "gauss_unit") > 0.95


def test_nearly_parallel_columns_recover_less() -> None:
    gauss, uniform = recovery_rate(7, 35, "gauss_unit"), recovery_rate(7, 35, "uniform")
    assert 0.5 < uniform < gauss < 0.75


def test_a_solution_has_about_as_many_components_as_measurements() -> None:
    rng = np.random.default_rng(0)
    counts = []
    for _ in range(10):
        a = measurement_matrix(7, 35, rng)
        z = recover(a, 1e-3 * rng.standard_normal(7), 1e-5)
        counts.append(np.count_nonzero(np.abs(z) > 1e-9))
    assert 5 <= np.mean(counts) <= 8 and min(counts) > 2


def test_a_higher_penalty_makes_a_component_smaller() -> None:
    a = np.array([[1.0, 1.0]])
    z = recover(a, np.array([1.0]), np.array([0.01, 0.02]))
    assert z[0] == pytest.approx(0.99) and z[1] == pytest.approx(0, abs=1e-9)


def test_the_columns_of_the_gaussian_matrix_have_length_one() -> None:
    a = measurement_matrix(7, 35, np.random.default_rng(0))
    np.testing.assert_allclose(np.linalg.norm(a, axis=0), 1)
    uniform = measurement_matrix(7, 35, np.random.default_rng(0), "uniform")
    assert uniform.min() >= 0 and uniform.max() < 1


@pytest.mark.parametrize("rows", [0, 15])
def test_more_measurements_than_operations_are_refused(rows: int) -> None:
    with pytest.raises(UsageError, match=f"{rows} measurements of 14 operations; expected 1 to 14"):
        measurement_matrix(rows, 14, np.random.default_rng(0))


def test_the_largest_are_ascending_and_the_first_wins_a_tie() -> None:
    assert largest(np.array([0.1, -3.0, 2.0, -2.0]), 2) == (1, 2)


def test_gates_are_the_strengths_plus_a_step_on_the_residual() -> None:
    a, b, _ = problem(7, 35, 2, 5)
    b = b + 0.1 * np.random.default_rng(0).standard_normal(7)
    z = recover(a, b, 1e-3)
    support = largest(z, 2)
    on_support = np.zeros(35)
    on_support[list(support)] = z[list(support)]
    columns = a[:, list(support)]
    gates = columns.T @ b - gate_bias(a, z, support)
    expected = on_support[list(support)] + columns.T @ (b - a @ on_support)
    np.testing.assert_allclose(gates, expected, rtol=0, atol=1e-12)


def test_gates_of_an_exact_solution_are_its_strengths() -> None:
    a, b, z = problem(7, 35, 2, 6)
    support = largest(z, 2)
    gates = a[:, list(support)].T @ b - gate_bias(a, z, support)
    np.testing.assert_allclose(gates, z[list(support)], rtol=0, atol=1e-12)
