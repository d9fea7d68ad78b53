"""Static quantisation of a TFLite file to int8, by ``ai-edge-quantizer`` in a child process.

The ranges are measured here and passed to the quantiser: its own moving average would forget rare
large values.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hwnas.devices.worker.runtimes.litert import dequantised, quantised, silenced_stderr
from hwnas.errors import DeviceError, ExportError, InvalidFile
from hwnas.export.quantization.ai_edge import Job, Request
from hwnas.export.quantization.float_rules import Operator, float_operators, kind_of
from hwnas.export.quantization.ranges import INFINITE, Ranges, given_dtype
from hwnas.export.tflite.flatbuffer import repacked
from hwnas.export.verification.metrics import Array
from hwnas.processes import JsonWorker

TIMEOUT_S = 600.0

QUANTISER = JsonWorker("hwnas.export.quantization.ai_edge", "ai-edge-quantizer")


def quantize_tflite(
    source: Path, target: Path, ranges: Ranges, float_layers: tuple[str, ...]
) -> None:
    """Write the int8 file: activations int8, weights int8 per channel, int8 in and out.

    All inputs are float32 if the network reads places from one, all outputs if an operator that
    stays in float32 gives one. A crash of the quantiser, or of the runtime that opens its file, is
    an `ExportError`.
    """
    folder = target.parent.resolve()  # the child may have been started in another folder
    finite = folder / f".{target.stem}.finite{target.suffix}"
    written = folder / f".{target.stem}.int8{target.suffix}"
    try:
        data = source.read_bytes()
        floats = _float_operators(data, ranges)
        finite.write_bytes(with_finite_constants(data, ranges, floats))
        job = Job(str(written), float_layers, tuple(sorted(floats)))
        request = Request(str(finite), ranges, job)
        QUANTISER.call(request, bool, TIMEOUT_S)
        written.replace(target)
    except (DeviceError, InvalidFile) as error:
        reason = str(error)
        if written.exists():  # a crash names the child, any other error is LiteRT's own message
            reason = "LiteRT cannot run the int8 file: " + reason.removeprefix(QUANTISER.name)
        raise ExportError(f"{target}: {reason}") from None
    finally:
        finite.unlink(missing_ok=True)
        written.unlink(missing_ok=True)


def _float_operators(data: bytes, ranges: Ranges) -> set[str]:
    """Return the names of the operators of a file that stay in float32, and of such inputs."""
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.Model.GetRootAs(data, 0)
    graph = model.Subgraphs(0)
    titles = {number: title for title, number in vars(schema.BuiltinOperator).items()}
    tensors = [graph.Tensors(index) for index in range(graph.TensorsLength())]
    names = [tensor.Name().decode() for tensor in tensors]
    given = [
        "" if model.Buffers(each.Buffer()).DataLength() else names[n]
        for n, each in enumerate(tensors)
    ]
    integers = (schema.TensorType.INT32, schema.TensorType.INT64)
    operators: list[Operator] = []
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        inputs = tuple(given[each] if each >= 0 else "" for each in operator.InputsAsNumpy())
        results = operator.OutputsAsNumpy()
        title = titles[model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode()]
        whole = tensors[results[0]].Type() in integers
        kind = kind_of(title, inputs, gives_integers=whole)
        operators.append(Operator(kind, inputs, tuple(names[each] for each in results)))
    return float_operators(operators, {names[each] for each in graph.OutputsAsNumpy()}, ranges)


def tflite_values(source: Path, inputs: Sequence[Array]) -> Iterator[dict[str, Array]]:
    """Run the file on every sample and yield the content of every computed tensor, by its name.

    These are the float tensors, and the quantised tensors as real numbers. ``inputs`` have N
    samples each, in the order of the file's inputs; images are NCHW.
    """
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter

    model: Any = schema.Model.GetRootAs(source.read_bytes(), 0)
    graph = model.Subgraphs(0)
    constant = {
        index
        for index in range(graph.TensorsLength())
        if model.Buffers(graph.Tensors(index).Buffer()).DataLength()
    }
    with silenced_stderr(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that preserving all tensors is for debugging
        interpreter = Interpreter(
            model_path=str(source), num_threads=1, experimental_preserve_all_tensors=True
        )
        interpreter.allocate_tensors()
    computed = [
        tensor
        for tensor in interpreter.get_tensor_details()
        if tensor["index"] not in constant
        and tensor["index"] < graph.TensorsLength()
        and (tensor["dtype"] == np.float32 or tensor["quantization"][0])
    ]
    stated = interpreter.get_input_details()
    for place in range(len(inputs[0])):
        for spec, array in zip(stated, inputs, strict=True):
            stored = array[place].transpose(1, 2, 0) if array.ndim == 4 else array[place]
            value = stored.reshape(spec["shape"]).astype(given_dtype(array))
            interpreter.set_tensor(spec["index"], quantised(value, spec))
        interpreter.invoke()
        yield {
            tensor["name"]: dequantised(interpreter.get_tensor(tensor["index"]), tensor)
            for tensor in computed
        }


def with_finite_constants(data: bytes, ranges: Ranges, floats: Collection[str] = ()) -> bytes:
    """Replace constants that represent infinity by the end of the range of the value that they
    bound, but for the operators in ``floats``.

    Rounded to the levels of that range, both are the same.
    """
    from ai_edge_litert import schema_py_generated as schema

    packed: Any = schema.Model.GetRootAs(data, 0)
    if not any(_is_infinite(packed, number) for number in range(packed.BuffersLength())):
        return data
    model: Any = schema.ModelT.InitFromObj(packed)
    graph = model.subgraphs[0]
    for operator in graph.operators:
        operator.inputs = list(operator.inputs)
        name = graph.tensors[operator.outputs[0]].name.decode()
        output = None if name in floats else ranges.get(name)
        for place, index in enumerate(operator.inputs):
            tensor = graph.tensors[index]
            if output and tensor.type == 0 and _is_infinite(packed, tensor.buffer):
                values = np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.float32)
                buffer: Any = schema.BufferT()
                finite: Any = schema.TensorT()
                buffer.data = np.frombuffer(values.clip(*output).astype("<f4").tobytes(), np.uint8)
                finite.name = tensor.name + f" {len(graph.tensors)}".encode()
                finite.shape, finite.hasRank, finite.type = tensor.shape, True, tensor.type
                finite.buffer = len(model.buffers)
                model.buffers.append(buffer)
                operator.inputs[place] = len(graph.tensors)
                graph.tensors.append(finite)
    return repacked(model, len(data) + (1 << 16))


def _is_infinite(model: Any, buffer: int) -> bool:
    """Return whether a buffer of a few bytes contains a float that stands for infinity.

    Integers as floats are denormal or NaN, which compare as smaller.
    """
    content = model.Buffers(buffer).DataAsNumpy()
    if not isinstance(content, np.ndarray) or len(content) % 4:
        return False
    values = content.view("<f4")
    return bool(values.max(initial=0.0) >= INFINITE or values.min(initial=0.0) <= -INFINITE)
