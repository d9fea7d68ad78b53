"""Detection and dense prediction: heads with boxes, pyramids, decoders, crops of odd sizes."""

# People's code states no types of its buffers.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.bench.compiler.habits.registry import Networks

CASES = Networks()


def conv(inputs: int, outputs: int, kernel_size: int = 3, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size, stride, kernel_size // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(0.1, inplace=True),
    )


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


@CASES.add("fpn with matched sizes and extra levels", (3, 45, 37))
class Pyramid(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.ModuleList([conv(3, 8, 3, 2), conv(8, 12, 3, 2), conv(12, 16, 3, 2)])
        self.inner = nn.ModuleList(nn.Conv2d(n, 8, 1) for n in (8, 12, 16))
        self.layer = nn.ModuleList(nn.Conv2d(8, 8, 3, padding=1) for _ in range(3))
        self.p6 = nn.Conv2d(16, 8, 3, 2, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = []
        for stage in self.c:
            x = stage(x)
            features.append(x)
        last = self.inner[-1](features[-1])
        results = [self.layer[-1](last)]
        for idx in range(len(features) - 2, -1, -1):
            lateral = self.inner[idx](features[idx])
            last = lateral + F.interpolate(last, size=lateral.shape[-2:], mode="nearest")
            results.insert(0, self.layer[idx](last))
        results.append(self.p6(features[-1]))
        return {f"p{i + 3}": y for i, y in enumerate(results)}


@CASES.add("bifpn with fast fusion", (8, 20, 20))
class BiFpn(nn.Module):
    """Learnt non-negative weights that are normalised, swish, separable convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.w1, self.w2 = nn.Parameter(torch.rand(2, 2)), nn.Parameter(torch.rand(3, 2))
        self.convs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1, groups=8, bias=False), nn.Conv2d(8, 8, 1),
                          nn.BatchNorm2d(8, momentum=0.01, eps=1e-3)) for _ in range(4)
        )  # fmt: skip

    def forward(self, p3: Tensor) -> list[Tensor]:
        p4 = F.max_pool2d(p3, 3, 2, 1)
        p5 = F.max_pool2d(p4, 3, 2, 1)
        w1, w2 = F.relu(self.w1), F.relu(self.w2)
        w1, w2 = w1 / (w1.sum(0) + 1e-4), w2 / (w2.sum(dim=0) + 1e-4)
        up = self.convs[0](F.silu(w1[0, 0] * p4 + w1[1, 0] * F.interpolate(p5, scale_factor=2)))
        out3 = self.convs[1](F.silu(w1[0, 1] * p3 + w1[1, 1] * F.interpolate(up, scale_factor=2)))
        out4 = w2[0, 0] * p4 + w2[1, 0] * up + w2[2, 0] * F.max_pool2d(out3, 2)
        out4 = self.convs[2](F.silu(out4))
        return [out3, out4, self.convs[3](F.silu(p5 + F.max_pool2d(out4, 2)))]


@CASES.add("unet padded to the skip", (1, 37, 45))
class UnetPadded(nn.Module):
    """Odd sizes: the upsampled map is padded by the difference to its skip."""

    def __init__(self) -> None:
        super().__init__()
        self.inc, self.down1, self.down2 = conv(1, 4), conv(4, 8), conv(8, 8)
        self.up1, self.up2 = (
            nn.ConvTranspose2d(8, 8, 2, 2),
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
        )
        self.c1, self.c2, self.out = conv(16, 8), conv(12, 4), nn.Conv2d(4, 2, 1)

    def merge(self, x1: Tensor, x2: Tensor) -> Tensor:
        dy, dx = x2.size()[2] - x1.size()[2], x2.size()[3] - x1.size()[3]
        x1 = F.pad(x1, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])
        return torch.cat([x2, x1], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        x1 = self.inc(x)
        x2 = self.down1(F.max_pool2d(x1, 2))
        x3 = self.down2(F.max_pool2d(x2, 2))
        x = self.c1(self.merge(self.up1(x3), x2))
        return self.out(self.c2(self.merge(self.up2(x), x1)))


@CASES.add("unet with cropped skips", (1, 44, 44))
class UnetCropped(nn.Module):
    """Unpadded convolutions; skips are cropped in the centre as torchvision crops."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 8, 3)
        self.up, self.c, self.out = (
            nn.ConvTranspose2d(8, 4, 2, 2),
            nn.Conv2d(8, 4, 3),
            nn.Conv2d(4, 2, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        skip = F.relu(self.a(x))
        x = F.relu(self.b(F.max_pool2d(skip, 2)))
        x = self.up(x)
        top = round((skip.shape[-2] - x.shape[-2]) / 2.0)
        left = round((skip.shape[-1] - x.shape[-1]) / 2.0)
        skip = skip[:, :, top : top + x.shape[-2], left : left + x.shape[-1]]
        return self.out(F.elu(self.c(torch.cat((x, skip), 1)))).argmax(1)


@CASES.add("segnet with unpooling", (3, 16, 20))
class SegNet(nn.Module):
    """Max pooling with indices and max unpooling."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = conv(3, 6), conv(6, 4)
        self.pool = nn.MaxPool2d(2, 2, return_indices=True)
        self.unpool = nn.MaxUnpool2d(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.encode(x)
        size = x.size()
        x, indices = self.pool(x)
        return self.decode(self.unpool(x * 1.1, indices, output_size=size))


@CASES.add("aspp with image pooling", (3, 33, 33))
class Aspp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = conv(3, 8, 3, 2)
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(8, 4, 3, padding=r, dilation=r, bias=False), nn.BatchNorm2d(4), nn.ReLU()
            )
            for r in (1, 6, 12, 18)
        )
        self.image = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 4, 1, bias=False), nn.ReLU()
        )
        self.project = nn.Sequential(
            nn.Conv2d(20, 4, 1, bias=False), nn.BatchNorm2d(4), nn.Dropout(0.1)
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        size = x.shape[-2:]
        x = self.stem(x)
        maps = [branch(x) for branch in self.branches]
        pooled = self.image(x)
        maps.append(F.interpolate(pooled, size=x.shape[-2:], mode="bilinear", align_corners=False))
        y = self.project(torch.cat(maps, 1))
        return {"out": F.interpolate(y, size=size, mode="bilinear", align_corners=False), "aux": y}


class Keypoints(NamedTuple):
    points: Tensor
    scores: Tensor


@CASES.add("heat maps to key points", (3, 32, 24))
class HeatMaps(nn.Module):
    """Argmax of each map, x and y by remainder and division, and a soft argmax beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(conv(3, 8, 3, 2), nn.ConvTranspose2d(8, 5, 4, 2, 1))

    def forward(self, x: Tensor) -> Keypoints:
        heat = self.net(x)
        n, k, h, w = heat.shape
        flat = heat.reshape(n, k, -1)
        scores, index = flat.max(dim=2, keepdim=True)
        points = index.repeat(1, 1, 2).float()
        points[:, :, 0] = points[:, :, 0] % w
        points[:, :, 1] = torch.floor(points[:, :, 1] / w)
        soft = F.softmax(flat * 10.0, 2).view(n, k, h, w)
        x_mean = (soft.sum(2) * torch.arange(w, dtype=soft.dtype)).sum(-1, keepdim=True)
        y_mean = (soft.sum(3) * torch.arange(h, dtype=soft.dtype)).sum(-1, keepdim=True)
        return Keypoints(points + 0.01 * torch.cat((x_mean, y_mean), -1), scores)


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


@CASES.add("roi align of fixed boxes by grid_sample", (4, 20, 20))
class FixedRegions(nn.Module):
    """The same three regions of every image, by affine_grid and grid_sample."""

    def __init__(self) -> None:
        super().__init__()
        theta = torch.tensor([[[0.5, 0, 0.1], [0, 0.5, -0.2]], [[0.3, 0, -0.4], [0, 0.6, 0.2]]])
        self.register_buffer("theta", theta)
        self.fc = nn.Linear(4 * 25, 6)

    def forward(self, x: Tensor) -> Tensor:
        pieces = []
        for theta in self.theta.unbind():
            grid = F.affine_grid(
                theta.expand(x.shape[0], 2, 3), [x.shape[0], 4, 5, 5], align_corners=False
            )
            pieces.append(F.grid_sample(x, grid, align_corners=False).flatten(1))
        return self.fc(torch.stack(pieces, 1))


@CASES.add("spatial transformer", (1, 20, 20))
class SpatialTransformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.locate = nn.Sequential(nn.Conv2d(1, 4, 7), nn.MaxPool2d(2, 2), nn.ReLU(True))
        self.fc = nn.Sequential(nn.Linear(4 * 7 * 7, 8), nn.ReLU(True), nn.Linear(8, 6))
        self.fc[2].weight.data.mul_(0.1)
        self.fc[2].bias.data.copy_(torch.tensor([1, 0, 0, 0, 1, 0], dtype=torch.float))
        self.head = nn.Conv2d(1, 3, 5)

    def forward(self, x: Tensor) -> Tensor:
        theta = self.fc(self.locate(x).view(-1, 4 * 7 * 7)).view(-1, 2, 3)
        grid = F.affine_grid(theta, x.size(), align_corners=False)
        return F.adaptive_avg_pool2d(self.head(F.grid_sample(x, grid, align_corners=False)), 3)


@CASES.add("optical flow warp", [(3, 16, 20), (2, 16, 20)])
class Warp(nn.Module):
    """A grid from the size of the flow, normalised to -1..1, and a mask of pixels inside."""

    def forward(self, x: Tensor, flow: Tensor) -> Tensor:
        _, _, h, w = x.size()
        xx = torch.arange(0, w).view(1, -1).repeat(h, 1)
        yy = torch.arange(0, h).view(-1, 1).repeat(1, w)
        grid = torch.stack((xx, yy), 0).float().unsqueeze(0)
        vgrid = grid + flow
        vx = 2.0 * vgrid[:, 0] / max(w - 1, 1) - 1.0
        vy = 2.0 * vgrid[:, 1] / max(h - 1, 1) - 1.0
        return F.grid_sample(x, torch.stack((vx, vy), 3), padding_mode="border", align_corners=True)
