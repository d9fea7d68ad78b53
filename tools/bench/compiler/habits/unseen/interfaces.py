"""Inputs, outputs, buffers and arithmetic on shapes."""

# People's code states no types of its buffers.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false, reportIncompatibleMethodOverride=false
# pyright: reportPossiblyUnboundVariable=false

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.bench.compiler.habits.registry import Networks

CASES = Networks()


class Prediction(NamedTuple):
    boxes: Tensor
    extra: dict[str, Tensor]


@CASES.add("image and table of numbers", {"image": (3, 16, 16), "table": (5,)})
class ImageAndTable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.film = nn.Conv2d(3, 8, 3, 2), nn.Linear(5, 16)
        self.fc = nn.Linear(13, 3)

    def forward(self, image: Tensor, table: Tensor) -> Prediction:
        gamma, beta = self.film(table).view(-1, 2, 8, 1, 1).unbind(1)
        features = F.relu(self.conv(image) * (1 + gamma) + beta)
        joined = torch.hstack((features.mean((2, 3)), torch.nan_to_num(table)))
        return Prediction(self.fc(joined), {"features": features, "norm": joined.norm(dim=1)})


@CASES.add("categories and numbers", {"categories": "3:int64", "numbers": (4,)})
class Categories(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(n, d) for n, d in ((7, 3), (5, 2), (9, 4)))
        self.cross = nn.Parameter(torch.randn(13))
        self.mlp = nn.Sequential(nn.BatchNorm1d(13), nn.Linear(13, 8), nn.Mish(), nn.Linear(8, 1))

    def forward(self, categories: Tensor, numbers: Tensor) -> Tensor:
        columns = categories.clamp(0, 4).unbind(1)
        parts = [table(column) for table, column in zip(self.tables, columns, strict=False)]
        x = torch.cat([*parts, torch.sign(numbers) * numbers.abs().log1p()], 1)
        return self.mlp(x * (x @ self.cross).unsqueeze(1) + x).squeeze(-1).sigmoid()


@CASES.add("bytes that are normalised inside", "20x20x3:uint8")
class Bytes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([123.7, 116.3, 103.5]))
        self.register_buffer("std", torch.tensor([58.4, 57.1, 57.4]))
        self.conv = nn.Conv2d(3, 4, 5, 5)

    def forward(self, pixels: Tensor) -> Tensor:
        x = pixels[..., [2, 1, 0]].float().sub_(self.mean).div_(self.std)
        return torch.amax(self.conv(x.permute(0, 3, 1, 2)), dim=(2, 3))


@CASES.add("sizes computed with divisions", (4, 19, 26))
class Divisions(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        rows = torch.tensor(h) // 4 + 1
        half = int(w * 0.5)
        y = F.adaptive_avg_pool2d(x, (int(rows), half // 2))
        y = F.interpolate(y, scale_factor=(1.5, 2.0), mode="bilinear", recompute_scale_factor=True)
        size = [round(n * 0.8) for n in y.shape[2:]]
        top, left = ((a - b) // 2 for a, b in zip(y.shape[2:], size, strict=False))
        return y[..., top : top + size[0], left : left + size[1]]


@CASES.add("a list that grows, and its last three", (3, 24, 24))
class Growing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(
            {f"stage{n}": nn.Conv2d(3 + 4 * n, 4, 3, 1, 1) for n in range(4)}
        )

    def forward(self, x: Tensor) -> dict[str, Any]:
        features = [x]
        for name in sorted(self.layers):
            features += [F.leaky_relu_(self.layers[name](torch.cat(features, 1)), 0.2)]
        pooled = torch.stack([f.mean((-2, -1)) for f in features[-3:]]).mean(0)
        return {"maps": tuple(features[-2:]), "pooled": pooled}


@CASES.add("optional arguments and keywords", {"x": (6,), "scale": (1,)})
class Optional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.bias = nn.Linear(6, 4), None

    def forward(self, x: Tensor, scale: Tensor | None = None, *, twice: bool = True) -> Tensor:
        y = self.fc(x) if self.bias is None else self.fc(x) + self.bias
        y = y * scale if scale is not None else y
        return torch.cat((y, y), -1) if twice else y


@CASES.add("histogram with soft bins", (1, 12, 12))
class Histogram(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centers", torch.linspace(-2, 2, 8), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        distance = x.flatten(1).unsqueeze(1) - self.centers[None, :, None]
        counts = torch.exp(-0.5 * (distance / 0.5) ** 2).sum(-1)
        density = counts / counts.sum(-1, keepdim=True)
        entropy = -(density * (density + 1e-9).log()).sum(-1)
        return torch.cumsum(density, -1), entropy


@CASES.add("hard mask from a quantile and a sort", (5, 9))
class HardMask(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        energy = x.square().sum(-1)
        order = energy.argsort(dim=-1, descending=True)
        best = torch.take_along_dim(x, order[:, :2, None], dim=1)
        limit = torch.quantile(energy, 0.5, dim=1, keepdim=True)
        rank = order.argsort(-1)
        return best, x * (energy >= limit).unsqueeze(-1), rank


@CASES.add("polar coordinates and bearings", {"points": (11, 3)})
class Polar(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Conv1d(6, 8, 1)

    def forward(self, points: Tensor) -> Tensor:
        centered = points - points.mean(dim=1, keepdim=True)
        x, y, z = centered.split(1, dim=-1)
        radius = torch.linalg.norm(centered, dim=-1, keepdim=True)
        azimuth = torch.arctan2(y, x)
        slope = torch.asin((z / radius.clamp(min=1e-4)).clamp(-0.999, 0.999))
        features = torch.cat((radius, azimuth.sin(), azimuth.cos(), slope, centered[..., :2]), -1)
        return self.fc(features.transpose(1, 2)).max(2).values


@CASES.add("quaternions to matrices", {"q": (4,), "points": (6, 3)})
class Quaternions(nn.Module):
    def forward(self, q: Tensor, points: Tensor) -> Tensor:
        w, x, y, z = torch.unbind(F.normalize(q, dim=-1), -1)
        rows = [
            1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
            2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
            2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
        ]  # fmt: skip
        matrix = torch.stack(rows, dim=-1).view(-1, 3, 3)
        moved = torch.einsum("bij,bnj->bni", matrix, points)
        return torch.linalg.cross(moved, points) + torch.baddbmm(points, points, matrix)


@CASES.add("ensemble of copies with one bias", (8,))
class Ensemble(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.members = nn.ModuleList(nn.Linear(8, 3) for _ in range(3))
        for member in self.members[1:]:
            member.bias = self.members[0].bias

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        outs = torch.stack([member(x).softmax(-1) for member in self.members])
        std, mean = torch.std_mean(outs, dim=0)
        return mean, std


@CASES.add("forecast with a reversible norm", (24, 3))
class Forecast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.trend, self.season = nn.Linear(24, 8), nn.Linear(24, 8)

    def forward(self, x: Tensor) -> Tensor:
        mean, dev = x.mean(1, keepdim=True).detach(), torch.sqrt(x.var(1, keepdim=True) + 1e-5)
        x = (x - mean) / dev
        front, end = x[:, :1].repeat(1, 2, 1), x[:, -1:].repeat(1, 2, 1)
        trend = F.avg_pool1d(torch.cat((front, x, end), 1).permute(0, 2, 1), 5, 1)
        season = x.permute(0, 2, 1) - trend
        return (self.trend(trend) + self.season(season)).permute(0, 2, 1) * dev + mean
