"""Blocks of image networks: shuffles, paddings, norms by hand, weights that are computed."""

# People's code states no types of its buffers.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false, reportIncompatibleMethodOverride=false
# pyright: reportPossiblyUnboundVariable=false

from __future__ import annotations

import math
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from tools.bench.compiler.habits.registry import Networks

CASES = Networks()


class SameConv(nn.Conv2d):
    """Pads so that the size is that of the image divided by the stride, rounded up."""

    def forward(self, x: Tensor) -> Tensor:
        sides: list[int] = []
        for size, kernel, stride in zip(
            x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=False
        ):
            total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
            sides += [total // 2, total - total // 2]
        if any(sides):
            x = F.pad(x, sides)
        return self._conv_forward(x, self.weight, self.bias)


CASES.add("a sequential of padded convolutions", (3, 23, 30))(
    lambda: nn.Sequential(
        OrderedDict(
            stem=SameConv(3, 8, 3, 2),
            norm=nn.BatchNorm2d(8, eps=1e-3),
            swish=nn.SiLU(inplace=True),
            down=SameConv(8, 8, 5, 2, groups=8),
            head=nn.Sequential(nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(8, 5)),
        )
    )
)


@CASES.add("half of the channels passes and is shuffled", (8, 12, 12))
class HalfPasses(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3, 1, 1, groups=4), nn.Conv2d(4, 4, 1))

    def forward(self, x: Tensor) -> Tensor:
        passed, used = x[:, ::2], x[:, 1::2]
        out = torch.cat([passed, super().forward(used)], dim=1)
        b, c, h, w = out.shape
        return out.reshape(b, 2, c // 2, h, w).swapaxes(1, 2).flatten(1, 2)


@CASES.add("weights standardised in forward", (3, 16, 16))
class Standardised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gain = nn.Conv2d(3, 8, 3, padding=1), nn.Parameter(torch.ones(8, 1, 1, 1))
        self.norm = nn.GroupNorm(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.conv.weight
        mean = weight.mean(dim=[1, 2, 3], keepdim=True)
        std = weight.view(8, -1).std(dim=1).view(-1, 1, 1, 1) + 1e-5
        weight = self.gain * (weight - mean) / std
        return F.silu(self.norm(F.conv2d(x, weight, self.conv.bias, padding=1))) * 1.7868


@CASES.add("layer norm of channels by hand, scaled", (6, 9, 9))
class HandNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.rand(6)), nn.Parameter(torch.randn(6))
        self.scale = nn.Parameter(torch.tensor(0.7))

    def forward(self, x: Tensor) -> Tensor:
        u = x.mean(1, keepdim=True)
        s = (x - u).pow(2).mean(1, keepdim=True)
        y = self.weight[:, None, None] * ((x - u) / torch.sqrt(s + 1e-6)) + self.bias[:, None, None]
        rms = y.norm(2, dim=1, keepdim=True) * y.shape[1] ** -0.5
        return self.scale * y / (rms + 1e-8)


@CASES.add("global response norm and filtered pools", (8, 14, 14))
class ResponseNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.randn(1, 1, 1, 8))
        blur = torch.tensor([1.0, 2.0, 1.0])
        self.register_buffer("blur", (blur[:, None] * blur / 16).expand(8, 1, 3, 3).clone())

    def forward(self, x: Tensor) -> Tensor:
        y = x.movedim(1, -1)
        gx = torch.norm(y, p=2, dim=(1, 2), keepdim=True)
        y = (y * gx / (gx.mean(-1, keepdim=True) + 1e-6) + self.beta + y).movedim(-1, 1)
        y = F.max_pool2d(y, 2, stride=1)
        return F.conv2d(F.pad(y, (1, 1, 1, 1), "reflect"), self.blur, stride=2, groups=y.shape[1])


@CASES.add("tied encoder and decoder", (1, 16, 16))
class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.code = nn.Conv2d(1, 6, 4, 2, 1), nn.Linear(6 * 64, 10)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        code = self.code(F.relu(self.conv(x)).flatten(1))
        back = F.linear(code, self.code.weight.t()).view(-1, 6, 8, 8).relu()
        image = F.conv_transpose2d(back, self.conv.weight, stride=2, padding=1)
        return {
            "code": code,
            "image": torch.sigmoid(image),
            "error": ((image - x) ** 2).mean([1, 2, 3]),
        }


