"""Transposes that are left in TFLite files of attention networks, and what they compute."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hwnas.export.compile import compile_model
from hwnas.export.graph.nodes import (
    Activation,
    Arithmetic,
    Constant,
    MatMul,
    Node,
    Reshape,
    Slice,
    TensorSpec,
    Transpose,
)
from hwnas.export.graph.trace import trace
from hwnas.export.layout.arrange import Arranged
from hwnas.export.layout.hoist import hoisted
from hwnas.export.layout.merge import merged
from hwnas.export.layout.rules import NHWC, arrange
from hwnas.export.tflite.emitter import tidied
from hwnas.export.verification.run_model import file_outputs
from tests.export.test_parity import FLOAT32_ERROR, Function, error_of

Values = dict[str, Any]


def computed(graph: Arranged, image: np.ndarray) -> list[np.ndarray]:
    """Return the outputs of a graph of moves and functions of each element, by NumPy."""
    values: Values = {graph.inputs[0].name: image}
    for node in graph.nodes:
        values[node.name] = _value(node, [values[name] for name in node.inputs])
        assert values[node.name].shape == node.shape, node.name
    return [values[spec.name] for spec in graph.outputs]


def _value(node: Node, operands: Sequence[Any]) -> Any:
    match node:
        case Constant():
            return node.value
        case Reshape():
            return operands[0].reshape(node.shape)
        case Transpose():
            return operands[0].transpose(node.order)
        case Slice():
            axes = zip(node.begin, node.shape, node.step, strict=True)
            return operands[0][tuple(slice(a, a + n * step, step) for a, n, step in axes)]
        case Activation(op="neg"):
            return -operands[0]
        case Arithmetic(op="mul"):
            return operands[0] * operands[1]
        case _:
            raise NotImplementedError(node)


class Chain:
    """A graph under construction, each step from the value before."""

    def __init__(self, shape: Sequence[int]) -> None:
        self.nodes: list[Node] = []
        self.spec = TensorSpec("x", tuple(shape))
        self.shapes = {"x": self.spec.shape}

    def add(self, kind: type[Node], operand: str, shape: Sequence[int], **fields: Any) -> str:
        name = f"n{len(self.nodes)}"
        inputs = fields.pop("inputs", (operand,) if operand else ())
        self.nodes.append(kind(name=name, inputs=inputs, shape=tuple(shape), **fields))
        self.shapes[name] = tuple(shape)
        return name

    def transpose(self, value: str, order: Sequence[int]) -> str:
        shape = [self.shapes[value][axis] for axis in order]
        return self.add(Transpose, value, shape, order=tuple(order))

    def slice(self, value: str, axis: int, begin: int, size: int) -> str:
        shape, begins = list(self.shapes[value]), [0] * len(self.shapes[value])
        shape[axis], begins[axis] = size, begin
        return self.add(Slice, value, shape, begin=tuple(begins), step=(1,) * len(shape))

    def scaled(self, value: str, factor: float) -> str:
        shape = self.shapes[value]
        ones = np.full((1,) * len(shape), factor, np.float32)
        constant = self.add(Constant, "", ones.shape, value=ones)
        return self.add(Arithmetic, value, shape, op="mul", inputs=(value, constant))

    def graph(self, *outputs: str) -> Arranged:
        specs = tuple(TensorSpec(name, self.shapes[name]) for name in outputs)
        return Arranged((self.spec,), tuple(self.nodes), specs)

    def image(self) -> np.ndarray:
        return np.random.default_rng(0).normal(size=self.spec.shape).astype(np.float32)


def same(before: Arranged, after: Arranged, image: np.ndarray) -> bool:
    pairs = zip(computed(before, image), computed(after, image), strict=True)
    return all(np.array_equal(first, second) for first, second in pairs)


SHAPES = ((4, 6, 6), (2, 2, 36), (144,), (4, 36), (12, 2, 6), (4, 2, 3, 6), (2, 2, 6, 2, 3))


@pytest.mark.parametrize("seed", range(40))
def test_chains_of_moves_give_the_same_elements_with_fewer_transposes(seed: int) -> None:
    rng, chain = Random(seed), Chain((1, 4, 6, 6))
    value, read = "x", []
    for _ in range(8):
        if rng.random() < 0.5:
            value = chain.add(Reshape, value, (1, *rng.choice(SHAPES)))
        else:
            order = list(range(len(chain.shapes[value])))
            rng.shuffle(order)
            value = chain.transpose(value, order)
        if rng.random() < 0.2:
            read.append(value)
    before = chain.graph(*dict.fromkeys([*read, value]))
    after = merged(before)
    assert same(before, after, chain.image())
    assert after.transposes <= before.transposes


def test_moves_that_cancel_are_none_and_others_are_one() -> None:
    chain = Chain((1, 4, 6, 6))
    tokens = chain.transpose(chain.add(Reshape, "x", (4, 36)), (1, 0))
    back = chain.transpose(chain.add(Reshape, tokens, (1, 6, 6, 4)), (0, 3, 1, 2))
    windows = chain.add(Reshape, back, (4, 2, 3, 2, 3))
    moved = chain.transpose(chain.transpose(windows, (1, 3, 0, 2, 4)), (0, 1, 3, 4, 2))
    assert merged(chain.graph(back)).transposes == 0
    once = merged(chain.graph(moved))
    assert once.transposes == 1 and same(chain.graph(moved), once, chain.image())


def test_a_move_that_something_else_reads_stays() -> None:
    chain = Chain((2, 3, 4))
    first = chain.transpose("x", (1, 0, 2))
    before = chain.graph(
        first, chain.transpose(chain.add(Activation, first, (3, 2, 4), op="neg"), (2, 1, 0))
    )
    after = merged(before)
    assert after.transposes == 2 and same(before, after, chain.image())


def heads(chain: Chain, value: str, order: Sequence[int], scale: float | None = None) -> str:
    """Return a piece in heads of two channels, scaled, under another order."""
    shape = chain.shapes[value]
    split = chain.add(Reshape, value, (*shape[:-1], shape[-1] // 2, 2))
    return chain.transpose(split if scale is None else chain.scaled(split, scale), order)


def test_pieces_that_are_moved_alike_are_moved_at_once() -> None:
    chain = Chain((1, 5, 18))
    query = heads(chain, chain.slice("x", 2, 0, 6), (0, 2, 1, 3), scale=0.25)
    key, value = (heads(chain, chain.slice("x", 2, n, 6), (0, 2, 1, 3)) for n in (6, 12))
    before = chain.graph(query, key, value)
    after = hoisted(before)
    assert (before.transposes, after.transposes) == (3, 1)
    assert same(before, after, chain.image())


def test_pieces_under_an_axis_of_their_own_are_moved_at_once() -> None:
    chain = Chain((2, 5, 3, 3, 2))
    pieces = []
    for place in range(3):
        cut = chain.add(Reshape, chain.slice("x", 2, place, 1), (2, 5, 3, 2))
        pieces.append(
            chain.transpose(chain.add(Activation, cut, (2, 5, 3, 2), op="neg"), (0, 2, 1, 3))
        )
    before = chain.graph(*pieces)
    after = hoisted(before)
    assert after.transposes == 1 and same(before, after, chain.image())


def test_pieces_of_several_sizes_are_moved_at_once() -> None:
    chain = Chain((5, 2, 9))
    pieces = [
        chain.transpose(chain.slice("x", 2, a, n), (1, 0, 2)) for a, n in ((0, 2), (2, 3), (5, 4))
    ]
    before = chain.graph(*pieces)
    after = hoisted(before)
    assert after.transposes == 1 and same(before, after, chain.image())


def test_pieces_stay_where_more_data_would_move_or_orders_differ() -> None:
    chain = Chain((5, 2, 9))
    few = [chain.transpose(chain.slice("x", 2, n, 1), (1, 0, 2)) for n in (0, 1)]
    assert hoisted(chain.graph(*few)).transposes == 2
    orders = [(1, 0, 2), (2, 0, 1)]
    other = [chain.transpose(chain.slice("x", 2, 0, 9), order) for order in orders]
    assert hoisted(chain.graph(*other)).transposes == 2


def transposes(module: nn.Module, shape: Sequence[int]) -> int:
    return tidied(arrange(trace(module.eval(), tuple(shape)), NHWC)).transposes


class SeparableAttention(nn.Module):
    """Patches, norms over all but the batch, and layers on the channels (MobileViT v2)."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.query = nn.GroupNorm(1, 4), nn.Conv2d(4, 1, 1)
        self.layers = nn.Sequential(nn.GroupNorm(1, 4), nn.Conv2d(4, 8, 1), nn.SiLU())
        self.layers.append(nn.Conv2d(8, 4, 1))

    def forward(self, x: Tensor) -> Tensor:
        patches = x.reshape(1, 4, 3, 2, 3, 2).permute(0, 1, 3, 5, 2, 4).reshape(1, 4, 4, 9)
        patches = patches + self.query(self.norm(patches)).softmax(-1)
        patches = patches + self.layers(patches)
        return patches.reshape(1, 4, 2, 2, 3, 3).permute(0, 1, 4, 2, 5, 3).reshape(1, 4, 6, 6)


