"""Attention, positions, masks and mixtures, as they are written by hand."""

# People's code states no types of its buffers.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false, reportIncompatibleMethodOverride=false
# pyright: reportPossiblyUnboundVariable=false

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.bench.compiler.habits.registry import Networks

CASES = Networks()


@CASES.add("attention with talking heads", (9, 16))
class TalkingHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(16, 48, bias=False)
        self.before, self.after = nn.Linear(4, 4), nn.Linear(4, 4)
        self.gamma = nn.Parameter(torch.full((16,), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        n, length, channels = x.shape
        q, k, v = self.qkv(x).reshape(n, length, 3, 4, channels // 4).permute(2, 0, 3, 1, 4)
        scores = (q * (channels // 4) ** -0.5) @ k.transpose(-2, -1)
        scores = self.before(scores.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        weights = self.after(scores.softmax(-1).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return x + self.gamma * (weights @ v).transpose(1, 2).reshape(n, length, channels)


@CASES.add("cosine attention with a learned temperature", (6, 8, 8))
class CosineAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Conv2d(6, 18, 1)
        self.scale = nn.Parameter(torch.log(10 * torch.ones(3, 1, 1)))
        self.positions = nn.Parameter(torch.randn(3, 64, 64) * 0.02)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        q, k, v = self.qkv(x).reshape(b, 3, 3, c // 3, h * w).unbind(1)
        attention = F.normalize(q, dim=-2).mT @ F.normalize(k, dim=-2)
        attention = attention * self.scale.clamp(max=math.log(100)).exp() + self.positions
        return (v @ attention.softmax(-1).mT).reshape(b, c, h, w)


@CASES.add("channel attention over pixels", (8, 12, 10))
class ChannelAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv = nn.LayerNorm(8), nn.Conv2d(8, 24, 1)
        self.local = nn.Conv2d(24, 24, 3, padding=1, groups=24)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        q, k, v = (part.flatten(2) for part in torch.tensor_split(self.local(self.qkv(y)), 3, 1))
        q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-1)
        return x + (torch.bmm(q, k.transpose(1, 2)).softmax(-1) @ v).view_as(x)


@CASES.add("grouped queries with a cache", {"x": (1, 16), "keys": (2, 5, 4), "values": (2, 5, 4)})
class GroupedQueries(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.kv, self.out = nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor) -> dict[str, Tensor]:
        b, t, _ = x.shape
        q = self.q(x).view(b, t, 4, 4).transpose(1, 2)
        k, v = self.kv(x).view(b, t, 2, 2, 4).permute(3, 0, 2, 1, 4)
        keys, values = torch.cat([keys, k], 2), torch.cat([values, v], 2)
        y = F.scaled_dot_product_attention(
            q, keys.repeat_interleave(2, dim=1), values.repeat_interleave(2, 1)
        )
        y = self.out(y.transpose(1, 2).contiguous().view(b, t, -1))
        return {"y": y, "keys": keys, "values": values}


@CASES.add("rotary positions by halves", (10, 16))
class RotaryHalves(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("rates", 1.0 / (1e4 ** (torch.arange(0, 8, 2).float() / 8)))
        self.qk = nn.Linear(16, 32)

    def rotated(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        first, second = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
        return x * cos + torch.cat((-second, first), -1) * sin

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[-2]
        angles = torch.outer(torch.arange(length, dtype=torch.float32), self.rates)
        angles = torch.cat((angles, angles), dim=-1)
        q, k = (y.view(-1, length, 2, 8).transpose(1, 2) for y in self.qk(x).chunk(2, -1))
        q, k = (self.rotated(y, angles.cos(), angles.sin()) for y in (q, k))
        causal = torch.full((length, length), float("-inf")).triu(1)
        return F.softmax(q @ k.transpose(2, 3) / math.sqrt(8) + causal, dim=-1, dtype=torch.float32)


@CASES.add("distances as attention biases", (9, 12))
class LinearBiases(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(12, 36)
        self.register_buffer("slopes", torch.tensor([0.5, 0.25, 0.125]).view(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        t = x.size(1)
        q, k, v = (z.unflatten(-1, (3, 4)).transpose(1, 2) for z in self.qkv(x).split(12, dim=-1))
        ids = torch.arange(t, device=x.device)
        bias = -(ids[None, :] - ids[:, None]).abs() * self.slopes
        bias = bias.masked_fill(torch.ones(t, t, dtype=torch.bool).tril().logical_not(), -1e9)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).flatten(2)


@CASES.add("tokens with lengths and a pooled mean", {"ids": "12:int64", "length": "1:int64"})
class TokensWithLengths(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(20, 16, padding_idx=0)
        self.places = nn.Embedding(64, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True)

    def forward(self, ids: Tensor, length: Tensor) -> Tensor:
        place = torch.arange(ids.size(1)).unsqueeze(0)
        valid = place < length + 3
        x = self.tokens(ids) * math.sqrt(16) + self.places(place.expand_as(ids))
        x = self.layer(x, src_key_padding_mask=~valid)
        weight = valid.unsqueeze(-1).type_as(x)
        return (x * weight).sum(1) / weight.sum(1).clamp(min=1.0)


@CASES.add("two best experts of four", (7, 8))
class Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(8, 4)
        self.first = nn.Parameter(torch.randn(4, 8, 12) * 0.3)
        self.second = nn.Parameter(torch.randn(4, 12, 8) * 0.3)

    def forward(self, x: Tensor) -> Tensor:
        probs = self.router(x).softmax(-1)
        weights, chosen = torch.topk(probs, 2, dim=-1)
        weights = weights / weights.sum(-1, keepdim=True)
        gates = torch.zeros_like(probs).scatter_(-1, chosen, weights)
        hidden = F.silu(torch.einsum("btd,edh->bteh", x, self.first))
        out = torch.einsum("bteh,ehd->bted", hidden, self.second)
        return (out * gates.unsqueeze(-1)).sum(2)


@CASES.add("slots that compete", (16, 8))
class Slots(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.slots = nn.Parameter(torch.randn(1, 3, 8))
        self.k, self.v, self.q = (nn.Linear(8, 8, bias=False) for _ in range(3))
        self.cell, self.norm = nn.GRUCell(8, 8), nn.LayerNorm(8)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        k, v = self.k(x), self.v(x)
        slots = self.slots.expand(len(x), -1, -1)
        for _ in range(3):
            weights = (k @ self.q(self.norm(slots)).mT * 8**-0.5).softmax(-1) + 1e-8
            share = weights / weights.sum(dim=1, keepdim=True)
            updates = torch.einsum("bnk,bnd->bkd", share, v)
            slots = self.cell(updates.reshape(-1, 8), slots.reshape(-1, 8)).view(-1, 3, 8)
        return slots, weights


@CASES.add("windows with positions by a small network", (8, 8, 12))
class Windows(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))
        self.qkv = nn.Linear(8, 24)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        right, bottom = (5 - w % 5) % 5, (5 - h % 5) % 5
        y = F.pad(x, (0, right, 0, bottom))
        hp, wp = y.shape[2:]
        y = y.view(b, c, hp // 5, 5, wp // 5, 5).permute(0, 2, 4, 3, 5, 1).reshape(-1, 25, c)
        axis = torch.arange(5.0)
        grid = torch.stack(torch.meshgrid(axis, axis, indexing="ij")).flatten(1)
        relative = (grid[:, :, None] - grid[:, None, :]).permute(1, 2, 0)
        relative = torch.sign(relative) * torch.log2(relative.abs() + 1.0)
        bias = 16 * torch.sigmoid(self.mlp(relative)).permute(2, 0, 1)
        q, k, v = self.qkv(y).view(-1, 25, 3, 2, c // 2).permute(2, 0, 3, 1, 4)
        y = ((q @ k.transpose(-2, -1) + bias).softmax(-1) @ v).transpose(1, 2).reshape(-1, 25, c)
        y = y.view(b, hp // 5, wp // 5, 5, 5, c).permute(0, 5, 1, 3, 2, 4).reshape(b, c, hp, wp)
        return y[:, :, :h, :w]


@CASES.add("criss-cross rows and columns", (6, 7, 9))
class CrissCross(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Conv2d(6, n, 1) for n in (3, 3, 6))
        self.gamma = nn.Parameter(torch.tensor(0.5))

    def forward(self, x: Tensor) -> Tensor:
        _b, _, h, _w = x.size()
        q, k, v = self.q(x), self.k(x), self.v(x)
        columns = torch.einsum("bchw,bcgw->bhwg", q, k)
        columns = columns - torch.eye(h).view(1, h, 1, h) * 1e4
        rows = torch.einsum("bchw,bchv->bhwv", q, k)
        weights = torch.cat((columns, rows), 3).softmax(3)
        up, across = weights[..., :h], weights[..., h:]
        y = torch.einsum("bhwg,bcgw->bchw", up, v) + torch.einsum("bhwv,bchv->bchw", across, v)
        return self.gamma * y + x


@CASES.add("graph convolutions over joints", {"x": (3, 10, 7)})
class Joints(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        links = torch.eye(7) + torch.diag(torch.ones(6), 1) + torch.diag(torch.ones(6), -1)
        degree = links.sum(0).rsqrt()
        self.register_buffer("links", degree[:, None] * links * degree)
        self.edge = nn.Parameter(torch.ones(7, 7))
        self.theta, self.tcn = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 12, (9, 1), padding=(4, 0))
        self.norm = nn.BatchNorm1d(21)

    def forward(self, x: Tensor) -> Tensor:
        n, c, t, v = x.shape
        x = self.norm(x.permute(0, 3, 1, 2).reshape(n, v * c, t))
        x = x.view(n, v, c, t).permute(0, 2, 3, 1)
        x = torch.matmul(self.theta(x), self.links * self.edge)
        return F.relu(self.tcn(x)).mean(dim=(2, 3))
