"""Point clouds and graphs."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.bench.compiler.habits.registry import Networks

CASES = Networks()


@CASES.add("point cloud", (3, 32))
class PointNet(nn.Module):
    """A learnt 3x3 transform by bmm with an identity, shared layers, maximum over points."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv1d(3, 16, 1), nn.Linear(16, 9)
        self.bn, self.wide, self.head = nn.BatchNorm1d(16), nn.Conv1d(3, 24, 1), nn.Linear(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        b = x.size()[0]
        t = F.relu(self.bn(self.conv(x)))
        t = torch.max(t, 2, keepdim=True)[0].view(-1, 16)
        iden = torch.eye(3, requires_grad=True).flatten().view(1, 9).repeat(b, 1)
        t = (self.fc(t) + iden).view(-1, 3, 3)
        x = torch.bmm(x.transpose(2, 1), t).transpose(2, 1)
        return self.head(F.relu(self.wide(x)).max(dim=2).values)


@CASES.add("edge convolution over nearest points", (3, 16))
class EdgeConv(nn.Module):
    """DGCNN: pairwise distances, top-k neighbours, indexing by flat indices, maximum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(6, 8, 1, bias=False), nn.BatchNorm2d(8), nn.LeakyReLU(0.2)
        )

    def forward(self, x: Tensor) -> Tensor:
        b, c, n = x.shape
        inner = -2 * torch.matmul(x.transpose(2, 1), x)
        xx = torch.sum(x**2, dim=1, keepdim=True)
        idx = (-xx - inner - xx.transpose(2, 1)).topk(k=4, dim=-1)[1]
        idx = (idx + torch.arange(0, b).view(-1, 1, 1) * n).view(-1)
        flat = x.transpose(2, 1).contiguous()
        feature = flat.view(b * n, -1)[idx, :].view(b, n, 4, c)
        own = flat.view(b, n, 1, c).repeat(1, 1, 4, 1)
        feature = torch.cat((feature - own, own), dim=3).permute(0, 3, 1, 2).contiguous()
        return self.conv(feature).max(dim=-1, keepdim=False)[0]


@CASES.add("graph convolution", {"nodes": (6, 5), "adjacency": (6, 6)})
class GraphConv(nn.Module):
    """A symmetric normalisation by degrees, twice, and attention over edges by masking."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.a = nn.Linear(5, 8, bias=False), nn.Parameter(torch.randn(16, 1))

    def forward(self, nodes: Tensor, adjacency: Tensor) -> Tensor:
        adjacency = (adjacency > 0.5).float() + torch.eye(6)
        degree = adjacency.sum(-1).pow(-0.5)
        norm = torch.diag_embed(degree) @ adjacency @ torch.diag_embed(degree)
        h = F.elu(norm @ self.w(nodes))
        e = F.leaky_relu(h @ self.a[:8] + (h @ self.a[8:]).mT, 0.2)
        attention = torch.where(adjacency > 0, e, -9e15 * torch.ones_like(e)).softmax(-1)
        return F.log_softmax(attention @ h, dim=-1)
