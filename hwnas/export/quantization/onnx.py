"""Static quantisation of an ONNX file to int8 in QDQ form, by ONNX Runtime's quantiser.

In QDQ form a layer is a float operator between quantisation and dequantisation; the runtime
replaces them by integer kernels.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from hwnas.devices.worker.runtimes.onnxruntime_cpu import onnx_options
from hwnas.errors import ExportError, first_line
from hwnas.export.quantization.float_rules import Operator, float_operators, kind_of
from hwnas.export.quantization.ranges import INFINITE, Ranges, given_dtype
from hwnas.export.recipe import Quantization
from hwnas.export.verification.metrics import Array

SHAPES_INFERRED = {"onnx.infer": "onnxruntime.quant"}
"""Metadata that states to the quantiser that the model has shapes."""

ROUNDED = "_DequantizeLinear_Output"
"""What the quantiser appends to the name of a value after rounding."""
UNROUNDED = "_QuantizeLinear_Input"
"""What it appends to the name of an output of the network before rounding."""

INT32, INT64 = 6, 7
"""The schema's ``TensorProto.INT32`` and ``INT64``."""

FUSED = ".before"
"""What the emitter appends to the name of a layer before its activation, which rounding replaces if
it cuts off the same values."""


def quantize_onnx(
    source: Path,
    target: Path,
    ranges: Ranges,
    quantization: Quantization,
    float_layers: tuple[str, ...],
) -> None:
    """Write the int8 file: activations uint8, weights int8 per channel, float32 in and out."""
    import onnx
    from onnxruntime import quantization as ort
    from onnxruntime.quantization.calibrate import TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    model = onnx.shape_inference.infer_shapes(onnx.load(str(source)))
    floats = float_operators(_operators(model), {each.name for each in model.graph.output}, ranges)
    _replace_infinite(model, ranges, floats)
    constants = {each.name: each for each in model.graph.initializer}
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, {**metadata, **SHAPES_INFERRED})
    data: dict[str, Any] = {
        name: TensorData(lowest=np.float32(low), highest=np.float32(high))
        for name, (low, high) in ranges.items()
    }
    quantiser = QDQQuantizer(
        model,
        True,  # weights per channel
        quantization.reduce_range,
        ort.QuantType.QInt8,
        ort.QuantType.QUInt8,
        TensorsData(ort.CalibrationMethod.MinMax, data),
        [],
        [
            *_unsupported(model),
            *floats,
            *(name for layer in float_layers for name in _node_names(layer)),
        ],
        list({*QLinearOpsRegistry, *QDQRegistry}),
        {},
    )
    try:
        with redirect_stdout(io.StringIO()), _without_warnings():
            quantiser.quantize_model()
        quantiser.model.topological_sort()
    except Exception as error:  # of the quantiser's own code
        raise ExportError(
            f"{target}: ONNX Runtime's quantiser failed: {first_line(error)}"
        ) from error
    model = quantiser.model.model
    _read_unrounded(model, floats, constants)
    for layer in float_layers:
        _keep_float(model, layer)
    onnx.helper.set_model_props(model, metadata)
    model.producer_name, model.producer_version = "hwnas", ""
    del model.graph.value_info[:]
    onnx.checker.check_model(model)
    target.write_bytes(model.SerializeToString(deterministic=True))


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Suppress the quantiser's log message for each vector with a single scale."""
    root = logging.getLogger()
    root.addFilter(_is_error)
    try:
        yield
    finally:
        root.removeFilter(_is_error)


