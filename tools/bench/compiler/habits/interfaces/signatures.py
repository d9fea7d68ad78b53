"""Inputs and outputs of networks: containers, keywords, states, bytes."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from tools.bench.compiler.habits.interfaces.image_network import IMAGE, small
from tools.bench.compiler.habits.registry import Networks

CASES = Networks()


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
