"""Importance of the inner channels of a block, from which sorted cuts are made.

`l1` is the order of Once-for-all (Cai et al., ICLR 2020, arXiv:1908.09791, section 3.3). The other
two need statistics of the inner channels. None of them considers that channels can replace each
other; `hwnas.nn.elastic.projection.elimination_order` does.
"""

from __future__ import annotations

from torch import Tensor


def l1(filters: Tensor) -> Tensor:
    """Return the L1 norms ``[C]`` of ``filters [C, ...]``.

    For inner channels, the filters are the transposed projection ``[inner, out, 1, 1]``.
    """
    return filters.abs().flatten(1).sum(1)


def activation(projection: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    """Return ``rms(a_c) * ||P_c||`` for each inner channel c, ``[I]``.

    ``projection`` P is ``[O, I]``; ``mean [I]`` and ``covariance [I, I]`` are those of its inputs.
    """
    second_moment = covariance.diagonal() + mean.square()
    return second_moment.sqrt() * projection.norm(dim=0)


def variance(projection: Tensor, covariance: Tensor) -> Tensor:
    """Return ``std(a_c) * ||P_c||`` for each inner channel c, ``[I]``; see `activation`."""
    return covariance.diagonal().sqrt() * projection.norm(dim=0)


def most_important(scores: Tensor, count: int) -> Tensor:
    """Return the indices of the ``count`` largest of ``scores [C]`` in ascending order.

    Of equal scores the first is taken, so the sets of two counts are nested.
    """
    return scores.argsort(descending=True, stable=True)[:count].sort().values
