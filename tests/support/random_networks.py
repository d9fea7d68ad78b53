"""Random networks of the operations that the compiler knows, each the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INPUT_SHAPE = (4, 9, 10)
MAX_ELEMENTS = 20_000
"""Largest value of a network: an operation that would exceed it is left out."""
Step = Callable[[Tensor], Tensor]


def random_network(seed: int) -> nn.Module:
    """Return a network for images of `INPUT_SHAPE`, which gives ``[N, classes]``."""
    torch.manual_seed(seed)
    rng = Random(seed)
    image, steps = torch.randn(1, *INPUT_SHAPE), nn.ModuleList()
    while len(steps) < 6:
        candidate = rng.choice(KINDS)(rng, tuple(image.shape[1:]))
        if candidate is None:
            continue
        step = Residual(candidate, rng.random() < 0.3).eval()
        try:
            with torch.no_grad():
                after = step(image)
        except ValueError:  # a norm of single elements
            continue
        if 1 < after[0].numel() <= MAX_ELEMENTS and after.abs().max() < 1e3:
            steps.append(step)
            image = after
    head = nn.Linear(image[0].numel(), 3)
    return nn.Sequential(*steps, nn.Flatten(), head).eval()


class Residual(nn.Module):
    """A step whose operand is added to its result, where the shapes permit it."""

    def __init__(self, step: Any, added: bool) -> None:
        super().__init__()
        self.step, self.added = step, added

    def forward(self, x: Tensor) -> Tensor:
        y = self.step(x)
        return x + y if self.added and y.shape == x.shape else y


def convolution(rng: Random, shape: tuple[int, ...]) -> Any:
    if len(shape) != 3:
        return None
    channels, *sizes = shape
    kernel, dilation = rng.choice((1, 2, 3, 5)), rng.choice((1, 1, 2))
    padding = rng.randint(0, (kernel - 1) * dilation)
    if min(sizes) + 2 * padding <= (kernel - 1) * dilation:
        return None
    groups = rng.choice([n for n in (1, 2, channels) if channels % n == 0])
    mode = rng.choice(("zeros", "zeros", "replicate")) if padding else "zeros"
    return nn.Sequential(
        nn.Conv2d(
            channels, groups * rng.choice((1, 2)), kernel, rng.choice((1, 1, 2, 3)), padding,
            dilation, groups, rng.random() < 0.5, mode,
        ),
        rng.choice((nn.Identity(), nn.ReLU(inplace=True), nn.ReLU6(), nn.Hardswish(), nn.GELU())),
    )  # fmt: skip


def transposed(rng: Random, shape: tuple[int, ...]) -> Any:
    if len(shape) != 3:
        return None
    stride, kernel = rng.choice((1, 2)), rng.choice((1, 2, 3))
    return nn.ConvTranspose2d(
        shape[0], 2, kernel, stride, rng.randint(0, kernel - 1) // 2, rng.randint(0, stride - 1)
    )


def layer(rng: Random, shape: tuple[int, ...]) -> Any:
    layers: list[Callable[[], nn.Module]] = [
        lambda: nn.Linear(shape[-1], rng.choice((3, shape[-1]))),
        lambda: nn.LayerNorm(shape[-1]),
        lambda: nn.LayerNorm(list(shape)),
        lambda: nn.GroupNorm(rng.choice((1, shape[0])), shape[0]),
    ]
    if len(shape) == 3 and min(shape) > 1:
        layers += [
            lambda: _with_statistics(nn.BatchNorm2d(shape[0])),
            lambda: nn.InstanceNorm2d(shape[0], affine=True),
            lambda: nn.PReLU(shape[0]),
        ]
    return rng.choice(layers)() if min(shape) > 1 else None


def pool(rng: Random, shape: tuple[int, ...]) -> Any:
    if len(shape) != 3:
        return None
    size, stride = rng.choice((2, 3)), rng.choice((1, 2, 3))
    padding, ceil = rng.randint(0, size // 2), rng.random() < 0.5
    if min(shape[1:]) + 2 * padding < size:
        return None
    target = rng.randint(1, shape[1]), rng.randint(1, shape[2])
    return rng.choice(
        (
            nn.MaxPool2d(size, stride, padding, ceil_mode=ceil),
            nn.AvgPool2d(size, stride, padding, ceil, rng.random() < 0.5),
            nn.AdaptiveAvgPool2d(target),
            nn.AdaptiveMaxPool2d(target),
        )
    )


def resize(rng: Random, shape: tuple[int, ...]) -> Any:
    if len(shape) != 3:
        return None
    size = rng.randint(1, 2 * shape[1]), rng.randint(1, 2 * shape[2])
    mode = rng.choice(("nearest", "nearest-exact", "bilinear", "bicubic"))
    corners = rng.choice((True, False)) if mode in ("bilinear", "bicubic") else None
    return _Function(lambda x: F.interpolate(x, size, mode=mode, align_corners=corners))


def move(rng: Random, shape: tuple[int, ...]) -> Any:
    rank = len(shape)
    axes = rng.sample(range(1, rank + 1), rank)
    axis = rng.randrange(rank)
    size = shape[axis]
    begin, places = (
        rng.randrange(size),
        [rng.randrange(size) for _ in range(rng.randint(1, 5))],
    )
    split = [n for n in (2, 3) if size % n == 0]
    moves: list[Step] = [
        lambda x: x.permute(0, *axes),
        lambda x: x.flatten(1, 2) if rank > 1 else x,
        lambda x: x.narrow(axis + 1, begin, size - begin),
        lambda x: x.index_select(axis + 1, torch.tensor(places)),
        lambda x: torch.roll(x, begin, axis + 1).flip(axis + 1),
        lambda x: torch.cat(x.split(max(1, begin), axis + 1)[::-1], axis + 1),
        lambda x: torch.stack((x, x * 2), axis + 1) if rank < 4 else x,
        lambda x: F.pad(x, (1, 2, 0, 1) if rank > 1 else (1, 2), value=0.5),
        lambda x: (
            x.unsqueeze(axis + 1).expand(-1, *shape[:axis], 2, *shape[axis:]) if rank < 4 else x
        ),
    ]
    if split:
        parts = rng.choice(split), -1
        moves.append(lambda x: x.unflatten(axis + 1, parts) if rank < 5 else x)
    return _Function(rng.choice(moves))


def elementwise(rng: Random, shape: tuple[int, ...]) -> Any:
    axis, number = rng.randrange(len(shape)) + 1, rng.uniform(-2, 2)
    constant = torch.randn([n if rng.random() < 0.5 else 1 for n in shape])
    functions: list[Step] = [
        *(torch.sigmoid, torch.tanh, F.silu, F.mish, F.elu, F.softplus, F.leaky_relu, F.relu),
        *(F.hardsigmoid, torch.sin, torch.abs, torch.neg),
        lambda x: x * constant + number,
        lambda x: number - x / (constant.abs() + 1),
        lambda x: torch.where(x > number, x, constant),
        lambda x: x.clamp(-1, abs(number)) + torch.maximum(x, constant),
        lambda x: x.softmax(axis),
        lambda x: x * x.mean(axis, keepdim=True),
        lambda x: x / x.norm(dim=axis, keepdim=True).clamp_min(0.1),
        lambda x: x * (x.pow(2).mean() + 1).rsqrt(),
        _overwritten,
    ]
    return _Function(rng.choice(functions))


def reduction(rng: Random, shape: tuple[int, ...]) -> Any:
    rank = len(shape)
    axes = sorted(rng.sample(range(1, rank + 1), rng.randint(1, rank)))
    keep = rng.random() < 0.5
    if not keep and len(axes) == rank:
        return None
    name = rng.choice(("mean", "sum", "amax", "amin", "var", "logsumexp"))
    if name == "var" and any(shape[axis - 1] == 1 for axis in axes):
        return None
    return _Function(lambda x: getattr(x, name)(axes, keepdim=keep))


def attention(rng: Random, shape: tuple[int, ...]) -> Any:
    if len(shape) < 2 or min(shape) == 1:
        return None
    functions: list[Step] = [
        lambda x: F.scaled_dot_product_attention(x, x, x),
        lambda x: (x @ x.transpose(-1, -2)) / shape[-1],
        lambda x: x.transpose(-1, -2) @ x / shape[-2],
    ]
    return _Function(rng.choice(functions))


KINDS = (
    *(convolution, convolution, layer, pool, transposed, resize),
    *(move, move, elementwise, elementwise, reduction, attention),
)


class _Function(nn.Module):
    def __init__(self, function: Step) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def _overwritten(x: Tensor) -> Tensor:
    y = x * 1.5
    y[:, :1] += 1
    return y.relu_()


def _with_statistics(norm: nn.BatchNorm2d) -> nn.Module:
    assert norm.running_mean is not None and norm.running_var is not None
    nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.5, 2.0)
    nn.init.uniform_(norm.weight, -1.5, 1.5)
    return norm
