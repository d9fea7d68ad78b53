"""Single layers and functions in rarer forms: pads, pools, transposed convolutions, indices."""

# People's code states no types of its buffers.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.bench.compiler.habits.registry import Networks

CASES = Networks()
MAP = (4, 9, 11)


@CASES.add("pads of each axis in each mode", MAP)
class Pads(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (1, 2), mode="constant", value=0.25)
        x = F.pad(x, (2, 0, 1, 3), mode="reflect")
        x = F.pad(x, (0, 1, 2, 0), mode="replicate")
        x = F.pad(x, (3, 1, 0, 2), mode="circular")
        x = F.pad(x, (-1, -2, 0, -3))
        return F.pad(x, (0, 0, 1, 0, 2, 1), value=-1.0)


@CASES.add("three-axis reflect and replicate pads", (2, 6, 7))
class VolumePads(nn.Module):
    """Padding modules of volumes on a map with a depth of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.reflect, self.replicate = (
            nn.ReflectionPad3d((1, 2, 0, 1, 1, 0)),
            nn.ReplicationPad3d(1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.replicate(self.reflect(x.unsqueeze(1))).squeeze(1)


@CASES.add("pools in rare forms", MAP)
class Pools(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (
            F.max_pool2d(x, (3, 2), (2, 1), (1, 0), dilation=(1, 2), ceil_mode=True),
            F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False),
            F.avg_pool2d(x, (2, 5), divisor_override=7),
            F.adaptive_avg_pool2d(x, (5, 7)),
            F.adaptive_max_pool2d(x, (4, 3)),
            F.lp_pool2d(x.abs(), 3, 2, ceil_mode=True),
            F.max_pool1d(x.flatten(2), 3, 2, 1, ceil_mode=True),
        )


@CASES.add("pools of volumes", (2, 5, 6, 8))
class VolumePools(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (
            F.max_pool3d(x, 2, 1),
            F.avg_pool3d(x, (1, 2, 2)),
            F.adaptive_avg_pool3d(x, (2, 3, 4)),
        )


@CASES.add("max pool indices as output", MAP)
class PoolIndices(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        values, places = F.max_pool2d(x, 3, 2, 1, return_indices=True)
        return values, places


@CASES.add("transposed convolutions in rare forms", (4, 6, 5))
class Transposed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.ConvTranspose2d(
            4, 6, 3, stride=(2, 3), padding=1, output_padding=(1, 2), groups=2
        )
        self.b = nn.ConvTranspose2d(
            6, 6, (2, 4), stride=1, padding=(0, 3), dilation=(3, 2), groups=6, bias=False
        )
        self.c = nn.ConvTranspose2d(6, 3, 5, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.b(torch.relu(self.a(x)))
        return self.c(x, output_size=(x.shape[2] * 2, x.shape[3] * 2 - 1))


@CASES.add("activations of every kind", MAP)
class Activations(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.prelu = nn.PReLU(4, init=0.1)
        self.each = nn.ModuleList(
            [
                nn.Softplus(beta=3, threshold=4),
                nn.Mish(),
                nn.Hardtanh(-0.3, 0.7),
                nn.CELU(0.7),
                nn.SELU(),
                nn.GELU("tanh"),
                nn.Tanhshrink(),
                nn.Softshrink(0.2),
                nn.RReLU(0.1, 0.3),
                nn.Hardswish(),
                nn.Softmin(dim=1),
                nn.Softmax2d(),
                nn.LogSigmoid(),
                nn.Threshold(0.1, 20.0),
                nn.ReLU6(),
                nn.Softsign(),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.prelu(x)
        return (
            torch.stack([part(x) for part in self.each]).sum(0)
            + torch.special.expit(x)
            + torch.logit(x.sigmoid(), eps=1e-3)
        )


@CASES.add("norms without modules", (6, 8))
class Norms(nn.Module):
    """RMS norm, cosine similarity, distances, statistics with and without correction."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.keys = nn.Parameter(torch.rand(8) + 0.5), nn.Parameter(torch.randn(5, 8))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        variance = x.to(torch.float32).pow(2).mean(-1, keepdim=True)
        x = self.weight * (x * torch.rsqrt(variance + 1e-6)).to(x.dtype)
        return {
            "cosine": F.cosine_similarity(x.unsqueeze(2), self.keys[None, None], dim=-1),
            "distance": torch.cdist(x, self.keys.expand(x.shape[0], -1, -1), p=1.0),
            "pairs": F.pairwise_distance(x[:, :5], self.keys.unsqueeze(0)),
            "statistics": torch.cat(
                (torch.std(x, -1, correction=0), x.var(dim=-1, unbiased=True)), 1
            ),
            "norms": torch.stack(
                (torch.linalg.norm(x, ord=1, dim=-1), x.norm(float("inf"), -1), x.norm(dim=-1))
            ),
            "logsumexp": torch.logsumexp(x, (1, 2)),
            "softmax": F.gumbel_softmax(x, dim=-1) if self.training else F.softmax(x / 0.5, -1),
        }


