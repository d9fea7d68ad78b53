"""Dense prediction: pyramids, decoders with skips of odd sizes, heat maps."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.bench.compiler.habits.detection.convolution import conv
from tools.bench.compiler.habits.registry import Networks

CASES = Networks()


@CASES.add("fpn with matched sizes and extra levels", (3, 45, 37))
class Pyramid(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.ModuleList([conv(3, 8, 3, 2), conv(8, 12, 3, 2), conv(12, 16, 3, 2)])
        self.inner = nn.ModuleList(nn.Conv2d(n, 8, 1) for n in (8, 12, 16))
        self.layer = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(3))
        self.p6 = nn.Conv2d(16, 8, 3, 2, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = []
        for stage in self.c:
            x = stage(x)
            features.append(x)
        last = self.inner[-1](features[-1])
        results = [self.layer[-1](last)]
        for idx in range(len(features) - 2, -1, -1):
            lateral = self.inner[idx](features[idx])
            last = lateral + F.interpolate(last, size=lateral.shape[-2:], mode="nearest")
            results.insert(0, self.layer[idx](last))
        results.append(self.p6(features[-1]))
        return {f"p{i + 3}": y for i, y in enumerate(results)}


@CASES.add("bifpn with fast fusion", (8, 20, 20))
class BiFpn(nn.Module):
    """Learnt non-negative weights that are normalised, swish, separable convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.w1, self.w2 = nn.Parameter(torch.rand(2, 2)), nn.Parameter(torch.rand(3, 2))
        self.convs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, groups=8, bias=False), nn.Conv2d(8, 8, 1),
                          nn.BatchNorm2d(8, momentum=0.01, eps=1e-3)) for _ in range(4)
        )  # fmt: skip

    def forward(self, p3: Tensor) -> list[Tensor]:
        p4 = F.max_pool2d(p3, 3, 2, 1)
        p5 = F.max_pool2d(p4, 3, 2, 1)
        w1, w2 = F.relu(self.w1), F.relu(self.w2)
        w1, w2 = w1 / (w1.sum(0) + 1e-4), w2 / (w2.sum(dim=0) + 1e-4)
        up = self.convs[0](F.silu(w1[0, 0] * p4 + w1[1, 0] * F.interpolate(p5, scale_factor=2)))
        out3 = self.convs[1](F.silu(w1[0, 1] * p3 + w1[1, 1] * F.interpolate(up, scale_factor=2)))
        out4 = w2[0, 0] * p4 + w2[1, 0] * up + w2[2, 0] * F.max_pool2d(out3, 2)
        out4 = self.convs[2](F.silu(out4))
        return [out3, out4, self.convs[3](F.silu(p5 + F.max_pool2d(out4, 2)))]


@CASES.add("unet padded to the skip", (1, 37, 45))
class UnetPadded(nn.Module):
    """Odd sizes: the upsampled map is padded by the difference to its skip."""

    def __init__(self) -> None:
        super().__init__()
        self.inc, self.down1, self.down2 = conv(1, 4), conv(4, 8), conv(8, 8)
        self.up1, self.up2 = (
            nn.ConvTranspose2d(8, 8, 2, 2),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
        )
        self.c1, self.c2, self.out = conv(16, 8), conv(12, 4), nn.Conv2d(4, 2, 1)

    def merge(self, x1: Tensor, x2: Tensor) -> Tensor:
        dy, dx = x2.size()[2] - x1.size()[2], x2.size()[3] - x1.size()[3]
        x1 = F.pad(x1, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])
        return torch.cat([x2, x1], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.inc(x)
        x2 = self.down1(F.max_pool2d(x1, 2))
        x3 = self.down2(F.max_pool2d(x2, 2))
        x = self.c1(self.merge(self.up1(x3), x2))
        return self.out(self.c2(self.merge(self.up2(x), x1)))


@CASES.add("unet with cropped skips", (1, 44, 44))
class UnetCropped(nn.Module):
    """Unpadded convolutions; skips are cropped in the centre as torchvision crops."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 8, 3)
        self.up, self.c, self.out = (
            nn.ConvTranspose2d(8, 4, 2, 2),
            nn.Conv2d(8, 4, 3),
            nn.Conv2d(4, 2, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        skip = F.relu(self.a(x))
        x = F.relu(self.b(F.max_pool2d(skip, 2)))
        x = self.up(x)
        top = round((skip.shape[-2] - x.shape[-2]) / 2.0)
        left = round((skip.shape[-1] - x.shape[-1]) / 2.0)
        skip = skip[:, :, top : top + x.shape[-2], left : left + x.shape[-1]]
        return self.out(F.elu(self.c(torch.cat((x, skip), 1)))).argmax(1)


@CASES.add("segnet with unpooling", (3, 16, 20))
class SegNet(nn.Module):
    """Max pooling with indices and max unpooling."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = conv(3, 6), conv(6, 4)
        self.pool = nn.MaxPool2d(2, 2, return_indices=True)
        self.unpool = nn.MaxUnpool2d(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.encode(x)
        size = x.size()
        x, indices = self.pool(x)
        return self.decode(self.unpool(x * 1.1, indices, output_size=size))


@CASES.add("aspp with image pooling", (3, 33, 33))
class Aspp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8, 3, 2)
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(8, 4, 3, padding=r, dilation=r, bias=False), nn.BatchNorm2d(4), nn.ReLU()
            )
            for r in (1, 6, 12, 18)
        )
        self.image = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 4, 1, bias=False), nn.ReLU()
        )
        self.project = nn.Sequential(
            nn.Conv2d(20, 4, 1, bias=False), nn.BatchNorm2d(4), nn.Dropout(0.1)
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        size = x.shape[-2:]
        x = self.stem(x)
        maps = [branch(x) for branch in self.branches]
        pooled = self.image(x)
        maps.append(F.interpolate(pooled, size=x.shape[-2:], mode="bilinear", align_corners=False))
        y = self.project(torch.cat(maps, 1))
        return {"out": F.interpolate(y, size=size, mode="bilinear", align_corners=False), "aux": y}


class Keypoints(NamedTuple):
    points: Tensor
    scores: Tensor


@CASES.add("heat maps to key points", (3, 32, 24))
class HeatMaps(nn.Module):
    """Argmax of each map, x and y by remainder and division, and a soft argmax beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(conv(3, 8, 3, 2), nn.ConvTranspose2d(8, 5, 4, 2, 1))

    def forward(self, x: Tensor) -> Keypoints:
        heat = self.net(x)
        n, k, h, w = heat.shape
        flat = heat.reshape(n, k, -1)
        scores, index = flat.max(dim=2, keepdim=True)
        points = index.repeat(1, 1, 2).float()
        points[:, :, 0] = points[:, :, 0] % w
        points[:, :, 1] = torch.floor(points[:, :, 1] / w)
        soft = F.softmax(flat * 10.0, 2).view(n, k, h, w)
        x_mean = (soft.sum(2) * torch.arange(w, dtype=soft.dtype)).sum(-1, keepdim=True)
        y_mean = (soft.sum(3) * torch.arange(h, dtype=soft.dtype)).sum(-1, keepdim=True)
        return Keypoints(points + 0.01 * torch.cat((x_mean, y_mean), -1), scores)
