"""Audio and sensors: one-dimensional convolutions, filter banks, recurrent cells by hand."""

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


@CASES.add("raw audio with sinc filters", (1, 800))
class SincFilters(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.low = nn.Parameter(torch.linspace(0.01, 0.3, 8)[:, None])
        self.band = nn.Parameter(torch.full((8, 1), 0.05))
        self.register_buffer("time", torch.arange(-20.0, 21.0)[None])
        self.register_buffer("window", torch.hamming_window(41, periodic=False))
        self.rest = nn.Sequential(nn.BatchNorm1d(8), nn.Conv1d(8, 12, 5, 4), nn.ReLU())
        self.fc = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        low, high = self.low.abs(), self.low.abs() + self.band.abs()

        def lowpass(cut: Tensor) -> Tensor:
            return 2 * cut * torch.sinc(2 * cut * self.time)

        filters = ((lowpass(high) - lowpass(low)) * self.window).unsqueeze(1)
        y = torch.abs(F.conv1d(x, filters, stride=4, padding=20))
        return self.fc(self.rest(torch.log1p(y)).mean(-1))


@CASES.add("mel features from convolutions", (640,))
class MelByConvolution(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        angle = 2 * math.pi * torch.arange(33)[:, None] * torch.arange(64)[None] / 64
        kernels = torch.cat((angle.cos(), -angle.sin())) * torch.hann_window(64)
        self.register_buffer("kernels", kernels[:, None])
        self.register_buffer("mel", torch.rand(33, 12))
        self.net = nn.Conv2d(1, 4, 3, padding=1)

    def forward(self, wave: Tensor) -> Tensor:
        emphasised = torch.cat([wave[:, :1], wave[:, 1:] - 0.97 * wave[:, :-1]], dim=1)
        padded = F.pad(emphasised.unsqueeze(1), (32, 32), mode="reflect")
        real, imaginary = F.conv1d(padded, self.kernels, stride=32).chunk(2, dim=1)
        power = real.pow(2) + imaginary.pow(2)
        db = 10.0 * torch.log10(torch.clamp(power.transpose(1, 2) @ self.mel, min=1e-5))
        db = torch.max(db, db.amax(dim=(1, 2), keepdim=True) - 80.0)
        norm = (db - db.mean(dim=1, keepdim=True)) / (db.std(dim=1, keepdim=True) + 1e-5)
        return self.net(norm.unsqueeze(1)).amax((2, 3))


@CASES.add("causal convolutions with gates", (6, 50))
class CausalGates(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.start = nn.Conv1d(6, 8, 1)
        self.filters = nn.ModuleList(nn.Conv1d(8, 16, 2, dilation=2**n) for n in range(4))
        self.skips = nn.ModuleList(nn.Conv1d(8, 10, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x, total = self.start(x), 0
        for layer, skip in zip(self.filters, self.skips, strict=False):
            past = (layer.kernel_size[0] - 1) * layer.dilation[0]
            a, b = layer(F.pad(x, (past, 0))).chunk(2, 1)
            y = torch.tanh(a) * torch.sigmoid(b)
            total = total + skip(y)
            x = (x + y) * math.sqrt(0.5)
        return F.relu(total)[..., -1]


@CASES.add("depthwise 1-D with squeeze and pooling of statistics", (8, 40))
class Statistics(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(8, 8, 5, padding="same", groups=8)
        self.pointwise, self.norm = nn.Conv1d(8, 12, 1), nn.BatchNorm1d(12)
        self.attention = nn.Sequential(nn.Conv1d(36, 6, 1), nn.Tanh(), nn.Conv1d(6, 12, 1))
        self.fc = nn.Linear(24, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.pointwise(self.depthwise(x))))
        mean = x.mean(2, keepdim=True).expand_as(x)
        deviation = x.var(2, keepdim=True, unbiased=False).clamp(min=1e-6).sqrt().expand_as(x)
        weights = torch.softmax(self.attention(torch.cat((x, mean, deviation), 1)), dim=2)
        mu = (weights * x).sum(2)
        sigma = ((weights * x.square()).sum(2) - mu.square()).clamp_min(1e-6).sqrt()
        return F.normalize(self.fc(torch.cat((mu, sigma), 1)))


@CASES.add("speech separation by masks", (1, 400))
class Separation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Conv1d(1, 16, 16, stride=8, bias=False)
        self.norm = nn.GroupNorm(1, 16, eps=1e-8)
        self.mask = nn.Sequential(nn.Conv1d(16, 16, 3, padding=1), nn.PReLU(), nn.Conv1d(16, 32, 1))
        self.decoder = nn.ConvTranspose1d(16, 1, 16, stride=8, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        length = x.size(-1)
        encoded = F.relu(self.encoder(x))
        masks = self.mask(self.norm(encoded)).view(x.size(0), 2, 16, -1).sigmoid()
        sources = masks * encoded.unsqueeze(1)
        decoded = self.decoder(sources.view(-1, 16, encoded.shape[-1])).view(x.size(0), 2, -1)
        return F.pad(decoded, (0, length - decoded.shape[-1]))


@CASES.add("lstm cell by hand with peepholes", (10, 5))
class Peephole(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.x, self.h = nn.Linear(5, 28), nn.Linear(7, 28, bias=False)
        self.peep = nn.Parameter(torch.randn(3, 7) * 0.3)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        h = x.new_zeros(x.shape[0], 7)
        c = torch.zeros_like(h)
        outs = []
        for t in range(x.shape[1]):
            i, f, g, o = (self.x(x[:, t]) + self.h(h)).chunk(4, dim=-1)
            i, f = torch.sigmoid(i + self.peep[0] * c), torch.sigmoid(f + self.peep[1] * c + 1)
            c = f * c + i * g.tanh()
            h = torch.sigmoid(o + self.peep[2] * c) * c.tanh()
            outs.append(h)
        return torch.stack(outs, dim=1), (h, c)


@CASES.add("minimal gated unit with layer norms and a mask", {"x": (8, 4), "mask": (8,)})
class MaskedUnit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Linear(4, 12)
        self.u = nn.Linear(6, 12, bias=False)
        self.norms = nn.ModuleList([nn.LayerNorm(12), nn.LayerNorm(12)])

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        state = torch.zeros(x.size(0), 6, dtype=x.dtype, device=x.device)
        steps = zip(x.unbind(1), (mask > 0).float().unbind(1), strict=False)
        for value, valid in steps:
            gate, new = (self.norms[0](self.w(value)) + self.norms[1](self.u(state))).split(6, 1)
            update = torch.lerp(state, new.tanh(), gate.sigmoid())
            state = valid[:, None] * update + (1 - valid[:, None]) * state
        return state


@CASES.add("gru cells in two directions", (6, 4))
class TwoDirections(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ahead, self.back = nn.GRUCell(4, 5), nn.GRUCell(4, 5)
        self.start = nn.Parameter(torch.randn(1, 5))

    def forward(self, x: Tensor) -> Tensor:
        h, g = self.start.repeat(x.size(0), 1), self.start.expand(x.size(0), -1)
        ahead, back = [], []
        for value, mirrored in zip(x.unbind(1), x.flip(1).unbind(1), strict=False):
            h, g = self.ahead(value, h), self.back(mirrored, g)
            ahead.append(h)
            back.insert(0, g)
        return torch.cat([torch.stack(ahead, 1), torch.stack(back, 1)], dim=-1).max(dim=1)[0]


@CASES.add("selective state space", (12, 6))
class StateSpace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(6, 6 + 4 + 4)
        self.a_log = nn.Parameter(torch.log(torch.arange(1.0, 5.0)).repeat(6, 1))
        self.skip = nn.Parameter(torch.ones(6))

    def forward(self, u: Tensor) -> Tensor:
        delta, b, c = self.project(u).split([6, 4, 4], dim=-1)
        delta = F.softplus(delta)
        a = torch.exp(delta.unsqueeze(-1) * -torch.exp(self.a_log))
        bu = delta.unsqueeze(-1) * b.unsqueeze(2) * u.unsqueeze(-1)
        state, ys = torch.zeros_like(a[:, 0]), []
        for t in range(u.shape[1]):
            state = a[:, t] * state + bu[:, t]
            ys.append(torch.einsum("bdn,bn->bd", state, c[:, t]))
        return torch.stack(ys, 1) + u * self.skip


@CASES.add("streaming convolution with its cache", {"x": (4, 6), "cache": (4, 8)})
class Streaming(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 4, 3, dilation=4, groups=2)

    def forward(self, x: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        joined = torch.cat((cache, x), dim=-1)
        return F.glu(self.conv(joined).repeat(1, 2, 1), 1), joined[..., -cache.size(-1) :]


@CASES.add("heart beats with residual pools", (2, 96))
class Beats(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(2, 8, 7, 2, 3), nn.Conv1d(8, 8, 7, 2, 3)
        self.pool = nn.MaxPool1d(3, 2, padding=1, ceil_mode=False)
        self.drop, self.fc = nn.Dropout(0.3), nn.LazyLinear(3)
        self.fc(torch.zeros(1, 16))

    def forward(self, x: Tensor) -> Tensor:
        x = F.elu(self.first(x), alpha=0.7)
        x = F.selu(self.second(x)) + self.pool(x)
        peak = F.adaptive_max_pool1d(x, 1)
        level = F.lp_pool1d(x, 2, x.size(-1)) / x.size(-1) ** 0.5
        return self.fc(self.drop(torch.cat((peak, level), 1).squeeze(-1)))


@CASES.add("codes of a residual quantiser", (8, 20))
class Quantiser(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Conv1d(8, 6, 4, 2, 1)
        self.books = nn.ParameterList(nn.Parameter(torch.randn(16, 6)) for _ in range(2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rest = self.encoder(x).transpose(1, 2)
        total, codes = torch.zeros_like(rest), []
        for book in self.books:
            distance = rest.pow(2).sum(-1, keepdim=True) - 2 * rest @ book.t() + book.pow(2).sum(-1)
            code = distance.argmin(-1)
            codes.append(code)
            nearest = F.embedding(code, book)
            total, rest = total + nearest, rest - nearest
        return total.transpose(1, 2), torch.stack(codes, 1)
