"""Finds the layers that lose accuracy in int8, and those to leave in float32.

A layer is judged by the noise that it adds: the signal-to-quantisation-noise ratio of its output
against that of its inputs, in the same int8 file. One file shows all layers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from torch import nn

from hwnas.architecture.artifact import Format
from hwnas.export.graph.interface import InputShapes, Interface
from hwnas.export.graph.nodes import (
    Activation,
    Arithmetic,
    Conv,
    ConvTranspose,
    Graph,
    LayerNorm,
    Linear,
    MatMul,
    Node,
    Pool,
    Prelu,
    Reduce,
    Select,
)
from hwnas.export.graph.trace import as_interface, trace
from hwnas.export.quantization.int8_agreement import compare_int8
from hwnas.export.quantization.ptq import (
    Int8,
    file_values,
    int8_quantization,
    value_ranges,
    write_int8,
)
from hwnas.export.quantization.ranges import Ranges
from hwnas.export.recipe import find_recipe
from hwnas.export.verification.images import Verification
from hwnas.export.verification.metrics import MAX_DB, Array, power_ratio_db
from hwnas.export.verification.rounding import TooMuchLoss, exceeded_limit
from hwnas.export.write import write_graph

RANKING_IMAGES = 16
"""Number of images that the noise of layers is measured on: enough to rank them."""

MAX_SHARE = 0.5
"""Largest share of the layers that is tried in float32: beyond it the file is hardly int8."""

CALCULATING = (
    Conv,
    ConvTranspose,
    Linear,
    MatMul,
    LayerNorm,
    Arithmetic,
    Activation,
    Prelu,
    Pool,
    Reduce,
    Select,
)
"""Nodes that compute new values, and may round them."""


class LayerNoise(NamedTuple):
    """The noise that a layer adds in int8."""

    layer: str
    lost_db: float
    """Decrease of the signal-to-noise ratio from its noisiest input to its output."""


class FloatModel(NamedTuple):
    """A float32 network, and how it is quantised."""

    module: nn.Module
    inputs: InputShapes | Interface
    """Shapes without the batch, or how the network is called."""
    format: Format
    int8: Int8


def select_float_layers(
    model: FloatModel, verification: Verification, max_drop: float | None = None
) -> tuple[str, ...]:
    """Return few layers, in order, that must stay in float32 for the file to pass its limits.

    ``max_drop`` replaces the largest loss of accuracy on ``verification``. The noisiest layers are
    tried, 1, 2, 4, ..., without and with the layers that compute their inputs. All layers with
    weights are returned if not even half of all are enough.
    """
    graph = trace(model.module, model.inputs)
    layers = sufficient_float_layers(model, graph, verification, max_drop)
    return layers or tuple(node.name for node in graph.nodes if isinstance(node, Conv | Linear))


def sufficient_float_layers(
    model: FloatModel, graph: Graph, verification: Verification, max_drop: float | None = None
) -> tuple[str, ...]:
    """Return the same as `select_float_layers` for a traced ``graph``, or none if not enough."""
    quantization = model.int8.quantization or int8_quantization(model.format)
    if max_drop is not None:
        quantization = msgspec.structs.replace(quantization, max_drop=max_drop)
    interface = as_interface(model.module, model.inputs)
    order = {node.name: number for number, node in enumerate(graph.nodes)}
    with _calibrated(model, graph) as (source, ranges):
        target = source.with_name(f"int8.{model.format}")

        def passes(layers: tuple[str, ...]) -> bool:
            write_int8(source, target, model.int8._replace(float_layers=layers), ranges)
            result = compare_int8(target, model.module, verification, interface)
            return exceeded_limit(result, quantization) is None

        write_int8(source, target, model.int8, ranges)
        few = [array[:RANKING_IMAGES] for array in verification.inputs]
        noise = value_noise_db(source, target, few)
        ranked = [layer for layer, _ in layer_noise(graph, noise)]
        count = 1
        while count <= max(1, len(ranked) * MAX_SHARE):
            noisiest = ranked[:count]
            with_inputs = {*noisiest, *chain(*(_inputs(graph, layer) for layer in noisiest))}
            for layers in dict.fromkeys((tuple(noisiest), tuple(with_inputs))):
                layers = tuple(sorted(layers, key=order.__getitem__))
                if passes(layers):
                    return layers
            count *= 2
    return ()


@contextmanager
def naming_float_layers(
    model: FloatModel, graph: Graph, verification: Verification
) -> Iterator[None]:
    """Add to a `TooMuchLoss` the layers to leave in float32, and the option that does it."""
    try:
        yield
    except TooMuchLoss as error:
        layers = sufficient_float_layers(model, graph, verification)
        if not layers:
            raise TooMuchLoss(
                f"{error}; leaving the noisiest half of the layers in float32 is not enough"
            ) from error
        raise TooMuchLoss(
            f"{error}; with {', '.join(layers)} in float32 it passes: --float-layers "
            f"{','.join(layers)}",
            layers,
        ) from error


def layer_noise(graph: Graph, noise_db: Mapping[str, float]) -> list[LayerNoise]:
    """Return the noise that each layer adds, the largest first.

    ``noise_db`` is the signal-to-noise ratio of each value of an int8 file; see `value_noise_db`.
    """
    result: list[LayerNoise] = []
    for node in graph.nodes:
        if isinstance(node, CALCULATING) and node.name in noise_db:
            before = min((noise_db.get(name, MAX_DB) for name in node.inputs), default=MAX_DB)
            result.append(LayerNoise(node.name, before - noise_db[node.name]))
    return sorted(result, key=lambda each: -each.lost_db)


def value_noise_db(source: Path, target: Path, inputs: Sequence[Array]) -> dict[str, float]:
    """Return the signal-to-noise ratio of the values of an int8 file, against its float32 file.

    ``inputs`` have N samples each. The keys are the names that both files have, in order.
    """
    signal: dict[str, float] = {}
    noise: dict[str, float] = {}
    for floats, ints in zip(file_values(source, inputs), file_values(target, inputs), strict=True):
        for name, expected in floats.items():
            content = ints.get(name)
            if content is not None and content.shape == expected.shape:
                difference = np.square(content - expected, dtype=np.float64).sum()
                noise[name] = noise.get(name, 0.0) + float(difference)
                power = np.square(expected, dtype=np.float64).sum()
                signal[name] = signal.get(name, 0.0) + float(power)
    return {name: power_ratio_db(signal[name], noise[name]) for name in signal}


def accuracy_drop(
    model: FloatModel, verification: Verification, float_layers: tuple[str, ...] = ()
) -> float:
    """Return the accuracy on ``verification`` that the int8 file loses against PyTorch."""
    with _calibrated(model, trace(model.module, model.inputs)) as (source, ranges):
        target = source.with_name(f"int8.{model.format}")
        write_int8(source, target, model.int8._replace(float_layers=float_layers), ranges)
        parity = compare_int8(target, model.module, verification)
    assert parity.accuracy_torch is not None and parity.accuracy_artifact is not None
    return parity.accuracy_torch - parity.accuracy_artifact


def _inputs(graph: Graph, layer: str) -> Iterator[str]:
    """Yield the layers that compute the inputs of ``layer``, past those that only move values."""
    nodes: dict[str, Node] = {node.name: node for node in graph.nodes}
    waiting = list(nodes[layer].inputs)
    while waiting:
        node = nodes.get(waiting.pop())
        if isinstance(node, CALCULATING):
            yield node.name
        elif node is not None:
            waiting.extend(node.inputs)


@contextmanager
def _calibrated(model: FloatModel, graph: Graph) -> Iterator[tuple[Path, Ranges]]:
    """Write the float32 file and yield its path with the ranges of its values."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"float.{model.format}"
        write_graph(graph, find_recipe(model.format), path, {})
        yield path, value_ranges(path, model.int8)
