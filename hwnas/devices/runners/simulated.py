"""A simulated device: latency computed from the operators of the real model file.

Latency of a call: ``call_ms + sum over operators of (op_ms + macs / speed)`` with one speed for
depthwise convolutions and one for everything else, times ``1 + noise * N(0, 1)``. The same file
always gives the same samples, unless throttling or drop-outs are simulated.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator, Sequence
from hashlib import sha256
from importlib import import_module
from math import prod
from pathlib import Path
from random import Random
from typing import Any, NamedTuple, Self

import msgspec

from hwnas.devices.profile import DeviceProfile, Simulation
from hwnas.devices.runner import (
    Progress,
    Subject,
    check_file,
    reference_file,
)
from hwnas.errors import DeviceLost, InvalidFile, UsageError
from hwnas.files import file_sha256, home, write_atomic
from hwnas.measurement.measurement import Environment, Measurement
from hwnas.measurement.round import Round

SPEED_FIELDS = ("call_ms", "op_ms", "macs_per_ms", "depthwise_macs_per_ms", "noise")
"""Fields of `Simulation` that identify the device; the others simulate faults and waiting times."""


class SimulatedOperator(NamedTuple):
    """What the latency of one operator depends on."""

    macs: int
    depthwise: bool


class SimulatedRunner:
    """Computes latencies, of kind ``simulated``."""

    def __init__(self, profile: DeviceProfile, reference: Path | None = None) -> None:
        if profile.simulation is None:
            raise UsageError(f"{profile.name}: a simulated device needs a [simulation] table")
        self.profile, self.simulation = profile, profile.simulation
        self.reference = reference or reference_file(profile.runtime)
        self._calls_done = 0

    def probe(self) -> Environment:
        speeds = {name: getattr(self.simulation, name) for name in SPEED_FIELDS}
        identity = msgspec.json.encode((self.profile.runtime, speeds))
        return Environment(
            device=self.profile.name,
            fingerprint=sha256(identity).hexdigest()[:12],
            hardware=self.profile.title,
            runtime=self.profile.runtime,
            runtime_version="simulated",
            threads=self.profile.measure.threads,
            when="",  # of no date: the same file always gives the same measurement
        )

    def measure(
        self,
        subjects: Sequence[Subject],
        *,
        calibrated_reference_ms: float | None = None,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> list[Measurement]:
        """Compute latencies; ``seed`` has no effect, as noise depends on file and call number."""
        for subject in subjects:
            check_file(subject, self.profile)
        measurements: list[Measurement] = []
        drop_out = self._drop_out() if subjects else ""
        for done, subject in enumerate(subjects, start=1):
            if drop_out and done > len(subjects) // 2:
                raise DeviceLost(
                    f"{self.profile.name}: lost while it ran {subject.name}; {drop_out}"
                )
            time.sleep(self.simulation.file_s)
            measurements.append(self._measurement(subject, calibrated_reference_ms))
            if progress:
                progress(done, len(subjects))
        return measurements

    def close(self) -> None:
        """Nothing to do."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _measurement(self, subject: Subject, calibrated_reference_ms: float | None) -> Measurement:
        spec = self.profile.measure
        own, reference = self._calls(subject.path, subject.batch or 1), self._calls(self.reference)
        return Measurement(
            name=subject.name,
            rounds=tuple(self._round(own, reference, spec.runs) for _ in range(spec.min_rounds)),
            environment=msgspec.structs.replace(
                self.probe(), runtime=subject.runtime or self.profile.runtime
            ),
            calibrated_reference_ms=calibrated_reference_ms,
            kind="simulated",
            sha256=file_sha256(subject.path),
            first_run_ms=None,
            batch=subject.batch or 1,
        )

    def _round(self, own: Iterator[float], reference: Iterator[float], runs: int) -> Round:
        """Compute one round; a throttled device slows down both models alike, call by call."""
        pairs: list[tuple[float, float]] = []
        for _ in range(runs):
            slowdown = self._slowdown()
            pairs.append((next(own) * slowdown, next(reference) * slowdown))
        own_ms, reference_ms = zip(*pairs, strict=True)
        return Round(
            samples_ms=tuple(round(ms, 5) for ms in own_ms),
            reference_ms=tuple(round(ms, 5) for ms in reference_ms),
        )

    def _slowdown(self) -> float:
        self._calls_done += 1
        after = self.simulation.throttle_after_calls
        hot = after is not None and self._calls_done > after
        return 1 / self.simulation.throttled_speed if hot else 1.0

    def _drop_out(self) -> str:
        """Count and describe the drop-out that ends this measurement; empty if none is left."""
        if not self.simulation.drop_outs:
            return ""
        path = home() / "spool" / self.profile.name / f"{self.probe().fingerprint}-drop-outs"
        try:
            done = int(path.read_text(encoding="ascii"))
        except (OSError, ValueError):
            done = 0
        if done >= self.simulation.drop_outs:
            return ""
        write_atomic(path, str(done + 1))
        count = f"{done + 1} of {self.simulation.drop_outs}"
        return f"simulated drop-out {count}; run the same command again to continue"

    def _calls(self, path: Path, batch: int = 1) -> Iterator[float]:
        """Yield the latency of one call after the other, in ms."""
        operators = [op._replace(macs=op.macs * batch) for op in read_operators(path)]
        exact_ms = latency_ms(operators, self.simulation)
        noise = Random(file_sha256(path))
        while True:
            factor = 1 + self.simulation.noise * noise.gauss()
            yield round(max(exact_ms * factor, 1e-5), 5)


