"""Attention in image networks: windows, gates of channels and pixels, tokens of patches."""

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