def _is_error(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.ERROR


def _unsupported(model: Any) -> Iterator[str]:
    """Yield the nodes that the quantiser fails on: their bias has more channels than the weight."""
    for node in model.graph.node:
        groups = next((each.i for each in node.attribute if each.name == "group"), 1)
        if node.op_type == "ConvTranspose" and groups > 1:
            yield node.name


def _operators(model: Any) -> list[Operator]:
    """Return the operators of a model, whose nodes are called like their first outputs."""
    constants = {each.name for each in model.graph.initializer}
    result: list[Operator] = []
    for node in model.graph.node:
        inputs = tuple("" if name in constants else name for name in node.input)
        integers = node.op_type == "Cast" and node.attribute[0].i in (INT32, INT64)
        kind = kind_of(node.op_type, inputs, gives_integers=integers)
        result.append(Operator(kind, inputs, tuple(node.output)))
    return result


def _read_unrounded(model: Any, floats: Collection[str], constants: Mapping[str, Any]) -> None:
    """Let operators in ``floats`` read what others of them give before it is rounded.

    The quantiser rounds a value for all its readers if one of them computes with integers, and
    ``constants``, too.
    """
    graph = model.graph
    makers = {name: node for node in graph.node for name in node.output}
    exact = {name for name, node in makers.items() if node.name in floats}
    for output in graph.output:
        if f"{output.name}{UNROUNDED}" in exact:
            _rename(graph, output.name, f"{output.name}{ROUNDED}")
            _rename(graph, f"{output.name}{UNROUNDED}", output.name)
            exact.add(output.name)
    known, restored = {each.name for each in graph.initializer}, dict[str, Any]()
    for node in graph.node:
        for place, value in enumerate(node.input if node.name in floats else ()):
            before = value.removesuffix(ROUNDED)
            if before != value and (before in exact or before in constants):
                node.input[place] = before
                if before in constants and before not in known:
                    restored[before] = constants[before]
    graph.initializer.extend(restored.values())


def _rename(graph: Any, name: str, other: str) -> None:
    """Call a value ``other`` wherever an operator gives or reads it."""
    for node in graph.node:
        for names in (node.input, node.output):
            for place, each in enumerate(names):
                if each == name:
                    names[place] = other


def onnx_values(source: Path, inputs: Sequence[Array]) -> Iterator[dict[str, Array]]:
    """Run the file on every sample and yield the content of every float value, by its name.

    ``inputs`` have N samples each, in the order of the file's inputs. A value that an int8 file
    rounds is yielded as it is after rounding.
    """
    import onnx

    ort: Any = import_module("onnxruntime")
    model = onnx.load(str(source))
    known = {output.name for output in model.graph.output}
    names = [name for node in model.graph.node for name in node.output if name]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    options = onnx_options(ort, threads=1)
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    outputs = [output.name for output in session.get_outputs() if output.type == "tensor(float)"]
    stated = session.get_inputs()
    for place in range(len(inputs[0])):
        given = {
            spec.name: array[place].reshape(_single(spec.shape)).astype(given_dtype(array))
            for spec, array in zip(stated, inputs, strict=True)
        }
        contents = dict(zip(outputs, session.run(outputs, given), strict=True))
        rounded = {
            name.removesuffix(ROUNDED).removesuffix(FUSED): content
            for name, content in contents.items()
            if name.endswith(ROUNDED)
        }
        floats = {name: array for name, array in given.items() if array.dtype == np.float32}
        yield {**floats, **contents, **rounded}


def _single(shape: Sequence[Any]) -> list[int]:
    """Return the shape of an input with 1 for a free batch."""
    return [size if isinstance(size, int) else 1 for size in shape]


def _replace_infinite(model: Any, ranges: Ranges, floats: Collection[str]) -> None:
    """Replace constants that represent infinity by the end of the range of the value that they
    bound, but for the operators in ``floats``.

    Rounded to the levels of that range, both are the same.
    """
    from onnx.numpy_helper import from_array, to_array

    infinite = {
        array.name: to_array(array)
        for array in model.graph.initializer
        if array.data_type == array.FLOAT and np.abs(to_array(array)).max(initial=0.0) >= INFINITE
    }
    for node in model.graph.node if infinite else ():
        if node.name in floats:
            continue
        for place, name in enumerate(node.input):
            if name in infinite and node.output[0] in ranges:
                finite = infinite[name].clip(*ranges[node.output[0]]).astype(np.float32)
                node.input[place] = f"{node.name}.{name}"
                model.graph.initializer.append(from_array(finite, node.input[place]))
    used = {name for node in model.graph.node for name in node.input}
    for array in [a for a in model.graph.initializer if a.name in infinite and a.name not in used]:
        model.graph.initializer.remove(array)


def _node_names(layer: str) -> tuple[str, str]:
    """Return the names that the node of a layer may have, without or with a fused activation."""
    return layer, f"{layer}{FUSED}"


def _keep_float(model: Any, layer: str) -> None:
    """Insert a ``Sum`` of a single value between a dequantised input and the layer.

    When ONNX Runtime opens a file, it quantises the float weights of a convolution between
    dequantisation and quantisation (its ``WeightBiasQuantization``); the ``Sum`` prevents it.
    """
    from onnx import helper

    producers = {output: node for node in model.graph.node for output in node.output}
    for index, node in enumerate(model.graph.node):
        if node.name not in _node_names(layer) or node.op_type not in ("Conv", "Gemm"):
            continue
        source = producers.get(node.input[0])
        if source is not None and source.op_type == "DequantizeLinear":
            value = f"{layer}.float"
            between = helper.make_node("Sum", [node.input[0]], [value], name=value)
            node.input[0] = value
            model.graph.node.insert(index, between)
        return
