"""A weight step trains the path and leaves everything else as it was."""

from __future__ import annotations

from random import Random
from typing import cast

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.nn.supernet import SharedMBConv, Supernet
from hwnas.search.path_training import PathTraining, SlicedSGD
from tests.support.tiny import MB33, MB36, MB73, MB76, tiny_batch, tiny_space

SPACE = tiny_space(MB33, MB36, MB73, MB76)
SMALLEST, LARGEST = (0, 0), (3, 3)


def training(share: bool, steps: int = 10) -> PathTraining[Supernet]:
    """Return the training of a supernet all of whose weights have momentum."""
    torch.manual_seed(0)
    result = PathTraining(Supernet(SPACE, share))
    rng = Random(0)
    for _ in range(steps):
        result.path_step(tiny_batch(), SPACE.random(rng).choices, 0.1)
    return result


def snapshot(search: PathTraining[Supernet]) -> dict[str, tuple[Tensor, ...]]:
    """Return each weight with its momentum."""
    state = search.optimizer.state
    momenta = (
        (name, p, state[p].get("momentum_buffer")) for name, p in search.supernet.named_parameters()
    )
    return {
        name: (p.detach().clone(), *([] if m is None else [m.clone()])) for name, p, m in momenta
    }


@pytest.mark.parametrize("share", [True, False], ids=["shared", "separate"])
def test_weights_of_other_candidates_do_not_move(share: bool) -> None:
    search = training(share)
    before = snapshot(search)
    search.path_step(tiny_batch(), (0, 3), 0.1)
    after = snapshot(search)
    used = ("stem", "head", "mixed.0.candidates.0", "mixed.1.candidates.3")
    for name, tensors in before.items():
        same = all(map(torch.equal, tensors, after[name]))
        assert same != name.startswith((*used, "mixed.0.shared", "mixed.1.shared")), name


def test_only_the_used_part_of_shared_weights_moves() -> None:
    search = training(share=True)
    shared = cast(SharedMBConv, search.supernet.ops[0].shared)
    before = snapshot(search)
    for _ in range(10):
        search.path_step(tiny_batch(), SMALLEST, 0.1)
    after = snapshot(search)
    block = SPACE.blocks[0][SMALLEST[0]]
    for (name, _), part in zip(
        shared.named_parameters(), shared.slices(block).values(), strict=True
    ):
        for old, new in zip(
            before[f"mixed.0.shared.{name}"], after[f"mixed.0.shared.{name}"], strict=True
        ):
            inside = torch.zeros_like(old, dtype=torch.bool)
            inside[part] = True
            assert 0 < inside.float().mean() < 1
            assert torch.equal(old[~inside], new[~inside]), name
            assert (old[inside] != new[inside]).float().mean() > 0.9, name


def test_a_path_of_the_largest_candidates_moves_as_by_plain_sgd() -> None:
    sliced, plain = training(share=True, steps=0), training(share=True, steps=0)
    optimizer = torch.optim.SGD(
        plain.supernet.parameters(), 0.1, plain.momentum, nesterov=True, weight_decay=4e-5
    )
    images, labels = tiny_batch()
    plain.supernet.train()
    for _ in range(4):
        sliced.path_step((images, labels), LARGEST, 0.1)
        optimizer.zero_grad(set_to_none=True)
        logits = plain.supernet(images, LARGEST)
        F.cross_entropy(logits, labels, label_smoothing=0.1).backward()
        optimizer.step()
    for mine, right in zip(sliced.supernet.parameters(), plain.supernet.parameters(), strict=True):
        torch.testing.assert_close(mine, right, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("nesterov", [False, True])
def test_a_sliced_step_is_that_of_a_weight_of_the_slice_alone(nesterov: bool) -> None:
    torch.manual_seed(0)
    whole = nn.Parameter(torch.randn(6, 4))
    part = (slice(1, 3), slice(2))
    alone = nn.Parameter(whole.detach()[part].clone())
    kinds = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05, "nesterov": nesterov}
    mine, right = SlicedSGD([whole], **kinds), torch.optim.SGD([alone], **kinds)
    mine.used = {whole: part}
    for _ in range(3):
        gradient = torch.randn(2, 2)
        whole.grad = torch.zeros(6, 4)
        whole.grad[part], alone.grad = gradient, gradient
        mine.step()
        right.step()
    torch.testing.assert_close(whole.detach()[part], alone.detach())
