"""Packs tensors and operators, referred to by name, as the flatbuffer of a TFLite file.

The schema comes with LiteRT (`ai_edge_litert.schema_py_generated`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from hwnas.errors import ExportError

ALIGNMENT_BYTES = 16
"""Alignment of weights in the file, which the schema demands so that they can be used in place."""

MAX_RECORD_BYTES = 4096
"""Upper bound of the size of a tensor or an operator, without its data."""

IDENTIFIER = b"TFL3"
"""Bytes 4 to 8 of a TFLite file."""

SCALE_BYTES = 4 + 8
"""Size of a scale and its zero point."""


class Flatbuffer:
    """One subgraph, whose operators are added in order."""

    def __init__(self) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._schema = schema
        self._weights: list[tuple[int, Any]] = []
        """Weights with their offsets from the file's end, in increasing order."""
        self._aligned = _aligned_buffer(schema, self._weights)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._index: dict[str, int] = {}
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._buffers: list[Any] = [schema.BufferT()]
        self._codes: dict[tuple[str, int], Any] = {}
        self._metadata: list[Any] = []
        self._scales = 0
        """Number of the scales of all quantised constants."""

    def tensor(self, name: str, shape: tuple[int, ...], dtype: str = "float32") -> str:
        """Add a computed value; its buffer is number 0, the empty one."""
        tensor = self._schema.TensorT()
        tensor.name, tensor.shape, tensor.hasRank = name, [int(size) for size in shape], True
        tensor.type = self.type_number(dtype)
        tensor.buffer = 0
        self.shapes[name], self._index[name] = shape, len(self._tensors)
        self._tensors.append(tensor)
        return name

    def type_number(self, dtype: str) -> int:
        """Return the schema's number of a type."""
        return getattr(self._schema.TensorType, dtype.upper())

    def constant(self, name: str, values: Any) -> str:
        """Add a constant once: a later one of the same name refers to the first."""
        return self.value(f"{name}:constant", values)

    def value(self, name: str, values: Any) -> str:
        """Add a constant under exactly this name."""
        if name not in self._index:
            self.tensor(name, values.shape, str(values.dtype))
            buffer = self._aligned()
            buffer.data = values
            self._tensors[-1].buffer = len(self._buffers)
            self._buffers.append(buffer)
        return name

    def quantized(self, name: str, levels: Any, scale: Any, axis: int) -> str:
        """Add a constant of int8 levels, with what one level is at each place of ``axis``."""
        stored = self.constant(name, levels)
        quantization: Any = self._schema.QuantizationParametersT()
        quantization.scale, quantization.quantizedDimension = scale, axis
        quantization.zeroPoint = np.zeros(len(scale), np.int64)
        self._tensors[self._index[stored]].quantization = quantization
        self._scales += len(scale)
        return stored

    def operator(
        self,
        op: str,
        options: str | None,
        inputs: tuple[str, ...],
        output: str | tuple[str, ...],
        version: int = 1,
        **fields: Any,
    ) -> None:
        """Add builtin ``op``; ``fields`` are the fields of its ``options``, as in the schema."""
        outputs = (output,) if isinstance(output, str) else output
        operator = self._schema.OperatorT()
        operator.opcodeIndex = self._code(op, version)
        operator.inputs = [self._index[name] for name in inputs]
        operator.outputs = [self._index[name] for name in outputs]
        if options is not None:
            operator.builtinOptionsType = getattr(self._schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(self._schema, f"{options}T")()
            for field, value in fields.items():
                setattr(operator.builtinOptions, field, value)
        self._operators.append(operator)

    def add_metadata(self, name: str, content: bytes) -> None:
        """Add an entry of the model's metadata; runtimes ignore it."""
        entry, buffer = self._schema.MetadataT(), self._aligned()
        entry.name, entry.buffer = name, len(self._buffers)
        buffer.data = np.frombuffer(content, np.uint8)
        self._buffers.append(buffer)
        self._metadata.append(entry)

    def pack(self, version: int, inputs: Sequence[str], outputs: Sequence[str]) -> Iterator[Any]:
        """Yield the file's bytes in pieces.

        Each weight is a piece of its own: the flatbuffer builder only leaves a gap for it, so that
        no weight is copied.
        """
        import flatbuffers

        graph = self._schema.SubGraphT()
        graph.name, graph.tensors, graph.operators = "main", self._tensors, self._operators
        graph.inputs, graph.outputs = (
            [self._index[name] for name in names] for names in (inputs, outputs)
        )
        model = self._schema.ModelT()
        model.version, model.description = version, "hwnas"
        model.subgraphs, model.buffers = [graph], self._buffers
        model.operatorCodes = list(self._codes.values())
        if self._metadata:
            model.metadata = self._metadata
        model.signatureDefs = [self._signature(inputs, outputs)]
        size = sum(buffer.data.nbytes for buffer in self._buffers[1:])
        size += MAX_RECORD_BYTES * (1 + len(self._tensors) + len(self._operators))
        size += SCALE_BYTES * self._scales
        if size >= flatbuffers.Builder.MAX_BUFFER_SIZE:
            raise ExportError(f"{size / 1e9:.2f} GB are more than the 2 GiB of a .tflite file")
        builder: Any = flatbuffers.Builder(0)
        builder.Bytes, builder.head = np.empty(size, np.uint8).data, size
        builder.Finish(model.Pack(builder), IDENTIFIER)
        start, end = builder.Head(), len(builder.Bytes)
        for offset, values in reversed(self._weights):
            yield builder.Bytes[start : end - offset]
            yield np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
            start = end - offset + values.nbytes
        yield builder.Bytes[start:]

    def _code(self, op: str, version: int) -> int:
        if (op, version) not in self._codes:
            code = self._schema.OperatorCodeT()
            code.builtinCode = getattr(self._schema.BuiltinOperator, op)
            code.deprecatedBuiltinCode = min(code.builtinCode, 127)
            code.version = version
            self._codes[op, version] = code
        return list(self._codes).index((op, version))

    def _signature(self, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
        """Name inputs and outputs for tools that expect a signature, such as the quantiser."""
        signature = self._schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = "serving_default", 0
        signature.inputs = list(map(self._tensor_map, inputs))
        signature.outputs = list(map(self._tensor_map, outputs))
        return signature

    def _tensor_map(self, name: str) -> Any:
        entry = self._schema.TensorMapT()
        entry.name, entry.tensorIndex = name, self._index[name]
        return entry


def repacked(model: Any, size_bytes: int = 1 << 16) -> bytes:
    """Return the file of a model that was read and changed; ``size_bytes`` is about its size."""
    import flatbuffers

    builder = flatbuffers.Builder(size_bytes)
    builder.Finish(model.Pack(builder), IDENTIFIER)
    return bytes(builder.Output())


def _aligned_buffer(schema: Any, weights: list[tuple[int, Any]]) -> Any:
    class AlignedBuffer(schema.BufferT):
        """Aligns its data, which the generated class does not, and does not copy it."""

        def Pack(self, builder: Any) -> int:
            size = self.data.nbytes
            builder.StartVector(1, size, ALIGNMENT_BYTES)
            builder.head -= size
            weights.append((builder.Offset(), self.data))
            data = builder.EndVector()
            schema.BufferStart(builder)
            schema.BufferAddData(builder, data)
            return schema.BufferEnd(builder)

    return AlignedBuffer
