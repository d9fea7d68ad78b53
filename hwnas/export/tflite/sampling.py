"""Replaces sampling at computed points by reads of pixels, as TFLite has no operator for it.

Each value is a weighted sum of the pixels around its point: of one for ``nearest``, of 2x2 for
``bilinear``, of 4x4 for ``bicubic``.
"""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor, nn

from hwnas.export.graph.interface import Interface, ModuleInput
from hwnas.export.graph.nodes import OUTPUT, Graph, GridSample, Node
from hwnas.export.graph.trace import trace

CUBIC = -0.75
"""The parameter of PyTorch's cubic convolution."""


def without_sampling(graph: Graph) -> Graph:
    """Return a graph that computes the same without `GridSample`."""
    if not any(isinstance(node, GridSample) for node in graph.nodes):
        return graph
    shapes = {each.name: each.shape for each in (*graph.inputs, *graph.nodes)}
    nodes: list[Node] = []
    for node in graph.nodes:
        if isinstance(node, GridSample):
            nodes += _reads(node, *(shapes[name] for name in node.inputs))
        else:
            nodes.append(node)
    return msgspec.structs.replace(graph, nodes=tuple(nodes))


def _reads(node: GridSample, images: tuple[int, ...], points: tuple[int, ...]) -> list[Node]:
    """Return the nodes that compute ``node``, under names that begin with its own."""
    inputs = ModuleInput("images", images), ModuleInput("points", points)
    inner = trace(Sampling(node), Interface(inputs), shares_weights=True)
    names = {"images": node.inputs[0], "points": node.inputs[1], OUTPUT: node.name}
    names.update(
        (each.name, f"{node.name}.{each.name}") for each in inner.nodes if each.name != OUTPUT
    )
    return [
        msgspec.structs.replace(
            each, name=names[each.name], inputs=tuple(names[name] for name in each.inputs)
        )
        for each in inner.nodes
    ]


class Sampling(nn.Module):
    """`torch.nn.functional.grid_sample` of ``[N, C, H, W]`` at points ``[N, h, w, 2]``."""

    def __init__(self, settings: GridSample) -> None:
        super().__init__()
        self.settings = settings

    def forward(self, images: Tensor, points: Tensor) -> Tensor:
        batch, channels, height, width = images.shape
        rows = images.flatten(2).transpose(1, 2)
        across = self._taps(points[..., 0].flatten(1), width)
        down = self._taps(points[..., 1].flatten(1), height)
        total: Tensor | None = None
        for y, row_weight in down:
            for x, column_weight in across:
                places = (y * width + x).long()
                pixels = rows[torch.arange(batch)[:, None], places]
                part = pixels * (row_weight * column_weight).unsqueeze(-1)
                total = part if total is None else total + part
        assert total is not None
        return total.transpose(1, 2).reshape(batch, channels, *points.shape[1:3])

    def _taps(self, points: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
        """Return the pixels of an axis that each point reads, and their weights, ``[N, K]``."""
        aligned, mode = self.settings.align_corners, self.settings.mode
        place = (points + 1) / 2 * (size - 1) if aligned else ((points + 1) * size - 1) / 2
        if mode != "bicubic":  # there each pixel is moved inside on its own
            place = self._inside(place, size)
        first = torch.round(place) if mode == "nearest" else torch.floor(place)
        rest = place - first
        if mode == "nearest":
            taps = [(first, torch.ones_like(rest))]
        elif mode == "bilinear":
            taps = [(first, 1 - rest), (first + 1, rest)]
        else:
            weights = _outer(rest + 1), _inner(rest), _inner(1 - rest), _outer(2 - rest)
            taps = [(self._inside(first + n - 1, size), w) for n, w in enumerate(weights)]
        return [
            (pixel.clamp(0, size - 1), weight * ((pixel >= 0) & (pixel <= size - 1)))
            for pixel, weight in taps
        ]

    def _inside(self, place: Tensor, size: int) -> Tensor:
        """Move points that are outside of the map as the padding states."""
        if self.settings.padding == "zeros":
            return place
        if self.settings.padding == "reflection":
            low, span = (0.0, size - 1.0) if self.settings.align_corners else (-0.5, float(size))
            if span == 0:
                return torch.zeros_like(place)
            away = (place - low).abs()
            turns = torch.floor(away / span)
            rest = away - turns * span
            odd = turns - 2 * torch.floor(turns / 2)
            place = low + rest + odd * (span - 2 * rest)
        return place.clamp(0, size - 1)


def _inner(x: Tensor) -> Tensor:
    """Return the weight of a pixel at most one away."""
    return ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1


def _outer(x: Tensor) -> Tensor:
    """Return the weight of a pixel from one to two away."""
    return ((CUBIC * x - 5 * CUBIC) * x + 8 * CUBIC) * x - 4 * CUBIC
