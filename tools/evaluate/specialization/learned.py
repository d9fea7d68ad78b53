"""Two searches that learn probabilities, with a predictor instead of a supernet.

``gradient`` follows the predictor's gradient through sampled one-hot choices (straight-through
Gumbel softmax: Jang, Gu and Poole, ICLR 2017, arXiv:1611.01144) under the Lagrangian objective;
``reinforce`` uses the rewards only. Both use `hwnas.search`'s objectives and Adam of beta1 = 0.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from hwnas.search.blackbox.problem import (
    EvaluatedSet,
    Evaluator,
)
from hwnas.search.objective import Lagrangian, Log
from hwnas.search.proxyless.reinforce import policy_loss
from hwnas.search.statistics import ema_update
from tools.evaluate.specialization.ofa import (
    BLOCKS,
    DEPTHS,
    MIN_RESOLUTION_PX,
    RATIOS,
    RESOLUTION_STEP_PX,
    Predictor,
    Table,
    problem,
)

STEPS, NETWORKS_PER_STEP = 300, 64


def reinforce(table: Table, predictor: Predictor, limit_ms: float, seed: int) -> EvaluatedSet:
    """Follow the policy gradient of the reward ``accuracy * (limit / latency) ** 0.1``."""
    search = problem(table, predictor)
    evaluator, objective = Evaluator(search), Log(limit_ms)
    generator = torch.Generator().manual_seed(seed)
    logits, mask = _logits(search.sizes)
    adam = torch.optim.Adam([logits], 0.05, betas=(0.0, 0.999))
    baseline: float | None = None
    for _ in range(STEPS):
        probs = logits.masked_fill(~mask, -torch.inf).softmax(1)
        paths = torch.multinomial(probs.detach(), NETWORKS_PER_STEP, True, generator=generator).T
        rows = search.canonical(np.ascontiguousarray(paths.numpy()))
        pairs = zip(evaluator(rows) / 100, search.latency_ms(rows), strict=True)
        rewards = [objective.reward(float(accuracy), float(ms)) for accuracy, ms in pairs]
        baseline = ema_update(baseline, float(np.mean(rewards)), 0.99)
        adam.zero_grad()
        policy_loss(probs, paths, torch.tensor(rewards) - baseline).backward()
        adam.step()
    return evaluator.evaluated()


def gradient(table: Table, predictor: Predictor, limit_ms: float, seed: int) -> EvaluatedSet:
    """Minimise predicted loss in percent and expected latency as a share of the limit."""
    search = problem(table, predictor)
    evaluator, objective = Evaluator(search), Lagrangian(limit_ms, rate=0.5, limit=50, damping=0.0)
    generator = torch.Generator().manual_seed(seed)
    logits, mask = _logits(search.sizes)
    adam = torch.optim.Adam([logits], 0.05, betas=(0.0, 0.999))
    layers = [(torch.tensor(weight), torch.tensor(bias)) for weight, bias in predictor.layers]
    block_ms = torch.tensor(table.block_ms, dtype=torch.float32)
    fixed_ms = torch.tensor(table.fixed_ms, dtype=torch.float32)
    sizes = (torch.tensor(table.resolutions) - MIN_RESOLUTION_PX) // RESOLUTION_STEP_PX
    for _ in range(STEPS):
        masked = logits.masked_fill(~mask, -torch.inf)
        noise = (
            -torch.empty(NETWORKS_PER_STEP, *masked.shape).exponential_(generator=generator).log()
        )
        soft = (masked + noise).softmax(2)
        hard = F.one_hot(soft.argmax(2), soft.shape[2]).float()
        gates = hard + soft - soft.detach()
        percent = _predicted(layers, gates, sizes)
        latency_ms = _latency_ms(block_ms, fixed_ms, gates).mean()
        loss = objective.loss(-percent.mean(), latency_ms)
        adam.zero_grad()
        loss.backward()
        adam.step()
        objective.update(latency_ms.item())
        evaluator(search.canonical(hard.argmax(2).numpy()))
    return evaluator.evaluated()


def _logits(sizes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return logits ``[26, 9]`` of zeros, and which of them are candidates."""
    mask = torch.arange(max(sizes)) < torch.tensor(sizes)[:, None]
    return torch.zeros(mask.shape, requires_grad=True), mask


def _alive(gates: Tensor) -> Tensor:
    """Return the presence of each block, ``[N, 20]``, from gates ``[N, 26, 9]``."""
    depth = gates[:, BLOCKS:-1, : len(DEPTHS)]
    more = depth.flip(2).cumsum(2).flip(2)  # at least 2, 3, 4 blocks
    return torch.cat([more[:, :, :1], more], 2).reshape(len(gates), -1)


def _predicted(layers: list[tuple[Tensor, Tensor]], gates: Tensor, sizes: Tensor) -> Tensor:
    blocks = gates[:, :BLOCKS].reshape(len(gates), BLOCKS, 3, len(RATIOS))
    alive = _alive(gates)[:, :, None]
    size = torch.zeros(len(gates), 8).index_add(1, sizes, gates[:, -1, : len(sizes)])
    kernels, ratios = blocks.sum(3) * alive, blocks.sum(2) * alive
    y = torch.cat([kernels.flatten(1), ratios.flatten(1), size], 1)
    for weight, bias in layers[:-1]:
        y = (y @ weight + bias).relu()
    weight, bias = layers[-1]
    return (y @ weight + bias)[:, 0] * 100


def _latency_ms(block_ms: Tensor, fixed_ms: Tensor, gates: Tensor) -> Tensor:
    size = gates[:, -1, : len(fixed_ms)]
    rows = torch.einsum("nr,rbk->nbk", size, block_ms)
    return size @ fixed_ms + ((rows * gates[:, :BLOCKS]).sum(2) * _alive(gates)).sum(1)
