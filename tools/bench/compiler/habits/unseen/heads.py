"""Heads of segmentation, key points, and detection, and what is decoded in ``forward``."""

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


def block(before: int, after: int, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, 3, stride, 1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True))


@CASES.add("pyramid pooling", (3, 30, 42))
class PyramidPooling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(block(3, 8, 2), block(8, 12))
        self.stages = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(bins), nn.Conv2d(12, 3, 1, bias=False), nn.ReLU())
            for bins in (1, 2, 3, 6)
        )
        self.head = nn.Conv2d(24, 5, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        size = x.size()[2:]
        features = self.stem(x)
        height, width = features.shape[-2:]
        maps = [features] + [
            F.interpolate(stage(features), (height, width), mode="bilinear", align_corners=True)
            for stage in self.stages
        ]
        return F.interpolate(self.head(torch.cat(maps, 1)), size, mode="bilinear").argmax(1)


@CASES.add("unet that crops its skips", (1, 37, 45))
class CroppingUnet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([block(1, 6), block(6, 12), block(12, 24)])
        self.up = nn.ModuleList([nn.ConvTranspose2d(24, 12, 2, 2), nn.ConvTranspose2d(12, 6, 2, 2)])
        self.join = nn.ModuleList([block(24, 12), block(12, 6)])
        self.head = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        skips = []
        for place, stage in enumerate(self.down):
            x = stage(x)
            if place < 2:
                skips.append(x)
                x = F.max_pool2d(x, 2)
        for up, join in zip(self.up, self.join, strict=False):
            x, skip = up(x), skips.pop()
            top = (skip.shape[2] - x.shape[2]) // 2
            left = (skip.shape[3] - x.shape[3]) // 2
            x = join(
                torch.cat([x, skip[:, :, top : top + x.shape[2], left : left + x.shape[3]]], 1)
            )
        logits = self.head(x)
        return {"logits": logits, "mask": (logits.softmax(1)[:, 1:] > 0.5).float()}


@CASES.add("point heads with soft argmax", (3, 32, 32))
class SoftArgmax(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(block(3, 8, 2), block(8, 8), nn.Conv2d(8, 5, 1))
        self.register_buffer("xs", torch.linspace(-1, 1, 16))
        self.register_buffer("ys", torch.linspace(-1, 1, 16))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.body(x)
        b, k, h, w = maps.shape
        weights = F.softmax(maps.view(b, k, -1) * 4.0, dim=2).view(b, k, h, w)
        x_mean = (weights.sum(2) * self.xs).sum(-1)
        y_mean = (weights.sum(3) * self.ys).sum(-1)
        score = torch.sigmoid(maps.flatten(2).max(-1).values)
        return torch.stack((x_mean, y_mean), -1), score


@CASES.add("key points with quarter offsets", (3, 24, 32))
class QuarterOffsets(nn.Module):
    """Moves the highest place a quarter of a pixel towards its higher neighbour."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(block(3, 8, 2), nn.Conv2d(8, 4, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        maps = self.body(x)
        n, k, h, w = maps.size()
        padded = F.pad(maps, (1, 1, 1, 1), mode="replicate")
        dx = (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]).sign() * 0.25
        flat = maps.reshape(n, k, h * w)
        index = flat.argmax(-1, keepdim=True)
        shift = dx.reshape(n, k, h * w).gather(2, index)
        column = (index % w).float()
        row = torch.div(index, w, rounding_mode="floor").float()
        return torch.cat((column + shift, row, flat.gather(2, index)), -1)


@CASES.add("anchors made in forward", (3, 32, 48))
class AnchorsInForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.ModuleList([block(3, 8, 4), block(8, 16, 2)])
        self.boxes = nn.ModuleList([nn.Conv2d(8, 3 * 4, 3, padding=1), nn.Conv2d(16, 3 * 4, 1)])
        self.ratios = (0.5, 1.0, 2.0)

    def anchors(self, height: int, width: int, stride: float, like: Tensor) -> Tensor:
        ys, xs = torch.meshgrid(
            torch.arange(height, device=like.device), torch.arange(width), indexing="ij"
        )
        centers = (torch.stack((xs, ys), -1).to(like.dtype) + 0.5) * stride
        sizes = like.new_tensor([[math.sqrt(r), 1 / math.sqrt(r)] for r in self.ratios]) * stride
        centers = centers[:, :, None].expand(-1, -1, len(self.ratios), -1)
        return torch.cat((centers, sizes.expand_as(centers)), -1).reshape(-1, 4)

    def forward(self, x: Tensor) -> Tensor:
        decoded = []
        for body, head in zip(self.body, self.boxes, strict=False):
            previous = x
            x = body(x)
            deltas = head(x).permute(0, 2, 3, 1).reshape(x.size(0), -1, 4)
            stride = 4.0 if previous.size(1) == 3 else 8.0
            anchors = self.anchors(x.size(2), x.size(3), stride, x)
            xy = anchors[None, :, :2] + deltas[..., :2] * anchors[None, :, 2:] * 0.1
            wh = anchors[None, :, 2:] * (deltas[..., 2:] * 0.2).clamp(max=4.0).exp()
            decoded.append(torch.cat((xy - wh / 2, xy + wh / 2), -1))
        return torch.cat(decoded, dim=1).clamp_(min=0)


@CASES.add("grid written in place", (3, 32, 32))
class GridInPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(block(3, 8, 4), nn.Conv2d(8, 2 * 7, 1))
        self.register_buffer("anchors", torch.tensor([[10.0, 13.0], [16.0, 30.0]]))

    def forward(self, x: Tensor) -> Tensor:
        bs, _, ny, nx = (y := self.body(x)).shape
        y = y.view(bs, 2, 7, ny, nx).permute(0, 1, 3, 4, 2).contiguous().sigmoid()
        yv, xv = torch.meshgrid([torch.arange(ny), torch.arange(nx)], indexing="ij")
        grid = torch.stack((xv, yv), 2).view(1, 1, ny, nx, 2).float()
        y[..., 0:2] = (y[..., 0:2] * 2 - 0.5 + grid) * 4
        y[..., 2:4] = (y[..., 2:4] * 2) ** 2 * self.anchors.view(1, -1, 1, 1, 2)
        y[..., 5:] *= y[..., 4:5]
        return y.view(bs, -1, 7)


@CASES.add("lanes by row", (3, 24, 40))
class Lanes(nn.Module):
    """A class for each row and lane, and its expected column without the class for no lane."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(block(3, 8, 2), block(8, 4, 2), nn.AvgPool2d(2))
        self.fc = nn.Sequential(nn.Linear(4 * 3 * 5, 32), nn.ReLU(), nn.Linear(32, 11 * 6 * 2))

    def forward(self, x: Tensor) -> Tensor:
        out = self.fc(self.body(x).view(-1, 60)).view(-1, 11, 6, 2)
        p = out[:, :-1].softmax(1)
        loc = (p * torch.arange(1, 11).view(1, -1, 1, 1)).sum(1)
        loc[out.argmax(1) == 10] = 0
        return loc


@CASES.add("instance masks by prototypes", (3, 32, 32))
class Prototypes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = block(3, 16, 2)
        self.prototypes = nn.Conv2d(16, 6, 1)
        self.head = nn.Conv2d(16, 6 + 3, 4, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(x)
        out = self.head(features).flatten(2).transpose(1, 2)
        coefficients, classes = out.split([6, 3], -1)
        scores, _ = classes.sigmoid().max(-1)
        prototypes = F.relu(self.prototypes(features))
        masks = torch.einsum("bnk,bkhw->bnhw", coefficients.tanh(), prototypes).sigmoid()
        return masks * (scores > 0.4)[..., None, None], scores


@CASES.add("depth from ordered bins", (3, 24, 24))
class DepthBins(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(block(3, 12, 2), nn.Conv2d(12, 8, 3, padding=1))
        self.widths = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 8))

    def forward(self, x: Tensor) -> Tensor:
        features = self.body[0](x)
        widths = self.widths(features.mean([2, 3])).relu() + 0.1
        widths = 9.9 * widths / widths.sum(1, keepdim=True)
        edges = torch.cumsum(F.pad(widths, (1, 0), value=0.1), dim=1)
        centers = 0.5 * (edges[:, :-1] + edges[:, 1:])
        depth = (self.body[1](features).softmax(1) * centers[..., None, None]).sum(1, keepdim=True)
        return F.interpolate(depth, scale_factor=2.0, mode="bilinear", align_corners=False)


@CASES.add("optical flow warped once", {"first": (3, 16, 20), "second": (3, 16, 20)})
class Flow(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features, self.flow = block(3, 6), nn.Conv2d(9, 2, 3, padding=1)

    def forward(self, first: Tensor, second: Tensor) -> dict[str, Tensor]:
        a, b = self.features(first), self.features(second)
        height, width = a.shape[-2:]
        padded = F.pad(b, [1] * 4)
        costs = [
            (a * padded[..., dy : dy + height, dx : dx + width]).mean(1, keepdim=True)
            for dy in range(3)
            for dx in range(3)
        ]
        flow = self.flow(F.leaky_relu(torch.cat(costs, 1), 0.1))
        ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        moved = torch.stack((xs, ys)).float()[None] + flow
        scale = torch.tensor([(width - 1) / 2, (height - 1) / 2]).view(1, 2, 1, 1)
        grid = (moved / scale - 1).permute(0, 2, 3, 1)
        warped = F.grid_sample(b, grid, align_corners=True, padding_mode="border")
        return {"flow": flow, "warped": warped}


@CASES.add("faces with angular margin", (3, 28, 28))
class Faces(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(block(3, 16, 2), nn.PReLU(16), block(16, 24, 2))
        self.depthwise = nn.Conv2d(24, 24, 7, groups=24, bias=False)
        self.centers = nn.Parameter(torch.randn(10, 24))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = (x - 127.5) / 128.0
        embedding = F.normalize(self.depthwise(self.body(x)).squeeze(-1).squeeze(-1), p=2, dim=1)
        flipped = F.normalize(self.depthwise(self.body(x.flip(3))).flatten(1))
        cosine = F.linear(embedding, F.normalize(self.centers))
        return {"embedding": (embedding + flipped) / 2, "cosine": cosine * 30.0}


@CASES.add("text recogniser read greedily", (1, 16, 64))
class Greedy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(block(1, 8), nn.MaxPool2d(2), block(8, 16), nn.MaxPool2d((8, 2)))
        self.rnn = nn.LSTM(16, 8, bidirectional=True, num_layers=2, batch_first=True)
        self.fc = nn.Linear(16, 9)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        seq = self.body(x).squeeze(2).permute(0, 2, 1)
        logits = self.fc(self.rnn(seq)[0]).log_softmax(-1)
        best = logits.argmax(-1)
        repeated = torch.cat([torch.zeros_like(best[:, :1]), best[:, :-1]], 1) == best
        return torch.where(repeated | (best == 0), torch.full_like(best, -1), best), logits