@CASES.add("matrix norms", (4, 5))
class MatrixNorms(nn.Module):
    """The Frobenius norm, written in three ways."""

    def forward(self, x: Tensor) -> Tensor:
        gram = x.transpose(1, 2) @ x
        trace = torch.diagonal(gram, dim1=-2, dim2=-1).sum(-1)
        return torch.stack(
            (torch.linalg.matrix_norm(x), trace.sqrt(), x.norm("fro", dim=(1, 2))), -1
        )


@CASES.add("group norms of odd groups", (9, 5, 5))
class OddGroups(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.GroupNorm(3, 9), nn.GroupNorm(9, 9, affine=False)
        self.c, self.conv = (
            nn.InstanceNorm2d(9, affine=True, track_running_stats=True),
            nn.Conv2d(9, 9, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.conv(F.silu(self.b(self.conv(self.a(x))))))


@CASES.add("standardised weights", (4, 9, 9))
class Standardised(nn.Module):
    """Weight standardisation in forward, and an old spectral norm."""

    class Conv(nn.Conv2d):
        def forward(self, input: Tensor) -> Tensor:
            w = self.weight
            w = w - w.mean(dim=(1, 2, 3), keepdim=True)
            w = w / (w.view(w.size(0), -1).std(dim=1).view(-1, 1, 1, 1) + 1e-5)
            return F.conv2d(
                input, w, self.bias, self.stride, self.padding, self.dilation, self.groups
            )

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = self.Conv(4, 8, 3, padding=1), nn.GroupNorm(4, 8)
        self.last = nn.utils.spectral_norm(nn.Conv2d(8, 3, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.norm(self.conv(x))))


@CASES.add("integer arithmetic on tokens", "8:int64")
class Integers(nn.Module):
    """Floor division, remainder, shifts, bits, comparisons, and a lookup of the result."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(16, 3)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        code = (ids * 7 + 3) % 16
        code = (code // 2) ^ (code & 5) | (code >> 3)
        code = torch.bitwise_and(code << 1, 15)
        return self.table(code.clamp(0, 15)), torch.where(code % 2 == 0, code, -code)


@CASES.add("bits of bytes", "6:uint8")
class Bits(nn.Module):
    """Unpacks each byte into eight bits."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(48, 4)

    def forward(self, x: Tensor) -> Tensor:
        mask = 2 ** torch.arange(7, -1, -1).to(x.device, torch.int32)
        bits = x.int().unsqueeze(-1).bitwise_and(mask).ne(0).float()
        return self.fc(bits.flatten(1))


@CASES.add("index tricks", (6, 7, 5))
class IndexTricks(nn.Module):
    """Lists, steps, None, ellipses, masks that are constants, negative strides by flip."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("keep", torch.tensor([True, False, True, True, False, True]))
        self.register_buffer("order", torch.tensor([4, 2, 0]))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = x[:, self.keep]
        z = x[:, [0, 2, 5], [1, 1, 3]]
        a = x[..., self.order][:, -1, None, 1:-1:2]
        b = x.flip(1)[:, ::3, ...].rot90(1, (2, 3))
        c = x[:, torch.arange(6), torch.arange(6), :]
        d = torch.take_along_dim(x, x.argsort(dim=2, descending=True), dim=2)
        return y, z, a, b, c, d


@CASES.add("assignments at indices", (5, 6))
class Assignments(nn.Module):
    """Slices, columns by list, diagonals and masks are overwritten."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.clone()
        y[:, 1:3] = 0
        y[:, :, [0, 4]] = x[:, :, [4, 0]] * 2
        y[:, torch.arange(5), torch.arange(5)] += 1.0
        y[x > 1.0] = 1.0
        y[:, -1].mul_(0.5)
        y[:, 0] = torch.where(y[:, 0] < 0, 0.0, y[:, 0])
        return y


@CASES.add("scatter and one-hot", (4, 6))
class Scatters(nn.Module):
    """A histogram by scatter_add, one-hot of the argmax, and sorted values put back."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        places = x.argmax(-1)
        hot = torch.zeros_like(x).scatter_(-1, places.unsqueeze(-1), 1.0)
        counts = torch.zeros(x.shape[0], 6).scatter_add_(
            1, places, torch.ones_like(places, dtype=torch.float)
        )
        values, order = torch.sort(x, dim=-1, stable=True)
        back = torch.empty_like(x).scatter_(-1, order, values.cumsum(-1))
        mean = torch.zeros(x.shape[0], 3, 6).index_add_(1, torch.tensor([0, 2, 0, 1]), x)
        return hot * F.one_hot(places, 6), counts, back, mean


@CASES.add("triangles and bands", (6, 6))
class Triangles(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = torch.tril(x, diagonal=1) + x.triu(2).mT
        rows, columns = torch.tril_indices(6, 6, offset=-1)
        picked = y[:, rows, columns]
        return torch.cat(
            (torch.diag_embed(picked[:, :6]).sum(1), picked, torch.diagonal(x, 1, 1, 2)), 1
        )


@CASES.add("einops-like chains", (12, 8, 6))
class Chains(nn.Module):
    """b (g c) (h p) (w q) -> b (h w) (p q c) g, back, and a repeat."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        b, c, h, w = x.shape
        y = x.reshape(b, 3, c // 3, h // 2, 2, w // 3, 3).permute(0, 3, 5, 4, 6, 2, 1)
        y = y.reshape(b, (h // 2) * (w // 3), -1, 3) * torch.tensor([1.0, -1.0, 2.0])
        z = (
            y.view(b, h // 2, w // 3, 2, 3, c // 3, 3)
            .permute(0, 6, 5, 1, 3, 2, 4)
            .reshape(b, c, h, w)
        )
        return y, z.unsqueeze(1).repeat_interleave(2, dim=1).movedim(1, 2).swapaxes(2, 1).flatten(
            1, 2
        )


@CASES.add("resizing in rare forms", (3, 7, 10))
class Resizing(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (
            F.interpolate(x, scale_factor=0.5, mode="bilinear", recompute_scale_factor=True),
            F.interpolate(x, scale_factor=(1.7, 0.6), mode="nearest"),
            F.interpolate(x, size=(5, 21), mode="bicubic", align_corners=True),
            F.interpolate(x, scale_factor=0.4, mode="bilinear", antialias=True),
            F.interpolate(x.flatten(1, 2), scale_factor=2.5, mode="linear", align_corners=True),
            F.interpolate(x, size=11, mode="nearest-exact"),
            F.interpolate(x.unsqueeze(2), scale_factor=(2, 2, 2), mode="nearest").flatten(1, 2),
        )


@CASES.add("trilinear resize", (2, 3, 4, 5))
class Trilinear(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, size=(6, 4, 7), mode="trilinear", align_corners=False)


@CASES.add("statistics in order", (5, 9))
class Order(nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {
            "median": x.median(dim=-1).values,
            "quantile": torch.quantile(x, torch.tensor([0.1, 0.5]), dim=-1),
            "kth": x.kthvalue(3, dim=-1)[0],
            "rank": x.argsort(-1).argsort(-1),
            "mode_count": (x.round()[..., None] == x.round()[..., None, :]).sum(-1).amax(-1),
            "cumprod": torch.cumprod(x.sigmoid() + 0.5, dim=-1),
            "diff": torch.diff(x, dim=-1),
            "trapezoid": torch.trapezoid(x, dim=-1),
        }


@CASES.add("linear algebra", (3, 3))
class LinearAlgebra(nn.Module):
    """A 3x3 inverse and determinant, as in camera geometry."""

    def forward(self, x: Tensor) -> Tensor:
        a = x @ x.mT + torch.eye(3)
        return torch.linalg.inv(a) * torch.linalg.det(a).view(-1, 1, 1)


@CASES.add("cross products and rotations", (6,))
class Rotations(nn.Module):
    """The 6-D representation of rotations: normalise, project, cross product, stack."""

    def forward(self, x: Tensor) -> Tensor:
        a, b = x[..., :3], x[..., 3:]
        first = F.normalize(a, dim=-1)
        second = F.normalize(b - (first * b).sum(-1, keepdim=True) * first, dim=-1)
        return torch.stack((first, second, torch.cross(first, second, dim=-1)), dim=-2)


@CASES.add("bucketed values", (7,))
class Buckets(nn.Module):
    """Bucketize to bins, one-hot, and a piecewise linear table by interpolation."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("edges", torch.linspace(-2, 2, 6))
        self.table = nn.Parameter(torch.randn(7, 4))

    def forward(self, x: Tensor) -> Tensor:
        place = torch.bucketize(x, self.edges)
        return self.table[place] * (x - x.floor()).unsqueeze(-1) + F.one_hot(place, 7)[..., :4]


@CASES.add("random numbers in evaluation", (4, 6))
class Sampling(nn.Module):
    """A variational encoder that draws in evaluation, too."""

    def __init__(self) -> None:
        super().__init__()
        self.mu, self.log_var = nn.Linear(6, 2), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        std = torch.exp(0.5 * self.log_var(x))
        return self.mu(x) + torch.randn_like(std) * std


@CASES.add("noise that is only drawn in training", (4, 6))
class TrainingNoise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mu = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.mu(x)
        return y + torch.randn_like(y) if self.training else y
