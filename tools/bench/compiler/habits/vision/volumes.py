"""Videos and volumes: time in the batch, 3-D convolutions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.bench.compiler.habits.registry import Networks

CASES = Networks()


@CASES.add("video by folding time into the batch", (4, 3, 12, 12))
class Video(nn.Module):
    """TSM: frames [T, C, H, W] in the batch, channels shifted in time, consensus."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2, self.fc = (
            nn.Conv2d(3, 8, 3, 2, 1),
            nn.Conv2d(8, 8, 3, 2, 1),
            nn.Linear(8, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        n, t = x.shape[:2]
        y = F.relu(self.conv1(x.flatten(0, 1)))
        _, c, h, w = y.shape
        y = y.view(n, t, c, h, w)
        out = torch.zeros_like(y)
        out[:, :-1, :2] = y[:, 1:, :2]
        out[:, 1:, 2:4] = y[:, :-1, 2:4]
        out[:, :, 4:] = y[:, :, 4:]
        y = self.conv2(out.view(n * t, c, h, w)).mean([2, 3])
        return self.fc(y).view(n, t, -1).mean(dim=1)


@CASES.add("video by 3-D convolutions", (3, 4, 10, 10))
class Video3d(nn.Module):
    """R(2+1)D: kernels in space, then in time, and a pool over both."""

    def __init__(self) -> None:
        super().__init__()
        self.space = nn.Conv3d(3, 6, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False)
        self.bn, self.time = nn.BatchNorm3d(6), nn.Conv3d(6, 8, (3, 1, 1), 1, (1, 0, 0))
        self.pool, self.fc = nn.AdaptiveAvgPool3d(1), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.space(x)))
        return self.fc(self.pool(F.relu(self.time(x))).flatten(1))


@CASES.add("small c3d", (1, 6, 12, 12))
def c3d() -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool3d((1, 2, 2)),
        nn.Conv3d(4, 6, 3, 2, 1),
        nn.BatchNorm3d(6),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d((1, 2, 1)),
        nn.Flatten(),
        nn.Linear(12, 3),
    )


@CASES.add("medical unet in 3-D", (1, 8, 8, 8))
class Unet3d(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv3d(1, 4, 3, padding=1), nn.Conv3d(4, 8, 3, 2, 1)
        self.norm, self.up, self.out = (
            nn.InstanceNorm3d(8),
            nn.ConvTranspose3d(8, 4, 2, 2),
            nn.Conv3d(8, 2, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        a = F.leaky_relu(self.a(x))
        b = F.leaky_relu(self.norm(self.b(a)))
        return self.out(torch.cat((self.up(b), a), 1))
