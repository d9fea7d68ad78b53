"""Image processing: super-resolution, filters, patches, wavelets, edges."""

# People's code states no types of its buffers.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.bench.compiler.habits.registry import Networks

CASES = Networks()


@CASES.add("espcn with bicubic skip", (3, 9, 11))
class SuperResolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 5, padding=2), nn.Tanh(), nn.Conv2d(8, 27, 3, 1, 1), nn.PixelShuffle(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        base = F.interpolate(x, scale_factor=3, mode="bicubic", align_corners=False)
        return torch.clamp(self.body(x) + base, 0.0, 1.0)


@CASES.add("dense residual blocks with scaled skips", (3, 10, 10))
class Rrdb(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, 1, 1)
        self.convs = nn.ModuleList(
            nn.Conv2d(8 + 4 * i, 4 if i < 2 else 8, 3, 1, 1) for i in range(3)
        )
        self.up, self.last = nn.Conv2d(8, 8, 3, 1, 1), nn.Conv2d(8, 3, 3, 1, 1)
        self.act = nn.LeakyReLU(negative_slope=0.2, inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        features = [self.first(x)]
        for conv in self.convs[:-1]:
            features.append(self.act(conv(torch.cat(features, 1))))
        y = features[0] + self.convs[-1](torch.cat(features, 1)) * 0.2
        y = self.act(self.up(F.interpolate(y, scale_factor=2, mode="nearest")))
        return self.last(y)


@CASES.add("guided filter by box filters", (1, 14, 14))
class Guided(nn.Module):
    """Box means by cumsum differences, variance, local linear model."""

    def box(self, x: Tensor) -> Tensor:
        r = 2
        x = x.cumsum(dim=2)
        x = torch.cat([x[:, :, r : 2 * r + 1], x[:, :, 2 * r + 1 :] - x[:, :, : -2 * r - 1],
                       x[:, :, -1:] - x[:, :, -2 * r - 1 : -r - 1]], dim=2)  # fmt: skip
        x = x.cumsum(dim=3)
        return torch.cat([x[..., r : 2 * r + 1], x[..., 2 * r + 1 :] - x[..., : -2 * r - 1],
                          x[..., -1:] - x[..., -2 * r - 1 : -r - 1]], dim=3)  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        n = self.box(torch.ones_like(x))
        mean = self.box(x) / n
        var = self.box(x * x) / n - mean.square()
        a = var / (var + 0.1)
        return self.box(a) / n * x + self.box(mean - a * mean) / n


@CASES.add("minibatch of patches", (3, 24, 24))
class Patches(nn.Module):
    """Patches by unfold of both axes, each normalised, a network on all of them, mean."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(6, 4)
        )

    def forward(self, x: Tensor) -> Tensor:
        b = x.shape[0]
        patches = x.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, 8, 8)
        patches = (patches - patches.mean(dim=(1, 2, 3), keepdim=True)) / patches.std(
            (1, 2, 3), keepdim=True
        )
        return self.net(patches).view(b, -1, 4).mean(1)


@CASES.add("anti-aliased pooling", (4, 11, 9))
class BlurPool(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        a = torch.tensor([1.0, 2.0, 1.0])
        filt = a[:, None] * a[None, :]
        self.register_buffer("filt", (filt / filt.sum())[None, None].repeat((4, 1, 1, 1)))
        self.pad = nn.ReflectionPad2d([1, 1, 1, 1])

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(x, kernel_size=2, stride=1)
        return F.conv2d(self.pad(x), self.filt, stride=2, groups=x.shape[1])


@CASES.add("haar wavelets", (3, 12, 8))
class Wavelets(nn.Module):
    """A discrete wavelet transform by strided slices, a network, and its inverse by assignment."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(12, 12, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x01, x02 = x[:, :, 0::2, :] / 2, x[:, :, 1::2, :] / 2
        x1, x2, x3, x4 = x01[..., 0::2], x02[..., 0::2], x01[..., 1::2], x02[..., 1::2]
        y = self.conv(
            torch.cat(
                (x1 + x2 + x3 + x4, -x1 - x2 + x3 + x4, -x1 + x2 - x3 + x4, x1 - x2 - x3 + x4), 1
            )
        )
        b, c, h, w = y.size()
        a, d, v, g = (y[:, i * 3 : (i + 1) * 3] / 2 for i in range(4))
        out = torch.zeros([b, c // 4, h * 2, w * 2]).float()
        out[:, :, 0::2, 0::2] = a - d - v + g
        out[:, :, 1::2, 0::2] = a - d + v - g
        out[:, :, 0::2, 1::2] = a + d - v - g
        out[:, :, 1::2, 1::2] = a + d + v + g
        return out


@CASES.add("sobel edges and non-maximum suppression", (1, 12, 14))
class Edges(nn.Module):
    """Gradients, an angle by atan2, directions by rounding, comparisons with rolled neighbours."""

    def __init__(self) -> None:
        super().__init__()
        k = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
        self.register_buffer("kernels", torch.stack((k, k.t()))[:, None])

    def forward(self, x: Tensor) -> Tensor:
        gx, gy = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), self.kernels).chunk(2, 1)
        magnitude = torch.sqrt(gx**2 + gy**2 + 1e-6)
        angle = torch.rad2deg(torch.atan2(gy, gx))
        sector = torch.round(angle / 45) * 45
        horizontal = (sector == 0) | (sector.abs() == 180)
        left, right = torch.roll(magnitude, 1, -1), torch.roll(magnitude, -1, -1)
        peak = horizontal & (magnitude >= left) & (magnitude >= right)
        return magnitude * peak.float()