@CASES.add("everything functional with weights in a dict", (3, 12, 12))
class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.p = nn.ParameterDict(
            {
                "w1": nn.Parameter(torch.randn(6, 3, 3, 3) * 0.3),
                "b1": nn.Parameter(torch.randn(6)),
                "w2": nn.Parameter(torch.randn(4, 6) * 0.3),
            }
        )
        self.register_buffer("mean", torch.rand(6))
        self.register_buffer("var", torch.rand(6) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.conv2d(x, self.p["w1"], self.p["b1"], stride=[2, 2], padding=[1, 1])
        x = F.batch_norm(x, self.mean, self.var, training=False)
        x = torch.clamp_min(x, 0).mean((-1, -2))
        return torch.log_softmax(torch.addmm(torch.zeros(4), x, self.p["w2"].t()), 1)


@CASES.add("images into patches and back", (3, 24, 16))
class Patches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix, self.norm = nn.Linear(48, 48), nn.BatchNorm1d(24)

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.unfold(2, 4, 4).unfold(3, 4, 4)
        b, _c, rows, columns, _ph, _pw = tokens.shape
        tokens = tokens.permute(0, 2, 3, 1, 4, 5).reshape(b, rows * columns, -1)
        tokens = self.norm(self.mix(tokens))
        return F.fold(tokens.transpose(1, 2), x.shape[2:], kernel_size=4, stride=4)


@CASES.add("focus and space to depth by slices", (3, 20, 20))
class Focus(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(12, 8, 3, 1, 1)
        self.up = nn.Sequential(nn.Conv2d(8, 12, 1), nn.PixelShuffle(2))

    def forward(self, x: Tensor) -> Tensor:
        quarters = [x[..., i::2, j::2] for j in (0, 1) for i in (0, 1)]
        y = F.hardswish(self.conv(torch.cat(quarters, 1)))
        return self.up(y) + F.pixel_shuffle(F.pixel_unshuffle(x, 2), 2)


@CASES.add("orthogonal and weight norm parametrised", (4, 10, 10))
class Parametrised(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = parametrizations.weight_norm(nn.Conv2d(4, 6, 3))
        self.second = parametrizations.spectral_norm(nn.Linear(6, 6))
        self.third = parametrizations.orthogonal(nn.Linear(6, 6))

    def forward(self, x: Tensor) -> Tensor:
        return self.third(self.second(self.first(x).amax(dim=[2, 3])).tanh())


@CASES.add("deformed by predicted offsets", (4, 10, 12))
class Deformed(nn.Module):
    """A deformable convolution by ``grid_sample``, as where its operator is not available."""

    def __init__(self) -> None:
        super().__init__()
        self.offsets = nn.Conv2d(4, 18, 3, padding=1)
        self.weight = nn.Linear(36, 5)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        offset = self.offsets(x).view(b, 9, 2, h, w).tanh()
        ky, kx = torch.meshgrid(torch.arange(-1, 2), torch.arange(-1, 2), indexing="ij")
        kernel = torch.stack((kx, ky), -1).view(1, 9, 2, 1, 1)
        ys, xs = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        places = torch.stack((xs, ys), 0).view(1, 1, 2, h, w) + kernel + offset
        size = torch.tensor([w, h]).view(1, 1, 2, 1, 1)
        grid = ((2 * places + 1) / size - 1).permute(0, 1, 3, 4, 2).reshape(b, 9 * h, w, 2)
        sampled = F.grid_sample(x, grid.float(), mode="bilinear", align_corners=False)
        columns = sampled.view(b, c, 9, h, w).permute(0, 3, 4, 1, 2).flatten(3)
        return self.weight(columns).permute(0, 3, 1, 2)


@CASES.add("edges by fixed filters and morphology", (1, 18, 18))
class Edges(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])
        self.register_buffer("kernels", torch.stack((sobel, sobel.t()))[:, None])

    def forward(self, x: Tensor) -> Tensor:
        gx, gy = F.conv2d(F.pad(x, (1,) * 4, "replicate"), self.kernels).split(1, 1)
        magnitude = torch.hypot(gx, gy)
        angle = torch.atan2(gy, gx + 1e-6)
        dilated = F.max_pool2d(magnitude, 3, 1, 1)
        eroded = -F.max_pool2d(-magnitude, 3, 1, 1)
        peak = (magnitude >= dilated).to(x.dtype)
        return torch.cat(
            (magnitude / (magnitude.amax((2, 3), True) + 1e-6), angle, eroded, peak), 1
        )
