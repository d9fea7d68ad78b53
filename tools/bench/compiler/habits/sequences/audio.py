"""Audio and speech: spectrograms, convolutions over time, greedy decoding."""

# People's code states no types of its buffers.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.bench.compiler.habits.registry import Networks

CASES = Networks()


class Chomp(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, : -self.size].contiguous()


@CASES.add("tcn with chomped padding and weight norm", (3, 24))
class Tcn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        norm = nn.utils.parametrizations.weight_norm
        self.blocks, self.down = nn.ModuleList(), nn.ModuleList()
        for level, inputs in enumerate((3, 6, 6)):
            dilation = 2**level
            self.blocks.append(nn.Sequential(
                norm(nn.Conv1d(inputs, 6, 3, padding=2 * dilation, dilation=dilation)),
                Chomp(2 * dilation), nn.ReLU(), nn.Dropout(0.2),
            ))  # fmt: skip
            self.down.append(nn.Conv1d(inputs, 6, 1) if inputs != 6 else nn.Identity())
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        for block, down in zip(self.blocks, self.down, strict=True):
            x = F.relu(block(x) + down(x))
        return self.fc(x[:, :, -1])


@CASES.add("log mel spectrogram by conv1d", (400,))
class LogMel(nn.Module):
    """A windowed Fourier basis as a convolution with reflect padding, power, mel, decibel."""

    def __init__(self) -> None:
        super().__init__()
        n = torch.arange(64.0)
        angle = 2 * math.pi * torch.outer(torch.arange(33.0), n) / 64
        basis = torch.cat((torch.cos(angle), -torch.sin(angle))) * torch.hann_window(64)
        self.register_buffer("basis", basis[:, None])
        self.register_buffer("mel", torch.rand(10, 33))

    def forward(self, audio: Tensor) -> Tensor:
        x = F.pad(audio.unsqueeze(1), (32, 32), mode="reflect")
        real, imag = F.conv1d(x, self.basis, stride=16).chunk(2, 1)
        power = real.pow(2) + imag.pow(2)
        db = 10.0 * torch.log10(torch.clamp(torch.matmul(self.mel, power), min=1e-5))
        db = torch.maximum(db, db.amax(dim=(-2, -1), keepdim=True) - 80.0)
        return (db - db.mean(dim=-1, keepdim=True)) / (db.std(-1, keepdim=True) + 1e-5)


@CASES.add("stft of torch", (256,))
class Stft(nn.Module):
    """torch.stft with complex results, and their magnitude."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(64))

    def forward(self, audio: Tensor) -> Tensor:
        spec = torch.stft(audio, 64, 32, window=self.window, return_complex=True)
        return torch.log1p(spec.abs())


@CASES.add("wav2letter", (6, 80))
class Wav2Letter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(6, 12, 48, 2, 23), nn.ReLU(inplace=True), nn.Conv1d(12, 12, 7, 1, 3),
            nn.ReLU(inplace=True), nn.Conv1d(12, 16, 32, 1, 16), nn.ReLU(), nn.Conv1d(16, 5, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return F.log_softmax(self.net(x), dim=1).permute(2, 0, 1)


@CASES.add("conformer convolution module", (14, 16))
class ConformerConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.up = nn.LayerNorm(16), nn.Conv1d(16, 32, 1)
        self.depthwise = nn.Conv1d(16, 16, 7, padding=3, groups=16)
        self.bn, self.down = nn.BatchNorm1d(16), nn.Conv1d(16, 16, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x).transpose(1, 2)
        y = F.glu(self.up(y), dim=1)
        y = F.silu(self.bn(self.depthwise(y)))
        return x + 0.5 * self.down(y).transpose(1, 2)


@CASES.add("ctc greedy collapse", (12, 6))
class Greedy(nn.Module):
    """Argmax labels, repeats by comparison with the shifted labels, blank removed by where."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        labels = self.fc(x).argmax(-1)
        before = F.pad(labels[:, :-1], (1, 0), value=-1)
        return torch.where((labels != before) & (labels != 0), labels, torch.full_like(labels, -1))
