"""A TFLite file in the making: tensors and operators by name, packed as a flatbuffer.

The schema comes with LiteRT (`ai_edge_litert.schema_py_generated`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from hwnas.errors import ExportError

ALIGNMENT_BYTES = 16
"""Of weights from the file's start: the schema asks for it, so that they can be used in place."""

ROOM_BYTES = 4096
"""More than what a tensor or an operator takes without its numbers."""


class Flatbuffer:
    """One subgraph, built in order; the last value written is its output."""

    def __init__(self) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._schema = schema
        self._weights: list[tuple[int, Any]] = []
        """Weights with their offsets from the file's end, which grow."""
        self._aligned = _aligned_buffer(schema, self._weights)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._index: dict[str, int] = {}
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._buffers: list[Any] = [schema.BufferT()]
        self._codes: dict[tuple[str, int], Any] = {}
        self._notes: list[Any] = []

    def tensor(self, name: str, shape: tuple[int, ...], dtype: str = "float32") -> str:
        """Add a value; buffer 0, the empty one, says that it is computed."""
        tensor = self._schema.TensorT()
        tensor.name, tensor.shape, tensor.hasRank = name, [int(size) for size in shape], True
        tensor.type = getattr(self._schema.TensorType, dtype.upper())
        tensor.buffer = 0
        self.shapes[name], self._index[name] = shape, len(self._tensors)
        self._tensors.append(tensor)
        return name

    def constant(self, name: str, values: Any) -> str:
        """Add a value with its numbers, once: a second one of the same name is the first."""
        return self.value(f"{name}:constant", values)

    def value(self, name: str, values: Any) -> str:
        """Add a constant that is called ``name``."""
        if name not in self._index:
            self.tensor(name, values.shape, str(values.dtype))
            buffer = self._aligned()
            buffer.data = values
            self._tensors[-1].buffer = len(self._buffers)
            self._buffers.append(buffer)
        return name

    def operator(
        self, op: str, options: str | None, inputs: tuple[str, ...], output: str,
        version: int = 1, **fields: Any,
    ) -> None:  # fmt: skip
        """Add builtin ``op``; ``fields`` are those of its options, named as in the schema."""
        operator = self._schema.OperatorT()
        operator.opcodeIndex = self._code(op, version)
        operator.inputs = [self._index[name] for name in inputs]
        operator.outputs = [self._index[output]]
        if options is not None:
            operator.builtinOptionsType = getattr(self._schema.BuiltinOptions, options)
            operator.builtinOptions = getattr(self._schema, f"{options}T")()
            for field, value in fields.items():
                setattr(operator.builtinOptions, field, value)
        self._operators.append(operator)

    def note(self, name: str, said: bytes) -> None:
        """Add an entry of the model's metadata; the runtime passes over it."""
        entry, buffer = self._schema.MetadataT(), self._aligned()
        entry.name, entry.buffer, buffer.data = (
            name,
            len(self._buffers),
            np.frombuffer(said, np.uint8),
        )
        self._buffers.append(buffer)
        self._notes.append(entry)

    def packed(self, version: int, first: str, last: str) -> Iterator[Any]:
        """Yield the file's bytes in pieces, with ``first`` as input and ``last`` as output.

        Weights are pieces of their own: the builder leaves room for them, which is never touched.
        """
        import flatbuffers

        graph = self._schema.SubGraphT()
        graph.name, graph.tensors, graph.operators = "main", self._tensors, self._operators
        graph.inputs, graph.outputs = [self._index[first]], [self._index[last]]
        model = self._schema.ModelT()
        model.version, model.description = version, "hwnas"
        model.subgraphs, model.buffers = [graph], self._buffers
        model.operatorCodes = list(self._codes.values())
        if self._notes:
            model.metadata = self._notes
        model.signatureDefs = [self._signature(first, last)]
        size = sum(buffer.data.nbytes for buffer in self._buffers[1:])
        size += ROOM_BYTES * (1 + len(self._tensors) + len(self._operators))
        if size >= flatbuffers.Builder.MAX_BUFFER_SIZE:
            raise ExportError(f"{size / 1e9:.2f} GB are more than a .tflite file can have: 2 GiB")
        builder: Any = flatbuffers.Builder(0)
        builder.Bytes, builder.head = np.empty(size, np.uint8).data, size
        builder.Finish(model.Pack(builder), b"TFL3")
        done, end = builder.Head(), len(builder.Bytes)
        for offset, values in reversed(self._weights):
            yield builder.Bytes[done : end - offset]
            yield np.ascontiguousarray(values).reshape(-1).view(np.uint8).data
            done = end - offset + values.nbytes
        yield builder.Bytes[done:]

    def _code(self, op: str, version: int) -> int:
        if (op, version) not in self._codes:
            code = self._schema.OperatorCodeT()
            code.builtinCode = getattr(self._schema.BuiltinOperator, op)
            code.deprecatedBuiltinCode = min(code.builtinCode, 127)
            code.version = version
            self._codes[op, version] = code
        return list(self._codes).index((op, version))

    def _signature(self, first: str, last: str) -> Any:
        """Names input and output for callers such as the quantiser."""
        signature = self._schema.SignatureDefT()
        signature.signatureKey, signature.subgraphIndex = "serving_default", 0
        signature.inputs, signature.outputs = [self._named(first)], [self._named(last)]
        return signature

    def _named(self, name: str) -> Any:
        named = self._schema.TensorMapT()
        named.name, named.tensorIndex = name, self._index[name]
        return named


def _aligned_buffer(schema: Any, weights: list[tuple[int, Any]]) -> Any:
    class AlignedBuffer(schema.BufferT):
        """The generated one ignores the schema's ``force_align``, and copies."""

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
