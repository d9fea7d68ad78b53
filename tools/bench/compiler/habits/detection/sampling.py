"""Maps that are sampled at computed points: regions, transformers, optical flow."""

# People's code states no types of its buffers.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.bench.compiler.habits.registry import Networks

CASES = Networks()


@CASES.add("roi align of fixed boxes by grid_sample", (4, 20, 20))
class FixedRegions(nn.Module):
    """The same three regions of every image, by affine_grid and grid_sample."""

    def __init__(self) -> None:
        super().__init__()
        theta = torch.tensor([[[0.5, 0, 0.1], [0, 0.5, -0.2]], [[0.3, 0, -0.4], [0, 0.6, 0.2]]])
        self.register_buffer("theta", theta)
        self.fc = nn.Linear(4 * 25, 6)

    def forward(self, x: Tensor) -> Tensor:
        pieces = []
        for theta in self.theta.unbind():
            grid = F.affine_grid(
                theta.expand(x.shape[0], 2, 3), [x.shape[0], 4, 5, 5], align_corners=False
            )
            pieces.append(F.grid_sample(x, grid, align_corners=False).flatten(1))
        return self.fc(torch.stack(pieces, 1))


@CASES.add("spatial transformer", (1, 20, 20))
class SpatialTransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.locate = nn.Sequential(nn.Conv2d(1, 4, 7), nn.MaxPool2d(2, 2), nn.ReLU(True))
        self.fc = nn.Sequential(nn.Linear(4 * 7 * 7, 8), nn.ReLU(True), nn.Linear(8, 6))
        self.fc[2].weight.data.mul_(0.1)
        self.fc[2].bias.data.copy_(torch.tensor([1, 0, 0, 0, 1, 0], dtype=torch.float))
        self.head = nn.Conv2d(1, 3, 5)

    def forward(self, x: Tensor) -> Tensor:
        theta = self.fc(self.locate(x).view(-1, 4 * 7 * 7)).view(-1, 2, 3)
        grid = F.affine_grid(theta, x.size(), align_corners=False)
        return F.adaptive_avg_pool2d(self.head(F.grid_sample(x, grid, align_corners=False)), 3)


@CASES.add("optical flow warp", [(3, 16, 20), (2, 16, 20)])
class Warp(nn.Module):
    """A grid from the size of the flow, normalised to -1..1, and a mask of pixels inside."""

    def forward(self, x: Tensor, flow: Tensor) -> Tensor:
        _, _, h, w = x.size()
        xx = torch.arange(0, w).view(1, -1).repeat(h, 1)
        yy = torch.arange(0, h).view(-1, 1).repeat(1, w)
        grid = torch.stack((xx, yy), 0).float().unsqueeze(0)
        vgrid = grid + flow
        vx = 2.0 * vgrid[:, 0] / max(w - 1, 1) - 1.0
        vy = 2.0 * vgrid[:, 1] / max(h - 1, 1) - 1.0
        return F.grid_sample(x, torch.stack((vx, vy), 3), padding_mode="border", align_corners=True)