class Patches(nn.Module):
    """Patches of a map as batches of tokens with their channels last, and back (MobileViT)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1)
        self.norm, self.layer = nn.LayerNorm(4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).reshape(12, 2, 3, 2).transpose(1, 2).reshape(1, 4, 9, 4)
        tokens = x.transpose(1, 3).reshape(4, 9, 4)
        for _ in range(2):
            tokens = tokens + self.layer(self.norm(tokens))
        x = tokens.reshape(1, 4, 9, 4).transpose(1, 3).reshape(12, 3, 2, 2).transpose(1, 2)
        return self.head(x.reshape(1, 4, 6, 6))


class Attention(nn.Module):
    """Attention of two heads over the pixels of a map, whose values stay a map."""

    def __init__(self, own_scale: bool = False) -> None:
        super().__init__()
        self.stem, self.all = nn.Conv2d(4, 4, 1), nn.Linear(4, 12)
        self.own_scale = own_scale

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.stem(x).flatten(2).transpose(1, 2)
        pieces = self.all(tokens).reshape(1, 36, 3, 2, 2).permute(2, 0, 3, 1, 4)
        query, key, value = pieces.unbind(0)
        query = query * 0.5 if self.own_scale else query
        mixed = (query @ key.transpose(-2, -1)).softmax(-1) @ value
        return mixed.transpose(1, 2).reshape(1, 36, 4)


class MapAttention(nn.Module):
    """Attention whose matrices are maps with their pixels last, as EfficientViT writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.all, self.last = nn.Conv2d(4, 12, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (piece.flatten(2) for piece in self.all(x).chunk(3, 1))
        weights = (query.transpose(1, 2) @ key).softmax(-1)
        return self.last((value @ weights.transpose(1, 2)).reshape(1, 4, 6, 6))


COUNTS = [
    (SeparableAttention(), 2),
    (Patches(), 2),
    (Attention(), 2),
    (Attention(own_scale=True), 2),
    (MapAttention(), 0),
]
"""Networks of maps [4, 6, 6] and the transposes that their TFLite file has."""


@pytest.mark.parametrize(("module", "count"), COUNTS)
def test_attention_networks_move_what_they_have_to(
    module: nn.Module, count: int, tmp_path: Path
) -> None:
    assert transposes(module, (4, 6, 6)) == count
    image = np.random.default_rng(0).normal(size=(1, 4, 6, 6)).astype(np.float32)
    artifact = compile_model(module, (4, 6, 6), tmp_path / "net.tflite")
    with torch.no_grad():
        expected = module(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(file_outputs(Path(artifact.path), image), expected, atol=1e-5)


def test_a_residual_sum_is_stored_as_the_layers_behind_it_read_it() -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.LayerNorm(36), nn.Linear(36, 36))

        def forward(self, x: Tensor) -> Tensor:
            rows = x.flatten(2)
            for _ in range(3):
                rows = rows + self.layers(rows)
            return rows

    assert transposes(Sum(), (4, 6, 6)) == 1


def test_the_second_factor_is_read_by_rows_and_the_first_as_it_is() -> None:
    def product(x: Tensor) -> Tensor:
        heads = x.reshape(1, 6, 4, 6).transpose(1, 2)
        return heads @ (heads * 2).transpose(-1, -2)

    nodes = tidied(arrange(trace(Function(product), (6, 24)), NHWC)).nodes
    [matmul] = [node for node in nodes if isinstance(node, MatMul)]
    assert matmul.swapped == (False, True)


def test_a_graph_without_transposes_stays_as_it_is() -> None:
    module = nn.Sequential(nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    before = arrange(trace(module.eval(), (4, 6, 6)), NHWC)
    names = [node.name for node in before.nodes]
    assert [node.name for node in tidied(before).nodes] == names


def test_linear_layers_on_the_last_axis_of_a_map_follow_each_other(tmp_path: Path) -> None:
    """The second is a 1x1 convolution of a map that is not stored in TFLite's own order."""
    module = nn.Sequential(nn.Linear(10, 5), nn.Linear(5, 3))
    assert error_of(module, (4, 7, 10), "tflite", tmp_path) < FLOAT32_ERROR
