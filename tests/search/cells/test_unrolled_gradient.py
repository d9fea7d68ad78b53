"""The unrolled gradient of DARTS against closed forms, and the toy of figure 2 of the paper."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from hwnas.search.cells.unrolled_gradient import (
    Order,
    VirtualStep,
    Weights,
    architecture_gradient,
    dominant_eigenvalue,
)

SIZE, ARCH = 7, 4
XI, MU, DECAY = 0.05, 0.9, 3e-4


class Quadratic:
    """``L_train = w'Qw/2 + w'Ba + c'w`` and ``L_val = w'Pw/2 + w'Ra + d'w + s'a``."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        generator = torch.Generator().manual_seed(3)

        def drawn(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

        q, p = drawn(SIZE, SIZE), drawn(SIZE, SIZE)
        self.q, self.p = q @ q.T / SIZE, p @ p.T / SIZE
        self.b, self.r = drawn(SIZE, ARCH), drawn(SIZE, ARCH)
        self.c, self.d, self.s = drawn(SIZE), drawn(SIZE), drawn(ARCH)
        self.w, self.m = drawn(SIZE), drawn(SIZE)
        self.a = drawn(ARCH).requires_grad_()

    # the weights are two tensors, so that norms are taken over both
    @property
    def weights(self) -> Weights:
        return {"first": self.w[:3], "second": self.w[3:]}

    def train(self, weights: Weights, arch: Sequence[Tensor]) -> Tensor:
        w = torch.cat([weights["first"], weights["second"]])
        return 0.5 * w @ self.q @ w + w @ self.b @ arch[0] + self.c @ w

    def valid(self, weights: Weights, arch: Sequence[Tensor]) -> Tensor:
        w = torch.cat([weights["first"], weights["second"]])
        return 0.5 * w @ self.p @ w + w @ self.r @ arch[0] + self.d @ w + self.s @ arch[0]

    @property
    def step(self) -> VirtualStep:
        return VirtualStep(XI, MU, DECAY, {"first": self.m[:3], "second": self.m[3:]})

    def gradient(self, order: Order, step: VirtualStep | None = None) -> Tensor:
        step = step or self.step
        _, [gradient] = architecture_gradient(
            self.train, self.valid, self.weights, [self.a], step, order
        )
        return gradient

    @property
    def ahead(self) -> Tensor:
        slope = self.q @ self.w + self.b @ self.a.detach() + self.c
        return self.w - XI * (MU * self.m + slope + DECAY * self.w)

    @property
    def first_order_ahead(self) -> Tensor:
        """``dL_val/da`` at ``w'``: the gradient without its second term."""
        return self.r.T @ self.ahead + self.s

    @property
    def closed_form(self) -> Tensor:
        dw = self.p @ self.ahead + self.r @ self.a.detach() + self.d
        return self.first_order_ahead - XI * self.b.T @ dw


def error(gradient: Tensor, expected: Tensor) -> float:
    return ((gradient - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("order", ["second", "exact"])
def test_the_unrolled_gradient_of_a_quadratic_is_its_closed_form(order: Order) -> None:
    problem = Quadratic()
    assert error(problem.gradient(order), problem.closed_form) < 1e-10
    single = Quadratic(torch.float32)
    assert error(single.gradient(order), single.closed_form) < 1e-4


def test_the_second_order_term_is_not_lost() -> None:
    """The known bug: ``(p - n) / 2 * eps`` for ``(p - n) / (2 * eps)`` leaves the first term."""
    problem = Quadratic()
    assert error(problem.first_order_ahead, problem.closed_form) > 1e-2
    assert error(problem.gradient("second"), problem.first_order_ahead) > 1e-2


def test_momentum_and_weight_decay_are_in_the_virtual_step() -> None:
    problem = Quadratic()
    plain = problem.gradient("exact", VirtualStep(XI))
    no_decay = problem.gradient("exact", problem.step._replace(weight_decay=0.0))
    assert error(plain, problem.closed_form) > 1e-3
    assert 1e-8 < error(no_decay, problem.closed_form) < 1e-2


def test_a_virtual_step_of_zero_is_the_first_order() -> None:
    problem = Quadratic()
    first = problem.gradient("first")
    expected = problem.r.T @ problem.w + problem.s
    torch.testing.assert_close(first, expected, rtol=1e-14, atol=1e-14)
    still = problem.step._replace(learning_rate=0.0)
    for order in ("second", "exact"):
        torch.testing.assert_close(problem.gradient(order, still), first, rtol=0, atol=0)


def test_weights_and_architecture_stay_unchanged() -> None:
    problem = Quadratic()
    before = problem.w.clone(), problem.a.detach().clone(), problem.m.clone()
    for order in ("first", "second", "exact"):
        problem.gradient(order)
    assert torch.equal(problem.w, before[0]) and torch.equal(problem.m, before[2])
    assert torch.equal(problem.a.detach(), before[1]) and problem.a.grad is None


def test_the_error_of_the_difference_falls_with_the_square_of_its_radius() -> None:
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(SIZE, ARCH, generator=generator, dtype=torch.float64)
    w = {"w": torch.randn(SIZE, generator=generator, dtype=torch.float64)}
    a = torch.randn(ARCH, generator=generator, dtype=torch.float64).requires_grad_()

    def train(weights: Weights, arch: Sequence[Tensor]) -> Tensor:
        return (2 * (weights["w"] + mix @ arch[0])).cosh().log().sum()

    def valid(weights: Weights, arch: Sequence[Tensor]) -> Tensor:
        return (weights["w"] - mix @ arch[0] + 1).cosh().log().sum()

    def gradient(order: Order, radius: float) -> Tensor:
        step = VirtualStep(0.3)
        return architecture_gradient(train, valid, w, [a], step, order, radius)[1][0]

    exact = gradient("exact", 0.01)
    errors = [error(gradient("second", radius), exact) for radius in (0.1, 0.01, 0.001)]
    assert errors[0] / errors[1] == pytest.approx(100, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(100, rel=0.1)


def toy(xi: float, order: Order, steps: int) -> tuple[float, float]:
    """Alternate on ``L_train = (w - a)^2``, ``L_val = a w - 2 a + 1``; both steps are 0.1."""
    a = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    w = torch.tensor(-2.0, dtype=torch.float64)
    for _ in range(steps):
        _, [slope] = architecture_gradient(
            lambda weights, arch: (weights["w"] - arch[0]) ** 2,
            lambda weights, arch: arch[0] * weights["w"] - 2 * arch[0] + 1,
            {"w": w},
            [a],
            VirtualStep(xi),
            order,
        )
        with torch.no_grad():
            a -= 0.1 * slope
            w = w - 0.1 * 2 * (w - a)
    return a.item(), w.item()


@pytest.mark.parametrize("xi", [0.0, 0.1, 0.3, 0.5, 0.7, 1.0])
def test_the_toy_of_the_paper_ends_at_its_fixed_point(xi: float) -> None:
    end = 2 / (1 + 2 * xi)
    assert toy(xi, "second", 300) == pytest.approx((end, end), abs=1e-8)


def test_the_toy_finds_the_optimum_at_a_half_and_the_first_order_does_not() -> None:
    for order in ("second", "exact"):
        assert toy(0.5, order, 300) == pytest.approx((1, 1), abs=1e-10)
    assert toy(0.5, "first", 300) == pytest.approx((2, 2), abs=1e-6)


def test_the_toy_goes_the_way_computed_by_hand() -> None:
    assert toy(0.0, "second", 1) == pytest.approx((2.4, -1.12), abs=1e-12)
    assert toy(0.0, "first", 10) == pytest.approx((3.237196614660343, 2.647635754612115), abs=1e-12)
    assert toy(0.5, "second", 1) == pytest.approx((1.8, -1.24), abs=1e-12)
    assert toy(0.5, "second", 10) == pytest.approx((1.1073741824, 0.8926258176), abs=1e-12)


@pytest.mark.parametrize("values", [(3.0, 1.0, 0.5), (-4.0, 1.0, 2.0)])
def test_the_dominant_eigenvalue_is_that_of_greatest_magnitude(values: tuple[float, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[0]
    hessian = turn @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ turn.T
    a = [torch.ones(k, dtype=torch.float64, requires_grad=True) for k in (1, 2)]
    whole = torch.cat(a)
    loss = 0.5 * whole @ hessian @ whole + whole.sum()
    value = dominant_eigenvalue(loss, a, generator, steps=200, tolerance=1e-9)
    assert value == pytest.approx(values[0], rel=1e-6)
