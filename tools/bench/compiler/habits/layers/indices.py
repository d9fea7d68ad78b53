"""Elements that are chosen, ordered and overwritten by indices: masks, slices, scatters, bits."""

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
