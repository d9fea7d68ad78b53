"""Blocks of vision code: windows, gates, dynamic kernels, super-resolution, odd layers."""

# People's code states no types of its buffers.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.bench.compiler.habits.registry import Networks

CASES = Networks()


@CASES.add("shifted windows with bias and mask", (8, 8, 8))
class Window(nn.Module):
    """Swin's window attention: roll, partition, bias table, mask of regions, reverse."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.proj, self.norm = nn.Linear(8, 24), nn.Linear(8, 8), nn.LayerNorm(8)
        self.table = nn.Parameter(torch.randn(49, 2) * 0.5)
        coords = torch.stack(torch.meshgrid([torch.arange(4), torch.arange(4)], indexing="ij"))
        flat = torch.flatten(coords, 1)
        relative = (flat[:, :, None] - flat[:, None, :]).permute(1, 2, 0).contiguous()
        relative[:, :, 0] += 3
        relative[:, :, 1] += 3
        relative[:, :, 0] *= 7
        self.register_buffer("index", relative.sum(-1))
        mask = torch.zeros((1, 8, 8, 1))
        slices = (slice(0, -4), slice(-4, -2), slice(-2, None))
        for place, (h, w) in enumerate((h, w) for h in slices for w in slices):
            mask[:, h, w, :] = place
        windows = self.partition(mask).view(-1, 16)
        difference = windows.unsqueeze(1) - windows.unsqueeze(2)
        self.register_buffer("mask", difference.masked_fill(difference != 0, -100.0))

    def partition(self, x: Tensor) -> Tensor:
        b, h, w, c = x.shape
        x = x.view(b, h // 4, 4, w // 4, 4, c)
        return x.permute(0, 1, 3, 2, 4, 5).contiguous().view(-1, 16, c)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        b, h, w, c = x.shape
        y = torch.roll(self.norm(x), shifts=(-2, -2), dims=(1, 2))
        y = self.partition(y)
        n = y.shape[0]
        q, k, v = self.qkv(y).reshape(n, 16, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
        attn = (q * (c // 2) ** -0.5) @ k.transpose(-2, -1)
        bias = self.table[self.index.view(-1)].view(16, 16, -1).permute(2, 0, 1).contiguous()
        attn = attn + bias.unsqueeze(0)
        attn = attn.view(n // 4, 4, 2, 16, 16) + self.mask.unsqueeze(1).unsqueeze(0)
        attn = attn.view(-1, 2, 16, 16).softmax(dim=-1)
        y = self.proj((attn @ v).transpose(1, 2).reshape(n, 16, c))
        y = y.view(b, h // 4, w // 4, 4, 4, c).permute(0, 1, 3, 2, 4, 5).reshape(b, h, w, -1)
        return (x + torch.roll(y, (2, 2), (1, 2))).permute(0, 3, 1, 2).contiguous()


@CASES.add("cbam", (8, 9, 7))
class Cbam(nn.Module):
    """Channel attention by both pools, spatial attention by mean and max over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Conv2d(8, 2, 1, bias=False), nn.ReLU(), nn.Conv2d(2, 8, 1, bias=False)
        )
        self.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        a, m = self.fc(F.adaptive_avg_pool2d(x, 1)), self.fc(F.adaptive_max_pool2d(x, 1))
        x = torch.sigmoid(a + m).expand_as(x) * x
        avg, (top, _) = torch.mean(x, dim=1, keepdim=True), torch.max(x, dim=1, keepdim=True)
        return torch.sigmoid(self.conv(torch.cat([avg, top], dim=1))) * x


