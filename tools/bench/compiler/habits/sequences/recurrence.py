"""Recurrent layers and loops over time steps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.bench.compiler.habits.registry import Networks

CASES = Networks()


@CASES.add("bidirectional lstm with packed-like ends", (9, 6))
class BiLstm(nn.Module):
    """Two layers, both directions; last state of each direction by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 5, num_layers=2, batch_first=True, bidirectional=True, dropout=0.2)
        self.fc = nn.Linear(20, 4)

    def forward(self, x: Tensor) -> Tensor:
        h0 = torch.zeros(4, x.size(0), 5).to(x.device)
        c0 = torch.zeros(4, x.size(0), 5).to(x.device)
        out, (hn, _) = self.lstm(x, (h0, c0))
        ends = torch.cat((out[:, -1, :5], out[:, 0, 5:]), 1)
        return self.fc(torch.cat((ends, hn[-2], hn[-1]), 1))


@CASES.add("crnn for text", (1, 32, 48))
class Crnn(nn.Module):
    """Convolutions to one row, squeeze, permute, bidirectional GRU, log_softmax, [T, N, C]."""

    def __init__(self) -> None:
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(1, 8, 3, 1, 1), nn.ReLU(True), nn.MaxPool2d(2, 2),
            nn.Conv2d(8, 8, 3, 1, 1), nn.BatchNorm2d(8), nn.ReLU(True),
            nn.MaxPool2d((2, 2), (2, 1), (0, 1)), nn.Conv2d(8, 8, (8, 2)), nn.ReLU(),
        )  # fmt: skip
        self.rnn, self.fc = nn.GRU(8, 6, bidirectional=True), nn.Linear(12, 11)

    def forward(self, x: Tensor) -> Tensor:
        conv = self.cnn(x)
        _, _, h, _ = conv.size()
        assert h == 1, "the height of conv must be 1"
        conv = conv.squeeze(2).permute(2, 0, 1)
        recurrent, _ = self.rnn(conv)
        t, b, h = recurrent.size()
        return F.log_softmax(self.fc(recurrent.view(t * b, h)).view(t, b, -1), dim=2)


@CASES.add("lstm cell in a loop with states out", {"x": (5, 4), "h": (6,), "c": (6,)})
class CellLoop(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(4, 6)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        outs = []
        for step in x.unbind(1):
            h, c = self.cell(step, (h, c))
            outs.append(h)
        return torch.stack(outs, dim=1), (h, c)


@CASES.add("convolutional lstm", (4, 2, 10, 8))
class ConvLstm(nn.Module):
    """Four frames [T, C, H, W] of a clip; the state starts at zeros of the frame's size."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2 + 3, 12, 3, padding=1)

    def forward(self, frames: Tensor) -> Tensor:
        b, seq, _, height, width = frames.size()
        h = torch.zeros(b, 3, height, width, device=self.conv.weight.device)
        c = torch.zeros_like(h)
        for t in range(seq):
            gates = self.conv(torch.cat([frames[:, t, :, :, :], h], dim=1))
            i, f, o, g = torch.split(gates, 3, dim=1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return h


@CASES.add("minimal gated unit by einsum", (6, 8))
class Gated(nn.Module):
    """A gated unit with peepholes written with Parameters and einsum."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(2, 8, 8) * 0.3)
        self.u = nn.Parameter(torch.randn(2, 8, 8) * 0.3)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(x.shape[0], 8)
        for t in range(x.shape[1]):
            a = torch.einsum("bi,goi->gbo", x[:, t], self.w)
            b = torch.einsum("bi,goi->gbo", h, self.u)
            z = torch.sigmoid(a[0] + b[0])
            h = torch.lerp(h, torch.tanh(a[1] + z * b[1]), z)
        return h


@CASES.add("state space scan", (8, 4))
class Scan(nn.Module):
    """A Mamba-like recurrence unrolled, with softplus steps and a causal depthwise convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(4, 4, 3, groups=4, padding=2)
        self.a_log, self.d = (
            nn.Parameter(torch.log(torch.arange(1, 4.0)).repeat(4, 1)),
            nn.Parameter(torch.ones(4)),
        )
        self.x_proj, self.dt = nn.Linear(4, 1 + 6, bias=False), nn.Linear(1, 4)

    def forward(self, x: Tensor) -> Tensor:
        length = x.shape[1]
        u = F.silu(self.conv(x.mT)[..., :length]).mT
        delta, b, c = self.x_proj(u).split([1, 3, 3], dim=-1)
        delta, a = F.softplus(self.dt(delta)), -torch.exp(self.a_log.float())
        state, ys = u.new_zeros(u.shape[0], 4, 3), []
        for i in range(length):
            da = torch.exp(delta[:, i, :, None] * a)
            state = da * state + (delta[:, i] * u[:, i])[..., None] * b[:, i, None, :]
            ys.append((state * c[:, i, None]).sum(-1))
        return torch.stack(ys, 1) + u * self.d
