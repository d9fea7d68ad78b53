"""A user's module in the form that is compiled and compared: on the CPU, in evaluation mode."""

from __future__ import annotations

import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import wraps
from itertools import chain
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import nn

from hwnas.errors import ExportError
from hwnas.export.graph.nodes import TensorSpec

P = ParamSpec("P")
R = TypeVar("R")
HALF = (torch.float16, torch.bfloat16)


def float32_on_cpu(module: nn.Module) -> nn.Module:
    """Return ``module``, or a copy of it on the CPU, with weights of 16 bits as float32.

    Convolutions on GPUs round to TF32 by default, and 16 bits to three digits, both too coarse to
    compare a file with. `torch.nn.DataParallel` is removed.
    """
    if isinstance(module, nn.DataParallel):
        module = module.module
    tensors = list(chain(module.parameters(), module.buffers()))
    if any(tensor.dtype in HALF for tensor in tensors):
        return deepcopy(module).cpu().float()
    if all(tensor.device.type == "cpu" for tensor in tensors):
        return module
    return deepcopy(module).cpu()


class ForeignModule(nn.Module, ABC):
    """A network that was not written in PyTorch: its files are compared with its own runtime."""

    path: Path
    """The file that it was read from."""
    source: str
    """Its runtime and file in messages, e.g. ``ONNX Runtime on net.onnx``."""

    @abstractmethod
    def reference_outputs(self, inputs: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Return the outputs in its own runtime for a batch of one at a time, ``[N, 1, ...]``."""

    @abstractmethod
    def reference_batch(self, inputs: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Return the outputs in its own runtime for all inputs at once."""

    @abstractmethod
    def noise(self, inputs: Sequence[TensorSpec], count: int) -> list[np.ndarray]:
        """Return ``count`` values of each input on which its files can be compared."""

    @abstractmethod
    def explained(self, message: str) -> str:
        """Return an error of the compiler that names the parts of the network's file."""


def explains(function: Callable[P, R]) -> Callable[P, R]:
    """Let errors of the decorated function name the parts of the file of its `ForeignModule`."""

    @wraps(function)
    @abstractmethod
    def explained(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except ExportError as error:
            for module in (*args, *kwargs.values()):
                if isinstance(module, ForeignModule):
                    raise ExportError(module.explained(str(error))) from error
            raise

    return explained


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put every part of ``module`` in evaluation mode and restore its mode afterwards.

    In the body, compiled modules, fast paths and autocast are off: the module computes as its code
    is written, in float32.
    """
    flags = [(part, part.training) for part in module.modules()]
    try:
        for part, _ in flags:
            part.training = False
        with _uncompiled(), _without_fast_path(), _without_autocast():
            yield
    finally:
        for part, training in flags:
            part.training = training


@contextmanager
def _uncompiled() -> Iterator[None]:
    """Run modules that `torch.compile` wraps as they are written."""
    if "torch._dynamo" not in sys.modules:  # nothing is wrapped, and importing it takes a second
        yield
        return
    with warnings.catch_warnings(), torch.compiler.set_stance("force_eager"):
        warnings.filterwarnings("ignore", "Using `torch.compile")  # hooks run for wrappers, too
        yield


@contextmanager
def _without_fast_path() -> Iterator[None]:
    """Let attention compute every token.

    In evaluation mode PyTorch's encoders would return zeros for padded tokens at the end instead.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def _without_autocast() -> Iterator[None]:
    """Disable `torch.autocast`, also where ``forward`` enters it, so that values stay in
    float32."""
    enter = torch.autocast.__enter__

    def enter_disabled(context: Any) -> Any:
        context._enabled = False
        return enter(context)

    torch.autocast.__enter__ = enter_disabled  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.autocast.__enter__ = enter


@contextmanager
def unchanged(module: nn.Module) -> Iterator[None]:
    """Restore the buffers of ``module`` that its ``forward`` changes."""
    before = [(part, dict(part._buffers)) for part in module.modules() if part._buffers]
    values = [
        (buffer, buffer.clone())
        for _, buffers in before
        for buffer in buffers.values()
        if buffer is not None
    ]
    try:
        yield
    finally:
        for part, buffers in before:
            for name, buffer in buffers.items():
                part._buffers[name] = buffer
        with torch.no_grad():
            for buffer, value in values:
                if not torch.equal(buffer, value):
                    buffer.copy_(value)
