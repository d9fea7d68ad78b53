"""The architecture gradient of DARTS.

Liu, Simonyan and Yang, ICLR 2019, arXiv:1806.09055, section 2.3.

The validation loss is evaluated at the weights ``w'`` after one virtual training step,

    w' = w - xi * (mu * m + dL_train(w, a)/dw + lambda * w)

with momentum ``mu``, its buffer ``m``, and weight decay ``lambda``. Momentum and weight decay do
not depend on the architecture, so

    d/da L_val(w'(a), a) = dL_val(w', a)/da - xi * d2L_train(w, a)/dadw * v,  v = dL_val(w', a)/dw'

The product with ``v`` is a central difference (equation 8, ``eps = 0.01 / ||v||``), or exact by a
second differentiation. Weights are passed as a mapping and the network's own are never changed, so
there is nothing to restore.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Order = Literal["first", "second", "exact"]
"""First order (``xi = 0``), second by a central difference, second by differentiating twice."""

Weights = dict[str, Tensor]
Loss = Callable[[Weights, Sequence[Tensor]], Tensor]
"""The loss of one batch under given weights and architecture parameters."""

RADIUS = 0.01
"""Length of the step to each side in the central difference, as in the paper."""


class VirtualStep(NamedTuple):
    """The training step that the second order looks ahead: the next step of SGD."""

    learning_rate: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    momenta: Mapping[str, Tensor] = {}
    """Momentum buffers by weight; a missing one is zero."""

    def apply(self, weights: Weights, gradients: Sequence[Tensor]) -> Weights:
        """Return the weights after the step, as new leaves."""
        updated: Weights = {}
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
            direction = gradient + self.weight_decay * weight
            if name in self.momenta:
                direction = direction + self.momentum * self.momenta[name]
            updated[name] = (weight - self.learning_rate * direction).requires_grad_()
        return updated


def architecture_gradient(
    train_loss: Loss,
    valid_loss: Loss,
    weights: Mapping[str, Tensor],
    arch: Sequence[Tensor],
    step: VirtualStep,
    order: Order = "second",
    radius: float = RADIUS,
) -> tuple[Tensor, list[Tensor]]:
    """Return the validation loss and its gradient for each tensor of ``arch``.

    ``arch`` must require gradients. The loss is that at ``w'``, or at ``w`` for the first order.
    """
    arch = list(arch)
    fixed = {name: weight.detach() for name, weight in weights.items()}
    if order == "first":
        loss = valid_loss(fixed, arch)
        return loss.detach(), _gradients(loss, arch)
    live = {name: weight.clone().requires_grad_() for name, weight in fixed.items()}
    exact = order == "exact"
    slope = _gradients(train_loss(live, arch), live.values(), create_graph=exact)
    ahead = step.apply(fixed, [gradient.detach() for gradient in slope])
    loss = valid_loss(ahead, arch)
    direct, v = _split(_gradients(loss, [*arch, *ahead.values()]), len(arch))
    if exact:
        mixed = _gradients(_dot(slope, v), arch)
    else:
        mixed = _central_difference(train_loss, fixed, arch, v, radius)
    return loss.detach(), [
        gradient - step.learning_rate * product
        for gradient, product in zip(direct, mixed, strict=True)
    ]


def _central_difference(
    loss: Loss, weights: Weights, arch: list[Tensor], v: list[Tensor], radius: float
) -> list[Tensor]:
    """Return ``[dL(w + eps v, a)/da - dL(w - eps v, a)/da] / (2 eps)``."""
    norm = torch.sqrt(_dot(v, v)).item()
    if not norm > 0:
        return [torch.zeros_like(part) for part in arch]
    eps = radius / norm
    sides = [
        _gradients(
            loss(
                {
                    name: weight + sign * eps * part
                    for (name, weight), part in zip(weights.items(), v, strict=True)
                },
                arch,
            ),
            arch,
        )
        for sign in (1, -1)
    ]
    return [(plus - minus) / (2 * eps) for plus, minus in zip(*sides, strict=True)]


def hessian_product(loss: Tensor, arch: Sequence[Tensor], vector: Sequence[Tensor]) -> list[Tensor]:
    """Return ``d2L/da2 * vector``; ``loss`` keeps its graph."""
    slope = _gradients(loss, arch, create_graph=True)
    return _gradients(_dot(slope, vector), arch, retain_graph=True)


def dominant_eigenvalue(
    loss: Tensor,
    arch: Sequence[Tensor],
    generator: torch.Generator,
    steps: int = 20,
    tolerance: float = 1e-2,
) -> float:
    """Return the eigenvalue of ``d2L/da2`` of greatest magnitude, by power iteration.

    Zela et al., "Understanding and Robustifying Differentiable Architecture Search", ICLR 2020,
    arXiv:1909.09656, section 3: if it grows, the derived network becomes worse than the search net.
    """
    vector = [torch.randn(part.shape, generator=generator, dtype=part.dtype) for part in arch]
    value = 0.0
    for _ in range(steps):
        length = torch.sqrt(_dot(vector, vector))
        if not length > 0:
            return 0.0
        vector = [part / length for part in vector]
        product = hessian_product(loss, arch, vector)
        new = _dot(vector, product)
        converged = abs(new.item() - value) <= tolerance * abs(new.item())
        value, vector = new.item(), product
        if converged:
            break
    return value


def _dot(left: Sequence[Tensor], right: Sequence[Tensor]) -> Tensor:
    """Return the inner product of two lists of tensors."""
    return torch.stack([(a * b).sum() for a, b in zip(left, right, strict=True)]).sum()


def _gradients(
    loss: Tensor, inputs: Iterable[Tensor], create_graph: bool = False, retain_graph: bool = False
) -> list[Tensor]:
    """Return the gradient of each input, zero where the loss does not depend on it."""
    inputs = list(inputs)
    if not loss.requires_grad:
        return [torch.zeros_like(part) for part in inputs]
    gradients = torch.autograd.grad(
        loss,
        inputs,
        allow_unused=True,
        create_graph=create_graph,
        retain_graph=create_graph or retain_graph,
    )
    return [
        torch.zeros_like(part) if gradient is None else gradient
        for part, gradient in zip(inputs, gradients, strict=True)
    ]


def _split(parts: list[Tensor], at: int) -> tuple[list[Tensor], list[Tensor]]:
    return parts[:at], parts[at:]
