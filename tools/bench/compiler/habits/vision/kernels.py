"""Kernels and norms that are computed from the input: dynamic, deformable, modulated."""

# People's code states no types of its buffers.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.bench.compiler.habits.registry import Networks

CASES = Networks()


@CASES.add("involution", (8, 9, 9))
class Involution(nn.Module):
    """A kernel for each pixel, made from the pixel, applied to unfolded neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.reduce, self.span = (
            nn.Sequential(nn.Conv2d(8, 4, 1), nn.BatchNorm2d(4), nn.ReLU()),
            nn.Conv2d(4, 18, 1),
        )
        self.unfold = nn.Unfold(3, 1, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        weight = self.span(self.reduce(x)).view(b, 2, 9, h, w).unsqueeze(2)
        out = self.unfold(x).view(b, 2, c // 2, 9, h, w)
        return (weight * out).sum(dim=3).view(b, c, h, w)


@CASES.add("dynamic convolution", (4, 8, 8))
class Dynamic(nn.Module):
    """A mixture of kernels weighted per image: batch and channels as groups."""

    def __init__(self) -> None:
        super().__init__()
        self.route, self.weight = nn.Linear(4, 3), nn.Parameter(torch.randn(3, 6, 4, 3, 3) * 0.3)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.size()
        attention = F.softmax(self.route(x.mean((2, 3))) / 30, 1)
        kernels = torch.mm(attention, self.weight.view(3, -1)).view(-1, c, 3, 3)
        out = F.conv2d(x.reshape(1, -1, h, w), kernels, None, 1, 1, 1, groups=b)
        return out.view(b, 6, out.size(-2), out.size(-1))


@CASES.add("correlation by a siamese kernel", [(4, 5, 5), (4, 12, 12)])
class Siamese(nn.Module):
    """The features of the template are the kernel, depthwise, on those of the search image."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        z, x = self.conv(z), self.conv(x)
        b, c, h, w = z.shape
        out = F.conv2d(x.view(1, b * c, *x.shape[2:]), z.view(b * c, 1, h, w), groups=b * c)
        return out.view(b, c, *out.shape[2:]) * 0.1


@CASES.add("deformable sampling", (4, 9, 9))
class Deformable(nn.Module):
    """A deformable 3x3 by nine calls of grid_sample at learnt offsets, without torchvision."""

    def __init__(self) -> None:
        super().__init__()
        self.offset, self.weight = nn.Conv2d(4, 18, 3, padding=1), nn.Conv2d(36, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        offset = self.offset(x).view(b, 9, 2, h, w)
        ys, xs = torch.meshgrid(torch.linspace(-1, 1, h), torch.linspace(-1, 1, w), indexing="ij")
        base, samples = torch.stack((xs, ys), -1), []
        for i in range(9):
            grid = base + 0.2 * offset[:, i].permute(0, 2, 3, 1)
            samples.append(
                F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
            )
        return self.weight(torch.cat(samples, 1))


@CASES.add("global response norm", (6, 8, 7))
class Grn(nn.Module):
    """ConvNeXt V2: an L2 norm over the map, divided by its mean over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma, self.beta = (
            nn.Parameter(torch.rand(1, 1, 1, 6)),
            nn.Parameter(torch.rand(1, 1, 1, 6)),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        gx = torch.norm(x, p=2, dim=(1, 2), keepdim=True)
        nx = gx / (gx.mean(dim=-1, keepdim=True) + 1e-6)
        return (self.gamma * (x * nx) + self.beta + x).permute(0, 3, 1, 2)


@CASES.add("style by adaptive instance norm", [(4, 8, 8), (4, 6, 10)])
class AdaIn(nn.Module):
    def statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        n, c = x.size()[:2]
        var = x.view(n, c, -1).var(dim=2) + 1e-5
        return x.view(n, c, -1).mean(dim=2).view(n, c, 1, 1), var.sqrt().view(n, c, 1, 1)

    def forward(self, content: Tensor, style: Tensor) -> Tensor:
        mean, std = self.statistics(style)
        own_mean, own_std = self.statistics(content)
        size = content.size()
        return (content - own_mean.expand(size)) / own_std.expand(size) * std.expand(
            size
        ) + mean.expand(size)


@CASES.add("modulated convolution", [(4, 6, 6), (5,)])
class Modulated(nn.Module):
    """StyleGAN 2: a kernel scaled by the style, demodulated, applied with groups, and a blur."""

    def __init__(self) -> None:
        super().__init__()
        self.affine, self.weight = nn.Linear(5, 4), nn.Parameter(torch.randn(1, 6, 4, 3, 3))
        self.register_buffer(
            "blur", torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 64
        )

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        b, c, height, width = x.shape
        style = self.affine(w).view(b, 1, c, 1, 1)
        weight = self.weight * style
        weight = weight * torch.rsqrt(weight.pow(2).sum([2, 3, 4]) + 1e-8).view(b, 6, 1, 1, 1)
        x = F.conv2d(
            x.view(1, b * c, height, width), weight.view(b * 6, c, 3, 3), padding=1, groups=b
        )
        x = x.view(b, 6, height, width)
        blur = self.blur[None, None].repeat(6, 1, 1, 1)
        return F.leaky_relu(F.conv2d(F.pad(x, (2, 1, 2, 1)), blur, groups=6), 0.2) * 2**0.5