@CASES.add("eca", (10, 6, 6))
class Eca(nn.Module):
    """A 1-D convolution over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.adaptive_avg_pool2d(x, 1)
        y = self.conv(y.squeeze(-1).transpose(-1, -2)).transpose(-1, -2).unsqueeze(-1)
        return x * y.sigmoid().expand_as(x)


@CASES.add("coordinate attention", (8, 10, 6))
class Coordinate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pool_h, self.pool_w = nn.AdaptiveAvgPool2d((None, 1)), nn.AdaptiveAvgPool2d((1, None))
        self.c1, self.bn, self.act = nn.Conv2d(8, 4, 1), nn.BatchNorm2d(4), nn.Hardswish()
        self.ch, self.cw = nn.Conv2d(4, 8, 1), nn.Conv2d(4, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        _, _, h, w = x.size()
        y = torch.cat([self.pool_h(x), self.pool_w(x).permute(0, 1, 3, 2)], dim=2)
        a, b = torch.split(self.act(self.bn(self.c1(y))), [h, w], dim=2)
        return x * self.ch(a).sigmoid() * self.cw(b.permute(0, 1, 3, 2)).sigmoid()


@CASES.add("split attention over kernels", (8, 8, 8))
class SelectiveKernel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.paths = nn.ModuleList(
            [nn.Conv2d(8, 8, 3, 1, 1, groups=2), nn.Conv2d(8, 8, 3, 1, 2, 2, groups=2)]
        )
        self.fc, self.fcs = nn.Linear(8, 4), nn.ModuleList([nn.Linear(4, 8), nn.Linear(4, 8)])

    def forward(self, x: Tensor) -> Tensor:
        feas = torch.cat([path(x).unsqueeze_(dim=1) for path in self.paths], dim=1)
        z = self.fc(torch.sum(feas, dim=1).mean(-1).mean(-1))
        vectors = torch.cat([fc(z).unsqueeze_(dim=1) for fc in self.fcs], dim=1)
        attention = vectors.softmax(1).unsqueeze(-1).unsqueeze(-1)
        return (feas * attention).sum(dim=1)


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


@CASES.add("vit with resized positions and registers", (3, 24, 24))
class Vit(nn.Module):
    """Class token by expand, positions by bicubic resize from a table, layer scale, qk norm."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, 16, 6, 6)
        self.cls, self.reg = (
            nn.Parameter(torch.randn(1, 1, 16)),
            nn.Parameter(torch.randn(1, 2, 16)),
        )
        self.pos = nn.Parameter(torch.randn(1, 1 + 9, 16))
        self.norm, self.qkv = nn.LayerNorm(16, eps=1e-6), nn.Linear(16, 48)
        self.q_norm, self.k_norm = nn.LayerNorm(8), nn.LayerNorm(8)
        self.gamma, self.head = nn.Parameter(1e-1 * torch.ones(16)), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x)
        b, c, h, w = x.shape
        grid = self.pos[:, 1:].reshape(1, 3, 3, c).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, size=(h, w), mode="bicubic", antialias=True)
        x = x.flatten(2).mT + grid.flatten(2).transpose(1, 2)
        x = torch.cat(
            [self.cls.expand(b, -1, -1) + self.pos[:, :1], self.reg.expand(b, -1, -1), x], dim=1
        )
        qkv = self.qkv(self.norm(x)).reshape(b, -1, 3, 2, 8).permute(2, 0, 3, 1, 4)
        q, k, v = self.q_norm(qkv[0]), self.k_norm(qkv[1]), qkv[2]
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=0.0, scale=0.3)
        x = x + self.gamma * y.transpose(1, 2).flatten(2)
        return self.head(self.norm(x)[:, 0])


@CASES.add("mlp mixer", (3, 12, 12))
class Mixer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.n1, self.n2 = nn.Conv2d(3, 8, 3, 3), nn.LayerNorm(8), nn.LayerNorm(8)
        self.tokens = nn.Sequential(nn.Linear(16, 8), nn.GELU(), nn.Linear(8, 16))
        self.channels = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        x = x + self.tokens(self.n1(x).transpose(1, 2)).transpose(1, 2)
        return (x + self.channels(self.n2(x))).mean(dim=1)


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
