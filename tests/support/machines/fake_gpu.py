"""A second device for tests on machines without a GPU.

A tensor on ``fakegpu`` holds a CPU tensor and computes with it, autograd included, so results equal
those of the CPU bit by bit. What CUDA refuses is refused here too: operations on tensors of both
devices, and CPU generators; within `refuse_float64` also what MPS refuses. What makes the host wait
for a GPU is recorded (`record_host_reads`): reads of values, and copies to the device that are not
marked ``non_blocking``.

PyTorch's interface for devices written in Python is experimental; tests with `needs_fake_gpu` are
skipped where it is missing. There are no streams and no storage: tensors are saved through
``.cpu()``, and a module is moved before a graph holds its parameters. Import this at the top of a
test module: autograd counts the devices in its first backward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import backend_registration

NAME = "fakegpu"

COPIES = {"copy_", "_to_copy"}
"""Operations that take tensors of both devices."""

INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
"""Operations whose indices may be on the CPU."""

READS = {"_local_scalar_dense", "bincount", "equal", "masked_select", "nonzero", "_unique2"}
"""Operations that need values of their tensors on the host."""

FACTORIES = (
    "empty.memory_format",
    "empty_strided",
    "arange",
    "arange.start",
    "arange.start_step",
    "eye",
)
"""Operations that make a tensor from nothing; others of this kind fill an empty tensor."""

BLOCKING_COPY = "blocking copy to the device"

_recordings: list[list[str]] = []
_refused: list[torch.dtype] = []


class FakeGpuTensor(torch.Tensor):
    """A tensor on the fake device; ``on_cpu`` holds its values."""

    on_cpu: Tensor

    @staticmethod
    def __new__(cls, on_cpu: Tensor) -> FakeGpuTensor:
        if on_cpu.dtype in _refused:
            raise TypeError(f"{NAME} has no {on_cpu.dtype}")
        tensor = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            on_cpu.shape,
            strides=on_cpu.stride(),
            storage_offset=on_cpu.storage_offset(),
            dtype=on_cpu.dtype,
            device=torch.device(NAME, 0),
        )
        tensor.on_cpu = on_cpu
        return tensor

    # With these two methods `torch.nn.Module.to` keeps the identity of parameters, as on CUDA.
    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["on_cpu"], None

    @staticmethod
    def __tensor_unflatten__(
        parts: Mapping[str, Tensor], context: None, size: Any, stride: Any
    ) -> FakeGpuTensor:
        return FakeGpuTensor(parts["on_cpu"])

    @classmethod
    def __torch_dispatch__(
        cls,
        func: Any,
        types: Any,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        name = func.overloadpacket.__name__
        _check_devices(name, args, kwargs)
        _record_reads(name, args, kwargs)
        to_cpu = "device" in kwargs and _is_cpu(kwargs["device"])
        if "device" in kwargs:
            kwargs["device"] = "cpu"
        given = _leaves((*args, *kwargs.values()))
        wrappers = {id(tensor.on_cpu): tensor for tensor in given if isinstance(tensor, cls)}
        output = func(*_map(_unwrap, args), **{key: _unwrap(kwargs[key]) for key in kwargs})
        if to_cpu or (name == "copy_" and not isinstance(args[0], cls)):
            return output
        # an operation in place returns its argument, not another wrapper of it
        return _map(lambda value: _wrap(value, wrappers), output)

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"{self.on_cpu.detach()!r} on {NAME}"

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()


@contextmanager
def record_host_reads() -> Iterator[list[str]]:
    """Yield a list that gets the name of each operation that makes the host wait for the device."""
    reads: list[str] = []
    _recordings.append(reads)
    try:
        yield reads
    finally:
        _recordings.remove(reads)


@contextmanager
def refuse_float64() -> Iterator[None]:
    """Let the device have no float64 in the body, as MPS."""
    _refused.append(torch.float64)
    try:
        yield
    finally:
        _refused.remove(torch.float64)


def _check_devices(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    checked = (args[0], *args[2:]) if name in INDEXING else args
    for value in _leaves((*checked, *kwargs.values())):
        if isinstance(value, torch.Generator) and value.device.type != NAME:
            raise RuntimeError(f"{name}: expected a generator on {NAME}, got one on {value.device}")
        if not isinstance(value, Tensor) or isinstance(value, FakeGpuTensor) or name in COPIES:
            continue
        if value.ndim:
            raise RuntimeError(
                f"{name}: expected all tensors on {NAME}, got one of shape {list(value.shape)} on "
                f"{value.device}"
            )


def _record_reads(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    if (
        name in READS
        or (name == "_to_copy" and _is_cpu(kwargs.get("device")))
        or (name == "copy_" and not isinstance(args[0], FakeGpuTensor))
        or (name in INDEXING and _counts_a_mask(*args[1:3]))
    ):
        _record(name)
    elif name == "copy_" and not isinstance(args[1], FakeGpuTensor):
        _record_copy(*args[2:], **kwargs)
    elif name in INDEXING and any(_is_on_host(index) for index in args[1]):
        _record(BLOCKING_COPY)


def _record(name: str) -> None:
    for reads in _recordings:
        reads.append(name)


def _record_copy(non_blocking: bool = False) -> None:
    """Record a copy to the device for which the host waits until the device has done all else."""
    if not non_blocking:
        _record(BLOCKING_COPY)


def _is_on_host(index: Tensor | None) -> bool:
    return index is not None and not isinstance(index, FakeGpuTensor)


def _counts_a_mask(indices: Sequence[Tensor | None], values: Tensor | None = None) -> bool:
    """Whether the number of True in a mask decides a shape; a single value only fills."""
    masks = [index for index in indices if index is not None and index.dtype == torch.bool]
    return bool(masks) and (values is None or values.numel() != 1)


def _leaves(values: Sequence[Any]) -> Iterator[Any]:
    """Yield values, and those of lists and tuples among them."""
    for value in values:
        if isinstance(value, list | tuple):
            yield from value
        else:
            yield value


def _map(function: Callable[[Any], Any], value: Any) -> Any:
    """Apply ``function`` to a value, or to each of a list or tuple of them."""
    if isinstance(value, list | tuple):
        return type(value)(_map(function, part) for part in value)
    return function(value)


def _is_cpu(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cpu"


def _unwrap(value: Any) -> Any:
    return value.on_cpu if isinstance(value, FakeGpuTensor) else value


def _wrap(value: Any, wrappers: Mapping[int, FakeGpuTensor]) -> Any:
    if not isinstance(value, Tensor):
        return value
    wrapper = wrappers[id(value)] if id(value) in wrappers else FakeGpuTensor(value)
    if wrapper.shape != value.shape:
        raise NotImplementedError(f"the fake GPU cannot change the shape {wrapper.shape} in place")
    return wrapper


def _factory(name: str) -> Callable[..., Tensor]:
    """Return the kernel that makes a tensor on the device from nothing."""
    packet, _, overload = name.partition(".")
    op = getattr(getattr(torch.ops.aten, packet), overload or "default")

    def kernel(*args: Any, **kwargs: Any) -> Tensor:
        return FakeGpuTensor(op(*args, **kwargs | {"device": "cpu"}))

    return kernel


def _copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    """Copy to or from the device, as `torch.tensor` does without `__torch_dispatch__`."""
    if isinstance(target, FakeGpuTensor) and not isinstance(source, FakeGpuTensor):
        _record_copy(non_blocking)
    _unwrap(target).copy_(_unwrap(source))
    return target


def _register() -> torch.library.Library | None:
    """Register the device with PyTorch; return its kernels, or None where that is impossible."""
    setup = getattr(backend_registration, "_setup_privateuseone_for_python_backend", None)
    if setup is None:
        return None
    setup(NAME)
    kernels = torch.library.Library("aten", "IMPL", "PrivateUse1")
    for name in FACTORIES:
        kernels.impl(name, _factory(name))
    kernels.impl("_copy_from", _copy_from)
    return kernels


def _start_backward_thread() -> None:
    """Let the thread of the device's backward passes compute with one thread for good.

    It keeps the number that `torch.set_num_threads` has at its first use of several threads. Sums
    of another number of threads than the CPU's have other bits.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    weight = torch.ones(1).to(NAME).requires_grad_()
    product = 2 * weight
    product.register_hook(lambda gradient: torch.get_num_threads() and None)  # its first use
    product.sum().backward()
    torch.set_num_threads(threads)


_kernels = _register()
if _kernels is not None:
    _start_backward_thread()

needs_fake_gpu = pytest.mark.skipif(
    _kernels is None, reason="this PyTorch has no interface for devices written in Python"
)
