"""Gates of ProxylessNAS without gates: the gradient of probabilities by recomputation.

Cai, Zhu and Han, ICLR 2019, arXiv:1812.00332, sections 3.1 and 3.2. One candidate of a decision
runs; going back, the others that are in question are run once without graph, one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor


class Candidates(Protocol):
    """What a decision chooses from, e.g. `hwnas.nn.supernet.MixedOp`."""

    def __len__(self) -> int: ...

    def __call__(self, x: Any, choice: int, /) -> Tensor: ...


class RecomputedGates(torch.autograd.Function):
    """Passes the active candidate's output through and gives ``probs`` their gradient.

    ``probs [K]`` belong to ``candidates``, of which there may be fewer (padding). Going back,
    ``dL/dg_j`` is computed for each of them from its output, recomputed by ``run`` without graph.
    The straight-through estimator hands it to ``probs``; the softmax does the rest.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx,
        probs: Tensor,
        y: Tensor,
        run: Callable[[int], Tensor],
        candidates: Sequence[int],
        active: int,
    ) -> Tensor:
        ctx.run, ctx.candidates, ctx.active = run, candidates, active
        ctx.save_for_backward(y)
        ctx.width = len(probs)
        return y.view_as(y)

    @staticmethod
    def backward(ctx, grad_y: Tensor):  # type: ignore[override]
        (y,) = ctx.saved_tensors
        grad_gates = grad_y.new_zeros(ctx.width)
        with torch.no_grad():
            for gate, candidate in enumerate(ctx.candidates):
                output = y if candidate == ctx.active else ctx.run(candidate)
                grad_gates[gate] = (grad_y * output).sum()
        return grad_gates, grad_y, None, None, None


def gated(
    probs: Tensor,
    pairs: Tensor | None,
    place: int,
    op: Candidates,
    x: Tensor | Sequence[Tensor],
    active: int,
) -> Tensor:
    """Run a decision's active candidate, with the gradient of ``probs[place]``.

    ``probs`` are ``[P, K]``, or with ``pairs [P, 2]`` those of the pairs, ``[P, 2]``. ``x`` is what
    the candidates take: one output, or those of all nodes before.
    """
    candidates = range(len(op)) if pairs is None else pairs[place].tolist()
    held = x.detach() if isinstance(x, Tensor) else [one.detach() for one in x]
    output = RecomputedGates.apply(
        probs[place], op(x, active), lambda candidate: op(held, candidate), candidates, active
    )
    return cast(Tensor, output)


def draw_pairs(probs: Tensor, generator: torch.Generator) -> Tensor:
    """Draw two different candidates of each decision, ``[P, 2]``, from ``probs [P, K]``.

    A decision of one candidate has it twice: it has nothing to learn, and its gradient is zero.
    """
    pairs = torch.zeros(len(probs), 2, dtype=torch.long)
    for place, row in enumerate(probs):
        several = int(torch.count_nonzero(row)) > 1
        drawn = torch.multinomial(row, 2 if several else 1, generator=generator)
        pairs[place] = drawn
    return pairs


def rescaled(before: Tensor, after: Tensor, pairs: Tensor) -> Tensor:
    """Shift the logits ``after [P, K]`` of each pair so that its joint mass is that of ``before``.

    Then every candidate outside the pairs keeps its probability: one of two goes up, the other
    down. The offset is ``ln(sum exp(after) / sum exp(before))`` over the pair.
    """
    then, now = before.gather(1, pairs), after.gather(1, pairs)
    offset = now.logsumexp(1, keepdim=True) - then.logsumexp(1, keepdim=True)
    return after.scatter(1, pairs, now - offset)
