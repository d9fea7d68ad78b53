"""Discrete choices: mixtures of experts, vector quantisation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.bench.compiler.habits.registry import Networks

CASES = Networks()


@CASES.add("mixture of experts with top 2", (5, 8))
class Experts(nn.Module):
    """Every expert is computed; a dense mask of the two best of each token weights them."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(8, 4, bias=False)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 16), nn.SiLU(), nn.Linear(16, 8)) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        b, t, c = x.shape
        x = x.view(-1, c)
        weights, chosen = torch.topk(F.softmax(self.gate(x), dim=1, dtype=torch.float), 2, dim=-1)
        weights = weights / weights.sum(dim=-1, keepdim=True)
        mask = F.one_hot(chosen, num_classes=4)
        full = (mask * weights.unsqueeze(-1)).sum(1)
        out = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            out = out + expert(x) * full[:, i : i + 1]
        return out.view(b, t, c)


@CASES.add("experts called on their tokens only", (5, 8))
class SparseExperts(nn.Module):
    """torch.where on the router's choice and index_add_: sizes depend on values."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = nn.Linear(8, 2), nn.ModuleList(nn.Linear(8, 8) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.view(-1, 8)
        chosen, out = self.gate(flat).argmax(-1), torch.zeros_like(flat)
        for i, expert in enumerate(self.experts):
            (rows,) = torch.where(chosen == i)
            out.index_add_(0, rows, expert(flat[rows]))
        return out.view_as(x)


@CASES.add("vector quantiser", (9, 4))
class Quantiser(nn.Module):
    """Nearest code by expanded squares, embedding of the index, straight-through."""

    def __init__(self) -> None:
        super().__init__()
        self.codebook = nn.Embedding(12, 4)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        flat = z.reshape(-1, 4)
        d = (flat.pow(2).sum(1, keepdim=True) - 2 * flat @ self.codebook.weight.t()
             + self.codebook.weight.pow(2).sum(1, keepdim=True).t())  # fmt: skip
        indices = d.min(1)[1]
        quantised = self.codebook(indices).view(z.shape)
        return z + (quantised - z).detach(), indices.view(z.shape[:-1])
