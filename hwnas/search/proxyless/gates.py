"""Binary-gate gradients of ProxylessNAS, by recomputation.

Cai, Zhu and Han, ICLR 2019, arXiv:1812.00332, sections 3.1 and 3.2. One candidate of each decision
runs; the backward pass runs the other candidates involved once without graph, one at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from hwnas.training.compute import full_precision

AUTOCAST_DEVICES = ("cpu", "cuda", "mps")


class Candidates(Protocol):
    """The candidates of a decision, e.g. `hwnas.nn.supernet.MixedOp`."""

    def __len__(self) -> int: ...

    def __call__(self, x: Any, choice: int, /) -> Tensor: ...


class RecomputedGates(torch.autograd.Function):
    """Returns the output of the active candidate and gives ``probs`` their gradient.

    Recomputed candidates have the precision of the forward pass; sums are in float32 at
    least.

    ``probs [K]`` belong to ``candidates``, which may be fewer (padding). The backward pass computes
    ``dL/dg_j`` for each of them from its output, which ``run`` recomputes without graph. The
    straight-through estimator passes it to ``probs``; the softmax does the rest.
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
        ctx.casts = _casts(y)
        ctx.save_for_backward(y)
        ctx.width = len(probs)
        return y.view_as(y)

    @staticmethod
    def backward(ctx, grad_y: Tensor):  # type: ignore[override]
        (y,) = ctx.saved_tensors
        grad_y_full = full_precision(grad_y)
        grad_gates = grad_y_full.new_zeros(ctx.width)
        with torch.no_grad(), ctx.casts():
            for gate, candidate in enumerate(ctx.candidates):
                output = y if candidate == ctx.active else ctx.run(candidate)
                grad_gates[gate] = (grad_y_full * output).sum()
        return grad_gates, grad_y, None, None, None


def _casts(y: Tensor) -> Callable[[], AbstractContextManager[object]]:
    """Return the autocast region that is active now; a backward pass runs outside it."""
    kind = y.device.type
    if kind not in AUTOCAST_DEVICES or not torch.is_autocast_enabled(kind):
        return nullcontext
    return partial(torch.autocast, kind, torch.get_autocast_dtype(kind))


def apply_gate(
    probs: Tensor,
    pairs: Tensor | None,
    place: int,
    op: Candidates,
    x: Tensor | Sequence[Tensor],
    active: int,
) -> Tensor:
    """Run the active candidate of a decision, with the gradient of ``probs[place]``.

    ``probs`` are ``[P, K]``, or with ``pairs [P, 2]`` those of the pairs, ``[P, 2]``. ``x`` is the
    input of the candidates: a tensor, or the outputs of all earlier nodes.
    """
    candidates = range(len(op)) if pairs is None else pairs[place].tolist()
    detached = x.detach() if isinstance(x, Tensor) else [output.detach() for output in x]
    output = RecomputedGates.apply(
        probs[place], op(x, active), lambda candidate: op(detached, candidate), candidates, active
    )
    return cast(Tensor, output)


def draw_pairs(probs: Tensor, generator: torch.Generator) -> Tensor:
    """Draw two different candidates of each decision, ``[P, 2]``, from ``probs [P, K]``.

    A decision with a single candidate gets it twice; its gradient is zero.
    """
    pairs = torch.zeros(len(probs), 2, dtype=torch.long)
    for place, row in enumerate(probs):
        several = int(torch.count_nonzero(row)) > 1
        drawn = torch.multinomial(row, 2 if several else 1, generator=generator)
        pairs[place] = drawn
    return pairs


def rescale_pairs(before: Tensor, after: Tensor, pairs: Tensor) -> Tensor:
    """Shift the logits ``after [P, K]`` of each pair so that its joint mass is that of ``before``.

    Every candidate outside the pairs then keeps its probability. The offset is
    ``ln(sum exp(after) / sum exp(before))`` over the pair.
    """
    then, now = before.gather(1, pairs), after.gather(1, pairs)
    offset = now.logsumexp(1, keepdim=True) - then.logsumexp(1, keepdim=True)
    return after.scatter(1, pairs, now - offset)
