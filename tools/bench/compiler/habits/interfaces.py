"""How networks are called and wrapped: inputs, outputs, hooks, scripts, types, containers."""

# People's code states no types of its buffers.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tools.bench.compiler.habits.registry import Networks

CASES = Networks()
IMAGE = (3, 16, 16)


def small() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, 1, 1, groups=8),
        nn.Hardswish(),
        nn.Conv2d(8, 12, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(12, 5),
    )


@dataclass
class Output:
    logits: Tensor
    features: Tensor | None = None
    extra: tuple[Tensor, ...] = ()


@CASES.add("dataclass with an empty field", IMAGE)
class ReturnsDataclass(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = small()

    def forward(self, x: Tensor, return_features: bool = False) -> Output:
        features = self.net[:6](x)
        return Output(
            self.net[6:](features), features if return_features else None, (features.mean(1),)
        )


@CASES.add("ordered dict of lists", IMAGE)
class ReturnsNested(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = small()

    def forward(self, x: Tensor) -> OrderedDict[str, Any]:
        a, b = self.net[:3](x), self.net[:6](x)
        return OrderedDict(
            [("maps", [a, b]), ("deep", {"pooled": (a.mean((2, 3)), b.amax((2, 3)))})]
        )


class State(NamedTuple):
    hidden: Tensor
    step: Tensor


@CASES.add("optional input that is given", {"image": IMAGE, "scale": (1,)})
class OptionalInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = small()

    def forward(
        self, image: Tensor, mask: Tensor | None = None, scale: Tensor | None = None
    ) -> Tensor:
        x = image if mask is None else image * mask
        return self.net(x) if scale is None else self.net(x) * scale


@CASES.add("keyword-only arguments", {"left": (8,), "right": (8,)})
class KeywordOnly(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Bilinear(8, 8, 3)

    def forward(self, *, left: Tensor, right: Tensor) -> dict[str, Tensor]:
        return {"score": self.fc(left, right), "distance": (left - right).abs().sum(-1)}


@CASES.add("keywords collected", {"left": (8,), "right": (8,)})
class Collected(nn.Module):
    """``forward(**inputs)``, as wrappers of dictionaries have."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(16, 3)

    def forward(self, **inputs: Tensor) -> Tensor:
        return self.fc(torch.cat([inputs["left"], inputs["right"]], -1))


@CASES.add("list of frames", [IMAGE, IMAGE])
class ListInput(nn.Module):
    """Takes any number of images, ``forward(*images)``."""

    def __init__(self) -> None:
        super().__init__()
        self.net = small()

    def forward(self, *images: Tensor) -> Tensor:
        return torch.stack([self.net(image) for image in images]).mean(0)


@CASES.add("state passed as a named tuple out", {"x": (6,), "hidden": (6,), "step": (1,)})
class Stateful(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.GRUCell(6, 6)

    def forward(self, x: Tensor, hidden: Tensor, step: Tensor) -> tuple[Tensor, State]:
        hidden = self.cell(x, hidden)
        return hidden.tanh(), State(hidden, step + 1)


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


@CASES.add("lambdas and partials in a sequential", IMAGE)
def lambdas() -> nn.Module:
    class Lambda(nn.Module):
        def __init__(self, compute: Any) -> None:
            super().__init__()
            self.compute = compute

        def forward(self, *args: Any) -> Any:
            return self.compute(*args)

    return nn.Sequential(
        Lambda(lambda x: x * 2 - 1),
        nn.Conv2d(3, 6, 3),
        Lambda(partial(F.max_pool2d, kernel_size=2)),
        Lambda(torch.relu),
        Lambda(lambda x: x.view(x.size(0), -1)),
        nn.Linear(6 * 49, 4),
    )


@torch.jit.script
def fused_gelu(x: Tensor, bias: Tensor) -> Tensor:
    x = x + bias
    return x * 0.5 * (1.0 + torch.erf(x / 1.41421))


@CASES.add("scripted function and scripted block", IMAGE)
class PartlyScripted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = torch.jit.script(
            nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4).eval(), nn.ReLU())
        )
        self.bias, self.fc = nn.Parameter(torch.randn(4, 1, 1)), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(fused_gelu(self.block(x), self.bias).mean((-2, -1)))


@CASES.add("traced by torch.jit", IMAGE)
def traced() -> Any:
    return torch.jit.trace(small().eval(), torch.rand(1, *IMAGE))


@CASES.add("compiled by torch.compile", IMAGE)
def compiled() -> Any:
    return torch.compile(small())


@CASES.add("traced by torch.fx", IMAGE)
def fx_traced() -> nn.Module:
    return torch.fx.symbolic_trace(small())


@CASES.add("forward hooks that change values", IMAGE)
def hooked() -> nn.Module:
    network = small()
    network[0].register_forward_hook(lambda _, __, output: output * 0.5)
    network[5].register_forward_pre_hook(lambda _, inputs: (inputs[0].clamp(-1, 1),))
    return network


@CASES.add("hooks that keep features", IMAGE)
class Extractor(nn.Module):
    """Stores features of inner modules in a dict by hooks, and returns them."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.features = small(), {}
        for name, part in self.net.named_children():
            if name in ("2", "5"):
                part.register_forward_hook(partial(self.keep, name))

    def keep(self, name: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
        self.features[f"layer{name}"] = output

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        self.net(x)
        return self.features


@CASES.add("exponential moving average", IMAGE)
def averaged() -> nn.Module:
    network = torch.optim.swa_utils.AveragedModel(small())
    network.update_parameters(small())
    return network


@CASES.add("ensemble of copies", IMAGE)
class Ensemble(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.members = nn.ModuleList(copy.deepcopy(small()) for _ in range(3))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits = torch.stack([F.softmax(member(x), -1) for member in self.members], dim=0)
        return logits.mean(0), logits.std(0)


@CASES.add("ensemble by functional_call and vmap", IMAGE)
class Vmapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 196, 3)
        )
        members = [copy.deepcopy(self.base) for _ in range(2)]
        self.stacked, _ = torch.func.stack_module_state(members)

    def forward(self, x: Tensor) -> Tensor:
        return torch.func.vmap(lambda p: torch.func.functional_call(self.base, p, (x,)))(
            self.stacked
        ).mean(0)


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


@CASES.add("checkpointed blocks", IMAGE)
class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = small()

    def forward(self, x: Tensor) -> Tensor:
        for block in self.net:
            x = checkpoint(block, x, use_reentrant=False)
        return x


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


@CASES.add("key-value cache in a list", {"x": (4,), "cache": (5, 4)})
class Cached(nn.Module):
    """A streaming step: the cache is an input and its shifted form an output."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        cache = torch.cat((cache, self.k(x).unsqueeze(1)), 1)[:, 1:]
        weights = torch.softmax((cache @ self.q(x).unsqueeze(-1)).squeeze(-1), -1)
        return torch.einsum("bt,btc->bc", weights, cache), cache


@CASES.add("quantisation stubs", IMAGE)
def stubs() -> nn.Module:
    return torch.ao.quantization.QuantWrapper(small())


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


@CASES.add("data parallel inside a wrapper", IMAGE)
class Wrapped(nn.Module):
    """As checkpoints of several GPUs are loaded: a module in a module in DataParallel."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.DataParallel(small())

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


@CASES.add("channels last and contiguous calls", IMAGE)
class ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = small().to(memory_format=torch.channels_last)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.contiguous(memory_format=torch.channels_last)).contiguous()


@CASES.add("images of bytes", "16x16x3:uint8")
class Bytes(nn.Module):
    """Takes HWC pixels as bytes, as a camera gives them."""

    def __init__(self) -> None:
        super().__init__()
        self.net = small()

    def forward(self, frame: Tensor) -> Tensor:
        x = frame.permute(0, 3, 1, 2).float() / 255.0
        x = x[:, [2, 1, 0]]
        mean, std = x.new_tensor([0.485, 0.456, 0.406]), x.new_tensor([0.229, 0.224, 0.225])
        return self.net((x - mean[:, None, None]) / std[:, None, None])


@CASES.add("test-time augmentation", IMAGE)
class Augmented(nn.Module):
    """The image and its mirror in one batch."""

    def __init__(self) -> None:
        super().__init__()
        self.net = small()

    def forward(self, x: Tensor) -> Tensor:
        both = self.net(torch.cat([x, torch.flip(x, dims=[3])], dim=0))
        a, b = both.split(x.shape[0])
        return (a.softmax(-1) + b.softmax(-1)) / 2


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
