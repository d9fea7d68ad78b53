"""Functions of vectors and matrices: norms, statistics, rotations; random numbers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.bench.compiler.habits.registry import Networks

CASES = Networks()
MAP = (4, 9, 11)


@CASES.add("norms without modules", (6, 8))
class Norms(nn.Module):
    """RMS norm, cosine similarity, distances, statistics with and without correction."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.keys = nn.Parameter(torch.rand(8) + 0.5), nn.Parameter(torch.randn(5, 8))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        variance = x.to(torch.float32).pow(2).mean(-1, keepdim=True)
        x = self.weight * (x * torch.rsqrt(variance + 1e-6)).to(x.dtype)
        return {
            "cosine": F.cosine_similarity(x.unsqueeze(2), self.keys[None, None], dim=-1),
            "distance": torch.cdist(x, self.keys.expand(x.shape[0], -1, -1), p=1.0),
            "pairs": F.pairwise_distance(x[:, :5], self.keys.unsqueeze(0)),
            "statistics": torch.cat(
                (torch.std(x, -1, correction=0), x.var(dim=-1, unbiased=True)), 1
            ),
            "norms": torch.stack(
                (torch.linalg.norm(x, ord=1, dim=-1), x.norm(float("inf"), -1), x.norm(dim=-1))
            ),
            "logsumexp": torch.logsumexp(x, (1, 2)),
            "softmax": F.gumbel_softmax(x, dim=-1) if self.training else F.softmax(x / 0.5, -1),
        }


@CASES.add("matrix norms", (4, 5))
class MatrixNorms(nn.Module):
    """The Frobenius norm, written in three ways."""

    def forward(self, x: Tensor) -> Tensor:
        gram = x.transpose(1, 2) @ x
        trace = torch.diagonal(gram, dim1=-2, dim2=-1).sum(-1)
        return torch.stack(
            (torch.linalg.matrix_norm(x), trace.sqrt(), x.norm("fro", dim=(1, 2))), -1
        )


@CASES.add("linear algebra", (3, 3))
class LinearAlgebra(nn.Module):
    """A 3x3 inverse and determinant, as in camera geometry."""

    def forward(self, x: Tensor) -> Tensor:
        a = x @ x.mT + torch.eye(3)
        return torch.linalg.inv(a) * torch.linalg.det(a).view(-1, 1, 1)


@CASES.add("cross products and rotations", (6,))
class Rotations(nn.Module):
    """The 6-D representation of rotations: normalise, project, cross product, stack."""

    def forward(self, x: Tensor) -> Tensor:
        a, b = x[..., :3], x[..., 3:]
        first = F.normalize(a, dim=-1)
        second = F.normalize(b - (first * b).sum(-1, keepdim=True) * first, dim=-1)
        return torch.stack((first, second, torch.cross(first, second, dim=-1)), dim=-2)


@CASES.add("random numbers in evaluation", (4, 6))
class Sampling(nn.Module):
    """A variational encoder that draws in evaluation, too."""

    def __init__(self) -> None:
        super().__init__()
        self.mu, self.log_var = nn.Linear(6, 2), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        std = torch.exp(0.5 * self.log_var(x))
        return self.mu(x) + torch.randn_like(std) * std


@CASES.add("noise that is only drawn in training", (4, 6))
class TrainingNoise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mu = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.mu(x)
        return y + torch.randn_like(y) if self.training else y
