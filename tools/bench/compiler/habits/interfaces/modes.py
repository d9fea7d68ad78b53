"""What forward depends on: shapes, values, modes, types, buffers that it changes."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.bench.compiler.habits.interfaces.image_network import IMAGE, small
from tools.bench.compiler.habits.registry import Networks

CASES = Networks()


@CASES.add("branches on shape and training", IMAGE)
class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net, self.aux = small(), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Any:
        if x.dim() == 3:
            x = x.unsqueeze(0)
        if x.shape[-1] < 32 and not self.training:
            x = F.interpolate(x, scale_factor=2.0)
        y = self.net(x)
        if self.training:
            return y, self.aux(y)
        return y


@CASES.add("branch on values", IMAGE)
class ValueBranch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = small()

    def forward(self, x: Tensor) -> Tensor:
        if x.mean() > 0:
            x = -x
        return self.net(x)


@CASES.add("early exit on confidence", IMAGE)
class EarlyExit(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = small()

    def forward(self, x: Tensor) -> Tensor:
        y = self.net(x)
        if float(F.softmax(y, 1).max()) > 0.9:
            return y
        return y + self.net(x.flip(-1))


@CASES.add("autocast inside forward", IMAGE)
class Autocast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = small()

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = self.net(x)
        return y.float()


@CASES.add("half weights and cast inputs", IMAGE)
class HalfBody(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = small().half()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.to(next(self.net.parameters()).dtype)).float()


@CASES.add("counter buffer that is updated", IMAGE)
class Counts(nn.Module):
    """Counts its calls in a buffer, which outputs do not depend on."""

    def __init__(self) -> None:
        super().__init__()
        self.net = small()
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.net(x)


@CASES.add("running mean of inputs in a buffer", IMAGE)
class RunningMean(nn.Module):
    """Updates a buffer from its input in evaluation: outputs depend on earlier inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.net = small()
        self.register_buffer("mean", torch.zeros(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * x.mean((0, 2, 3)).view(3, 1, 1)
        return self.net(x - self.mean)


@CASES.add("fake quantisation of training", IMAGE)
class FakeQuantised(nn.Module):
    """Quantisation-aware: inputs and weights pass through fake_quantize."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.fake_quantize_per_tensor_affine(x, 0.05, 0, -128, 127)
        scale = self.conv.weight.detach().abs().amax((1, 2, 3)) / 127
        weight = torch.fake_quantize_per_channel_affine(
            self.conv.weight, scale, torch.zeros(4, dtype=torch.int32), 0, -127, 127
        )
        return F.conv2d(x, weight, self.conv.bias)


@CASES.add("stochastic depth and layer drop", IMAGE)
class StochasticDepth(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.blocks = (
            nn.Conv2d(3, 6, 3, 2, 1),
            nn.ModuleList(nn.Conv2d(6, 6, 3, 1, 1) for _ in range(3)),
        )

    def drop_path(self, x: Tensor, rate: float = 0.2) -> Tensor:
        if rate == 0.0 or not self.training:
            return x
        keep = x.new_empty((x.shape[0],) + (1,) * (x.ndim - 1)).bernoulli_(1 - rate)
        return x.div(1 - rate) * keep

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            if self.training and torch.rand(1).item() < 0.1:
                continue
            x = x + self.drop_path(F.gelu(block(x)))
        return x.amax((-1, -2))


@CASES.add("complex spectrum filter", (4, 8, 8))
class Spectrum(nn.Module):
    """A global filter: rfft2, a complex weight, irfft2."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 8, 5, 2) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.fft.rfft2(x, norm="ortho") * torch.view_as_complex(self.weight)
        return torch.fft.irfft2(y, s=(8, 8), norm="ortho")


@CASES.add("masked pooling by boolean index", (6, 4))
class BooleanIndex(nn.Module):
    """Selects rows by a mask of values: the size depends on them."""

    def forward(self, x: Tensor) -> Tensor:
        return x[x[..., 0] > 0].mean(0)


@CASES.add("two-stage detector with torchvision nms", (3, 16, 16))
class Nms(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.box, self.score = nn.Conv2d(3, 4, 4, 4), nn.Conv2d(3, 1, 4, 4)

    def forward(self, x: Tensor) -> Tensor:
        from torchvision.ops import nms

        boxes, scores = self.box(x).flatten(2)[0].t().sigmoid(), self.score(x).flatten()
        boxes = torch.cat((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), 1)
        return boxes[nms(boxes, scores, 0.5)]
