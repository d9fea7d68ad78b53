"""Random networks of the operations that the compiler knows, each the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.architecture.artifact import Format
from hwnas.export.compile import compile_model
from hwnas.export.graph.interface import module_interface
from hwnas.export.verification.metrics import relative_error
from hwnas.export.verification.module_outputs import module_outputs
from hwnas.export.verification.run_model import file_outputs, first_output
from tests.support.networks.rounding import RoundedArithmetic

INPUT_SHAPE = (4, 9, 10)
MAX_ELEMENTS = 20_000
"""Largest value of a network: an operation that would exceed it is left out."""
MAX_ERROR = 1e-3
ROUNDING = 30.0
"""How much more a file may change than its network does by rounding after each operation."""
Step = Callable[[Tensor], Tensor]


def file_error(module: nn.Sequential, seed: int, format: Format, folder: Path) -> float:
    """Return the error of a network's file, relative to the largest value in PyTorch.

    Where rounding after each operation changes the outputs much, as in a norm of values that hardly
    differ, the error is in units of `ROUNDING` times this change, so that `MAX_ERROR` still holds.
    """
    images = np.random.default_rng(seed).normal(size=(2, *INPUT_SHAPE)).astype(np.float32)
    artifact = compile_model(module, INPUT_SHAPE, folder / f"net.{format}")
    outputs = file_outputs(Path(artifact.path), images)
    expected = _outputs(module, images)
    with RoundedArithmetic(seed):
        change = relative_error(_outputs(module, images), expected)
    return relative_error(outputs, expected) / max(1.0, ROUNDING * change / MAX_ERROR)


def _outputs(module: nn.Module, images: np.ndarray) -> np.ndarray:
    """Return the outputs for one image at a time, for networks that mix those of a batch."""
    interface = module_interface(module, INPUT_SHAPE)
    return first_output(module_outputs(module, interface, [images]))


def random_network(seed: int) -> nn.Sequential:
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


def convolution_1d(rng: Random, shape: tuple[int, ...]) -> Any:
    if len(shape) != 2:
        return None
    channels, size = shape
    kernel, stride = rng.choice((1, 2, 3)), rng.choice((1, 2))
    padding = rng.randint(0, kernel // 2)
    if size + 2 * padding < kernel:
        return None
    groups = rng.choice([n for n in (1, channels) if channels % n == 0])
    layers: list[Callable[[], nn.Module]] = [
        lambda: nn.Conv1d(channels, 2 * groups, kernel, stride, padding, groups=groups),
        lambda: nn.ConvTranspose1d(channels, 3, kernel, stride, padding // 2),
        lambda: nn.MaxPool1d(kernel, stride, padding),
        lambda: nn.AvgPool1d(kernel, stride, padding),
        lambda: nn.AdaptiveAvgPool1d(rng.randint(1, size)),
    ]
    return rng.choice(layers)()


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


def rearrange(rng: Random, shape: tuple[int, ...]) -> Any:
    rank, axis = len(shape), rng.randrange(len(shape))
    size, step = shape[axis], rng.choice((2, 3))
    begin = rng.randrange(size)
    steps: list[Step] = [
        lambda x: x[(slice(None),) * (axis + 1) + (slice(begin, None, step),)],
        lambda x: x.repeat(1, *(step if place == axis else 1 for place in range(rank))),
        lambda x: x.repeat_interleave(step, axis + 1),
        lambda x: x.cumsum(axis + 1) / size,
        lambda x: x.masked_fill(x > 0.5, -1.0),
        lambda x: torch.cat([part.neg() for part in x.chunk(step, axis + 1)], axis + 1),
        lambda x: x.select(axis + 1, begin) if rank > 1 else x,
        lambda x: torch.stack(x.unbind(axis + 1)[::-1], -1),
        lambda x: x.movedim(axis + 1, -1).contiguous().reshape(x.shape),
    ]
    if rank == 3:
        height, width = shape[1:]
        modes = ("reflect", "replicate", "circular")
        if min(height, width) > 2:
            pad, mode = [rng.randint(0, 2) for _ in range(4)], rng.choice(modes)
            steps += [lambda x: F.pad(x, pad, mode)] * 2
        if height % 2 == 0 and width % 2 == 0:
            steps.append(lambda x: F.pixel_unshuffle(x, 2))
        if shape[0] % 4 == 0:
            steps.append(lambda x: F.pixel_shuffle(x, 2))
        if shape[0] % 2 == 0:
            steps.append(lambda x: F.channel_shuffle(x, 2))
    return _Function(rng.choice(steps))


class Branches(nn.Module):
    """Two steps on the same value, joined along an axis in which they differ, or by arithmetic."""

    def __init__(self, first: Any, second: Any, axis: int, join: Callable[..., Tensor]) -> None:
        super().__init__()
        self.first, self.second, self.axis, self.join = first, second, axis, join

    def forward(self, x: Tensor) -> Tensor:
        y, z = self.first(x), self.second(x)
        if y.dim() != z.dim():
            return y
        differ = [
            n for n, sizes in enumerate(zip(y.shape, z.shape, strict=True)) if len({*sizes}) > 1
        ]
        if len(differ) < 2:
            if not differ and self.axis % 2:
                return self.join(y, z)
            axis = differ[0] if differ else 1 + self.axis % (y.dim() - 1)
            return torch.cat((y, z), axis)
        fits = all(1 in (y.shape[axis], z.shape[axis]) for axis in differ)
        return self.join(y, z) if fits else y


def branches(rng: Random, shape: tuple[int, ...]) -> Any:
    first, second = (rng.choice(SIMPLE)(rng, shape) for _ in range(2))
    if first is None or second is None:
        return None
    joins: list[Callable[..., Tensor]] = [
        torch.add, torch.sub, torch.mul, torch.maximum,
        lambda y, z: torch.where(y < z, y, z * 0.5),
        lambda y, z: y * z.sigmoid(),
        lambda y, z: y / (z.abs() + 1),
    ]  # fmt: skip
    return Branches(first, second, rng.randrange(6), rng.choice(joins))


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
    weight = torch.randn(shape[-1], 3) / shape[-1]
    functions: list[Step] = [
        lambda x: F.scaled_dot_product_attention(x, x, x),
        lambda x: (x @ x.transpose(-1, -2)) / shape[-1],
        lambda x: x.transpose(-1, -2) @ x / shape[-2],
        lambda x: torch.einsum("...ij,jk->...ki", x, weight),
        lambda x: F.layer_norm(x @ weight, (3,)),
    ]
    return _Function(rng.choice(functions))


def places(rng: Random, shape: tuple[int, ...]) -> Any:
    """Reads and writes at computed places, on values that are far enough apart to have an order.

    A chain of steps may make values equal, which have either order: so a ramp is added.
    """
    rank, axis = len(shape), rng.randrange(len(shape)) + 1
    size = shape[axis - 1]
    count, other = rng.randint(1, size), rng.randrange(rank) + 1
    ramp = torch.rand(size, generator=torch.Generator().manual_seed(rng.randrange(99)))
    ramp = (ramp * 4).reshape([size if n == axis else 1 for n in range(1, rank + 1)])
    keys: Step = lambda x: (x.mean(other, keepdim=True).tanh() * 1e-3 + ramp) * 8  # noqa: E731
    steps: list[Step] = [
        lambda x: x.gather(axis, keys(x).topk(count, axis)[1].expand(_cut(x, axis, count))),
        lambda x: x.take_along_dim(keys(x).argsort(axis), axis),
        lambda x: x.index_select(
            axis, keys(x).amax([n for n in range(rank + 1) if n != axis]).argsort()
        ),
        lambda x: x.scatter(axis, keys(x).topk(count, axis)[1].expand(_cut(x, axis, count)), 0.5),
        lambda x: x.scatter_add(
            axis, keys(x).topk(count, axis)[1].expand(_cut(x, axis, count)), x * 0.5
        ),
        lambda x: keys(x).median(axis, keepdim=True)[0] * x,
        lambda x: x.cummax(axis)[0],
        lambda x: torch.atan2(x, x.abs() + 1) + x.quantile(0.3, axis, keepdim=True),
    ]
    return _Function(rng.choice(steps))


def _cut(x: Tensor, axis: int, count: int) -> list[int]:
    """Return the shape of a value with ``count`` elements along an axis."""
    return [count if n == axis else size for n, size in enumerate(x.shape)]


SIMPLE = (
    *(convolution, convolution, convolution_1d, layer, pool, transposed, resize),
    *(move, rearrange, elementwise, elementwise, reduction, attention, places),
)
KINDS = (*SIMPLE, branches, branches)


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
