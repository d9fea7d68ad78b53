"""The tensor that represents the image, and values computed from it, in a recording."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hwnas.export.graph.recording import Value


class Dispatcher(Protocol):
    """Computes operations on traced tensors."""

    def dispatch(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any: ...

    def constant(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any: ...


class TracedTensor(Tensor):
    """A tensor that depends on the image, or a constant computed in the network."""

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    data_: Tensor
    """Tensor on ``meta`` for computations of shapes; for a constant its value."""
    value: Value | None
    """None: a constant."""
    base: tuple[TracedTensor, Callable[[TracedTensor], TracedTensor], str, dict[str, Any]] | None
    """The tensor whose memory it shares, how it is derived from it, and by which call."""
    version: int
    """Number of times that the shared memory had been overwritten when ``value`` was computed."""
    tracer: Dispatcher

    @staticmethod
    def __new__(cls, data: Tensor, value: Value | None, tracer: Dispatcher) -> TracedTensor:
        tensor: Any = Tensor._make_wrapper_subclass(
            cls,
            data.shape,
            strides=data.stride(),
            storage_offset=data.storage_offset(),
            dtype=data.dtype,
            device=torch.device("cpu"),
        )
        tensor.data_, tensor.value, tensor.tracer = data, value, tracer
        tensor.base, tensor.version = None, 0
        return tensor

    def __init__(self, *args: Any) -> None:
        super().__init__()

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        tracer = next(tensor.tracer for tensor in traced_in((*args, *kwargs.values())))
        return tracer.dispatch(func, args, kwargs)


def resize(tensor: TracedTensor, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Let an in-place operation change the sizes of a tensor, but not its value."""
    with torch._C._DisableTorchDispatch():
        func(tensor, *args, **kwargs)


class Tracing(TorchDispatchMode):
    """Hands operations on traced tensors to ``tracer``, before PyTorch looks at their class.

    PyTorch imports `torch.distributed.tensor`, and SymPy with it, to find out whether a tensor with
    a ``__torch_dispatch__`` of its own is distributed; that takes a third of PyTorch's own import.
    """

    def __init__(self, tracer: Dispatcher) -> None:
        super().__init__()
        self.tracer = tracer

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # to skip Dynamo, PyTorch imports it

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if TracedTensor in types:
            return self.tracer.dispatch(func, args, kwargs)
        return self.tracer.constant(func, args, kwargs)


def traced_in(arguments: tuple[Any, ...]) -> list[TracedTensor]:
    """Return the traced tensors among arguments, and in lists among them."""
    tensors: list[TracedTensor] = []
    for argument in arguments:
        if isinstance(argument, TracedTensor):
            tensors.append(argument)
        elif isinstance(argument, list | tuple):
            tensors += [item for item in argument if isinstance(item, TracedTensor)]
    return tensors