def latency_ms(operators: Sequence[SimulatedOperator], simulation: Simulation) -> float:
    """Return the latency without noise."""
    total_ms = simulation.call_ms
    for operator in operators:
        speed = simulation.depthwise_macs_per_ms if operator.depthwise else simulation.macs_per_ms
        total_ms += simulation.op_ms + operator.macs / speed
    return total_ms


def read_operators(path: Path) -> list[SimulatedOperator]:
    """Return the operators of a .tflite or .onnx file in order."""
    try:
        read = _tflite_operators if path.suffix == ".tflite" else _onnx_operators
        operators = list(read(path))
    except ImportError as error:
        raise UsageError(
            f"{path}: reading it needs {error.name}: pip install {error.name}"
        ) from None
    except Exception as error:  # whatever a parser raises for bytes that are not a model
        raise InvalidFile(str(path), f"not a readable {path.suffix} model ({error})") from None
    if not operators:
        raise InvalidFile(str(path), f"not a readable {path.suffix} model (no operators)")
    return operators


def _tflite_operators(path: Path) -> Iterator[SimulatedOperator]:
    schema = import_module("ai_edge_litert.schema_py_generated")
    data = path.read_bytes()
    if data[4:8] != b"TFL3":
        raise struct.error("no TFL3 identifier")
    model = schema.Model.GetRootAs(data, 0)
    graph = model.Subgraphs(0)
    kinds = schema.BuiltinOperator
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        code = model.OperatorCodes(operator.OpcodeIndex())
        kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        macs = 0
        if kind in (kinds.CONV_2D, kinds.DEPTHWISE_CONV_2D, kinds.FULLY_CONNECTED):
            weights = _tflite_shape(graph, operator.Inputs(1))
            macs = prod(weights) * _tflite_pixels(graph, operator.Outputs(0))
        yield SimulatedOperator(macs, depthwise=kind == kinds.DEPTHWISE_CONV_2D)


def _tflite_shape(graph: Any, tensor: int) -> tuple[int, ...]:
    return tuple(int(axis) for axis in graph.Tensors(tensor).ShapeAsNumpy())


def _tflite_pixels(graph: Any, tensor: int) -> int:
    """Return the number of positions where all weights apply: batch times height times width."""
    return prod(_tflite_shape(graph, tensor)[:-1])


def _onnx_operators(path: Path) -> Iterator[SimulatedOperator]:
    onnx = import_module("onnx")
    graph = import_module("onnx.shape_inference").infer_shapes(onnx.load(str(path))).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        axes = value.type.tensor_type.shape.dim
        shapes[value.name] = tuple(max(1, axis.dim_value) for axis in axes)
    for node in graph.node:
        macs, depthwise = 0, False
        if node.op_type == "Conv":
            weights, output = shapes[node.input[1]], shapes[node.output[0]]
            macs = prod(weights) * output[0] * prod(output[2:])
            depthwise = weights[1] == 1 and any(
                attribute.name == "group" and attribute.i > 1 for attribute in node.attribute
            )
        elif node.op_type in ("Gemm", "MatMul"):
            macs = prod(shapes[node.input[1]]) * prod(shapes[node.output[0]][:-1])
        yield SimulatedOperator(macs, depthwise)
