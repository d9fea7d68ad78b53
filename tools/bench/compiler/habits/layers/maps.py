"""Layers on feature maps in rarer forms: pads, pools, transposed convolutions, norms, resizing."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.bench.compiler.habits.registry import Networks

CASES = Networks()
MAP = (4, 9, 11)


@CASES.add("pads of each axis in each mode", MAP)
class Pads(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (1, 2), mode="constant", value=0.25)
        x = F.pad(x, (2, 0, 1, 3), mode="reflect")
        x = F.pad(x, (0, 1, 2, 0), mode="replicate")
        x = F.pad(x, (3, 1, 0, 2), mode="circular")
        x = F.pad(x, (-1, -2, 0, -3))
        return F.pad(x, (0, 0, 1, 0, 2, 1), value=-1.0)


@CASES.add("three-axis reflect and replicate pads", (2, 6, 7))
class VolumePads(nn.Module):
    """Padding modules of volumes on a map with a depth of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.reflect, self.replicate = (
            nn.ReflectionPad3d((1, 2, 0, 1, 1, 0)),
            nn.ReplicationPad3d(1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.replicate(self.reflect(x.unsqueeze(1))).squeeze(1)


@CASES.add("pools in rare forms", MAP)
class Pools(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (
            F.max_pool2d(x, (3, 2), (2, 1), (1, 0), dilation=(1, 2), ceil_mode=True),
            F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False),
            F.avg_pool2d(x, (2, 5), divisor_override=7),
            F.adaptive_avg_pool2d(x, (5, 7)),
            F.adaptive_max_pool2d(x, (4, 3)),
            F.lp_pool2d(x.abs(), 3, 2, ceil_mode=True),
            F.max_pool1d(x.flatten(2), 3, 2, 1, ceil_mode=True),
        )


@CASES.add("pools of volumes", (2, 5, 6, 8))
class VolumePools(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (
            F.max_pool3d(x, 2, 1),
            F.avg_pool3d(x, (1, 2, 2)),
            F.adaptive_avg_pool3d(x, (2, 3, 4)),
        )


@CASES.add("max pool indices as output", MAP)
class PoolIndices(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        values, places = F.max_pool2d(x, 3, 2, 1, return_indices=True)
        return values, places


@CASES.add("transposed convolutions in rare forms", (4, 6, 5))
class Transposed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.ConvTranspose2d(
            4, 6, 3, stride=(2, 3), padding=1, output_padding=(1, 2), groups=2
        )
        self.b = nn.ConvTranspose2d(
            6, 6, (2, 4), stride=1, padding=(0, 3), dilation=(3, 2), groups=6, bias=False
        )
        self.c = nn.ConvTranspose2d(6, 3, 5, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(torch.relu(self.a(x)))
        return self.c(x, output_size=(x.shape[2] * 2, x.shape[3] * 2 - 1))


@CASES.add("activations of every kind", MAP)
class Activations(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.prelu = nn.PReLU(4, init=0.1)
        self.each = nn.ModuleList(
            [
                nn.Softplus(beta=3, threshold=4),
                nn.Mish(),
                nn.Hardtanh(-0.3, 0.7),
                nn.CELU(0.7),
                nn.SELU(),
                nn.GELU("tanh"),
                nn.Tanhshrink(),
                nn.Softshrink(0.2),
                nn.RReLU(0.1, 0.3),
                nn.Hardswish(),
                nn.Softmin(dim=1),
                nn.Softmax2d(),
                nn.LogSigmoid(),
                nn.Threshold(0.1, 20.0),
                nn.ReLU6(),
                nn.Softsign(),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.prelu(x)
        return (
            torch.stack([part(x) for part in self.each]).sum(0)
            + torch.special.expit(x)
            + torch.logit(x.sigmoid(), eps=1e-3)
        )


@CASES.add("group norms of odd groups", (9, 5, 5))
class OddGroups(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.GroupNorm(3, 9), nn.GroupNorm(9, 9, affine=False)
        self.c, self.conv = (
            nn.InstanceNorm2d(9, affine=True, track_running_stats=True),
            nn.Conv2d(9, 9, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.conv(F.silu(self.b(self.conv(self.a(x))))))


@CASES.add("standardised weights", (4, 9, 9))
class Standardised(nn.Module):
    """Weight standardisation in forward, and an old spectral norm."""

    class Conv(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            w = self.weight
            w = w - w.mean(dim=(1, 2, 3), keepdim=True)
            w = w / (w.view(w.size(0), -1).std(dim=1).view(-1, 1, 1, 1) + 1e-5)
            return F.conv2d(
                input, w, self.bias, self.stride, self.padding, self.dilation, self.groups
            )

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = self.Conv(4, 8, 3, padding=1), nn.GroupNorm(4, 8)
        self.last = nn.utils.spectral_norm(nn.Conv2d(8, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.norm(self.conv(x))))


@CASES.add("resizing in rare forms", (3, 7, 10))
class Resizing(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (
            F.interpolate(x, scale_factor=0.5, mode="bilinear", recompute_scale_factor=True),
            F.interpolate(x, scale_factor=(1.7, 0.6), mode="nearest"),
            F.interpolate(x, size=(5, 21), mode="bicubic", align_corners=True),
            F.interpolate(x, scale_factor=0.4, mode="bilinear", antialias=True),
            F.interpolate(x.flatten(1, 2), scale_factor=2.5, mode="linear", align_corners=True),
            F.interpolate(x, size=11, mode="nearest-exact"),
            F.interpolate(x.unsqueeze(2), scale_factor=(2, 2, 2), mode="nearest").flatten(1, 2),
        )


@CASES.add("trilinear resize", (2, 3, 4, 5))
class Trilinear(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, size=(6, 4, 7), mode="trilinear", align_corners=False)
