"""Networks that are wrapped: scripts, traces, hooks, copies, ensembles."""

# People's code states no types of its buffers.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false
# pyright: reportOperatorIssue=false

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tools.bench.compiler.habits.interfaces.image_network import IMAGE, small
from tools.bench.compiler.habits.registry import Networks

CASES = Networks()


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


@CASES.add("checkpointed blocks", IMAGE)
class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = small()

    def forward(self, x: Tensor) -> Tensor:
        for block in self.net:
            x = checkpoint(block, x, use_reentrant=False)
        return x


@CASES.add("quantisation stubs", IMAGE)
def stubs() -> nn.Module:
    return torch.ao.quantization.QuantWrapper(small())


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
