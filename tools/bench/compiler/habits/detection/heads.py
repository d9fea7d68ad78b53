"""Heads of detectors that decode their boxes in forward: anchors, grids, scores, queries."""

# People's code states no types of its buffers.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.bench.compiler.habits.detection.convolution import conv
from tools.bench.compiler.habits.registry import Networks

CASES = Networks()


@CASES.add("yolo decoded in forward", (3, 32, 48))
class YoloDecoded(nn.Module):
    """Anchors, a grid that is rebuilt whenever the size of the map differs, and strides."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(3, 8, 3, 2), conv(8, 16, 3, 2))
        self.down = conv(16, 16, 3, 2)
        self.heads = nn.ModuleList(nn.Conv2d(16, 3 * 7, 1) for _ in range(2))
        self.grid = [torch.zeros(1)] * 2
        self.register_buffer("anchors", torch.rand(2, 3, 2) * 20 + 4)
        self.stride = [4, 8]

    def forward(self, x: Tensor) -> Tensor:
        first = self.body(x)
        maps, decoded = [first, self.down(first)], []
        for i, head in enumerate(self.heads):
            y = head(maps[i])
            bs, _, ny, nx = y.shape
            y = y.view(bs, 3, 7, ny, nx).permute(0, 1, 3, 4, 2).contiguous()
            if self.grid[i].shape[2:4] != y.shape[2:4]:
                yv, xv = torch.meshgrid(torch.arange(ny), torch.arange(nx), indexing="ij")
                self.grid[i] = torch.stack((xv, yv), 2).view((1, 1, ny, nx, 2)).float()
            y = y.sigmoid()
            y[..., 0:2] = (y[..., 0:2] * 2.0 - 0.5 + self.grid[i].to(y.device)) * self.stride[i]
            y[..., 2:4] = (y[..., 2:4] * 2) ** 2 * self.anchors[i].view(1, 3, 1, 1, 2)
            decoded.append(y.view(bs, -1, 7))
        return torch.cat(decoded, 1)


@CASES.add("anchor-free head with DFL", (3, 32, 32))
class DistributionFocal(nn.Module):
    """Distances as expectations over 8 bins, boxes from anchor points, scores."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([conv(3, 8, 3, 4), conv(8, 16, 3, 2)])
        self.box = nn.ModuleList([nn.Conv2d(8, 32, 1), nn.Conv2d(16, 32, 1)])
        self.cls = nn.ModuleList([nn.Conv2d(8, 5, 1), nn.Conv2d(16, 5, 1)])
        self.dfl = nn.Conv2d(8, 1, 1, bias=False).requires_grad_(False)
        self.dfl.weight.data[:] = torch.arange(8.0).view(1, 8, 1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        outputs, points, strides = [], [], []
        for stage, box, cls, stride in zip(self.stages, self.box, self.cls, (4, 8), strict=True):
            x = stage(x)
            outputs.append(torch.cat((box(x), cls(x)), 1).flatten(2))
            h, w = x.shape[2:]
            sx = torch.arange(end=w, device=x.device, dtype=x.dtype) + 0.5
            sy = torch.arange(end=h, device=x.device, dtype=x.dtype) + 0.5
            sy, sx = torch.meshgrid(sy, sx, indexing="ij")
            points.append(torch.stack((sx, sy), -1).view(-1, 2))
            strides.append(torch.full((h * w, 1), stride, dtype=x.dtype, device=x.device))
        anchors, steps = (torch.cat(each).transpose(0, 1) for each in (points, strides))
        box, cls = torch.cat(outputs, 2).split((32, 5), 1)
        b, _, a = box.shape
        dist = self.dfl(box.view(b, 4, 8, a).transpose(2, 1).softmax(1)).view(b, 4, a)
        lt, rb = dist.chunk(2, 1)
        x1y1, x2y2 = anchors.unsqueeze(0) - lt, anchors.unsqueeze(0) + rb
        boxes = torch.cat(((x1y1 + x2y2) / 2, x2y2 - x1y1), 1) * steps
        return boxes, cls.sigmoid()


@CASES.add("top boxes by score", (4, 12, 12))
class TopBoxes(nn.Module):
    """Scores, the best 10 places, their boxes by gather, clamped to the image."""

    def __init__(self) -> None:
        super().__init__()
        self.score, self.box = nn.Conv2d(4, 3, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        scores = self.score(x).sigmoid().flatten(2).permute(0, 2, 1)
        boxes = self.box(x).flatten(2).permute(0, 2, 1)
        best, labels = scores.max(-1)
        values, places = torch.topk(best, 10, dim=1)
        boxes = boxes.gather(1, places.unsqueeze(-1).expand(-1, -1, 4))
        labels = labels.gather(1, places)
        return (boxes * 12).clamp(0, 12), values, labels


@CASES.add("centernet peaks", (3, 24, 24))
class CenterNet(nn.Module):
    """Peaks by max pooling, top-k over the map, coordinates by floor division and remainder."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.heat = conv(3, 8, 3, 2), nn.Conv2d(8, 2, 1)
        self.size = nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.body(x)
        heat = torch.clamp(self.heat(x).sigmoid_(), min=1e-4, max=1 - 1e-4)
        keep = (F.max_pool2d(heat, (3, 3), stride=1, padding=1) == heat).float()
        heat = heat * keep
        batch, _, height, width = heat.size()
        scores, indices = torch.topk(heat.view(batch, -1), 5)
        classes = torch.div(indices, height * width, rounding_mode="floor")
        indices = indices % (height * width)
        ys = torch.div(indices, width, rounding_mode="trunc").float()
        xs = (indices % width).int().float()
        size = self.size(x).permute(0, 2, 3, 1).reshape(batch, -1, 2)
        wh = size.gather(1, indices.unsqueeze(2).expand(batch, 5, 2))
        return {"scores": scores, "classes": classes, "xs": xs, "ys": ys, "wh": wh}


@CASES.add("ssd head with decoded priors", (3, 32, 32))
class SsdDecoded(nn.Module):
    """Locations and confidences of two maps, decoded against priors that are a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(3, 8, 3, 4), conv(8, 8, 3, 2)
        self.loc = nn.ModuleList([nn.Conv2d(8, 4 * 4, 3, padding=1), nn.Conv2d(8, 6 * 4, 3, 1, 1)])
        self.conf = nn.ModuleList([nn.Conv2d(8, 4 * 3, 3, padding=1), nn.Conv2d(8, 6 * 3, 3, 1, 1)])
        self.priors = nn.Parameter(torch.rand(8 * 8 * 4 + 4 * 4 * 6, 4), requires_grad=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        sources = [x := self.a(x), self.b(x)]
        loc, conf = [], []
        for source, locate, classify in zip(sources, self.loc, self.conf, strict=True):
            loc.append(locate(source).permute(0, 2, 3, 1).contiguous())
            conf.append(classify(source).permute(0, 2, 3, 1).contiguous())
        where = torch.cat([o.view(o.size(0), -1) for o in loc], 1).view(x.size(0), -1, 4)
        what = torch.cat([o.view(o.size(0), -1) for o in conf], 1).view(x.size(0), -1, 3)
        p = self.priors
        boxes = torch.cat(
            (
                p[:, :2] + where[..., :2] * 0.1 * p[:, 2:],
                p[:, 2:] * torch.exp(where[..., 2:] * 0.2),
            ),
            -1,
        )
        boxes[..., :2] -= boxes[..., 2:] / 2
        boxes[..., 2:] += boxes[..., :2]
        return boxes, F.softmax(what, dim=-1)


@CASES.add("fcos with scales and centerness", (3, 36, 28))
class Fcos(nn.Module):
    """Shared towers with group norm, a learnt scale per level, exp, lists of levels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 16, 3, 4)
        self.tower = nn.Sequential(nn.Conv2d(16, 16, 3, 1, 1), nn.GroupNorm(4, 16), nn.ReLU())
        self.logits, self.centre = nn.Conv2d(16, 4, 3, 1, 1), nn.Conv2d(16, 1, 3, 1, 1)
        self.box = nn.Conv2d(16, 4, 3, 1, 1)
        self.scales = nn.ParameterList(
            [nn.Parameter(torch.tensor(1.5)), nn.Parameter(torch.tensor(0.5))]
        )

    def forward(self, x: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        levels = [self.stem(x)]
        levels.append(F.max_pool2d(levels[0], 1, 2))
        logits, boxes, centres = [], [], []
        for level, scale in zip(levels, self.scales, strict=True):
            y = self.tower(level)
            logits.append(self.logits(y))
            centres.append(self.centre(y))
            boxes.append(torch.exp(self.box(y) * scale))
        return logits, boxes, centres


@CASES.add("detr with queries and sine positions", (3, 32, 32))
class Detr(nn.Module):
    """Positions by cumsum of a mask of ones, queries, sigmoid boxes."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.project = conv(3, 16, 3, 8), nn.Conv2d(16, 16, 1)
        self.transformer = nn.Transformer(16, 2, 1, 1, 32, 0.0, batch_first=True)
        self.queries = nn.Embedding(4, 16)
        self.cls, self.box = nn.Linear(16, 3), nn.Linear(16, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = self.project(self.backbone(x))
        ones = torch.ones(x.shape[0], *x.shape[-2:], dtype=torch.bool, device=x.device)
        y_embed, x_embed = ones.cumsum(1, dtype=torch.float32), ones.cumsum(2, dtype=torch.float32)
        y_embed = y_embed / (y_embed[:, -1:, :] + 1e-6) * 2 * math.pi
        x_embed = x_embed / (x_embed[:, :, -1:] + 1e-6) * 2 * math.pi
        dim = 100 ** (2 * torch.div(torch.arange(8), 2, rounding_mode="floor") / 8)
        px, py = x_embed[..., None] / dim, y_embed[..., None] / dim
        px = torch.stack((px[..., 0::2].sin(), px[..., 1::2].cos()), dim=4).flatten(3)
        py = torch.stack((py[..., 0::2].sin(), py[..., 1::2].cos()), dim=4).flatten(3)
        pos = torch.cat((py, px), dim=3).permute(0, 3, 1, 2)
        src = (x + pos).flatten(2).transpose(1, 2)
        query = self.queries.weight.unsqueeze(0).repeat(x.shape[0], 1, 1)
        out = self.transformer(src, query)
        return {"pred_logits": self.cls(out), "pred_boxes": self.box(out).sigmoid()}
