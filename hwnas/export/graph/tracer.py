"""Records the ATen operations of a module by running it on inputs that have no values.

PyTorch hands every operation on a `TracedTensor` to `Tracer.dispatch`, whether the module consists
of modules, functions, methods or TorchScript. Operations without a lowering are replaced by those
that PyTorch decomposes them into. What does not depend on the inputs, such as sizes and normalised
weights, is computed by PyTorch as usual and is a constant.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks

from hwnas.export.graph.decompose import check_computable, check_repeatable, decompose
from hwnas.export.graph.in_place import overwrite, refresh
from hwnas.export.graph.interface import Interface, torch_dtype
from hwnas.export.graph.recording import Call, Recording, Value, name_arguments, schema_of
from hwnas.export.graph.shapes import META, quick_result
from hwnas.export.graph.tensor import TracedTensor, Tracing, traced_in

CONSTANT_LIKE = {
    *("zeros_like", "ones_like", "full_like", "empty_like"),
    *("new_zeros", "new_ones", "new_full", "new_empty"),
}
"""Operations that read the shape of their argument alone."""
CHECKS = {"_assert_async", "_assert_scalar", "_assert_tensor_metadata"}
"""Operations that check values but compute nothing."""
SAMPLINGS = {"grid_sampler", "grid_sampler_2d"}
"""Operations that are decomposed where the points are constants: into pixels and weights."""


class Tracer:
    """Runs a module once and records its calls."""

    def __init__(
        self, module: nn.Module, lowered: Container[str], traces_constants: bool = False
    ) -> None:
        """``traces_constants``: also tensors that the network creates, to write values into."""
        self.module, self.lowered = module, lowered
        self.traces_constants = traces_constants
        self.calls: list[Call] = []
        self.paths: dict[nn.Module, str] = {part: path for path, part in module.named_modules()}
        self.stack: list[nn.Module] = [module]
        self.failed: nn.Module | None = None
        """The innermost module whose ``forward`` raised."""
        self.metas: dict[int, tuple[Tensor, Tensor]] = {}
        """Constants, by `id`, with their stand-ins on ``meta``."""

    def record(self, interface: Interface, dtype: torch.dtype, batch: int = 1) -> Recording:
        """Run the module on inputs without values; raises whatever the module raises for them.

        ``dtype`` is that of the inputs that are floats.
        """
        inputs = tuple(
            Value(spec.of_batch(batch), torch_dtype(spec.dtype, dtype)) for spec in interface.inputs
        )
        tensors = [
            TracedTensor(torch.empty(value.shape, dtype=value.dtype, device=META), value, self)
            for value in inputs
        ]
        with self._following_modules(), _below_autograd(), Tracing(self):
            outputs = interface.call(self.module, tensors)
        return Recording(
            self.calls, inputs, {name: _returned(output) for name, output in outputs.items()}
        )

    def dispatch(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Record a call, or the calls that it decomposes into, and return the result."""
        schema = schema_of(func)
        if schema.op not in self.lowered:
            check_repeatable(self.place(), func)
        if schema.overwrites:
            with Tracing(self):
                return overwrite(self.place(), func, args, kwargs)
        tensors = traced_in((*args, *kwargs.values()))
        for tensor in tensors:
            refresh(tensor)
        if schema.op in CONSTANT_LIKE or not any(tensor.value for tensor in tensors):
            return self._constant(func, args, kwargs)
        check_computable(self.place(), func)
        if schema.op in CHECKS:
            return None
        if schema.op not in self.lowered or (schema.op in SAMPLINGS and not _value_of(args[1])):
            with Tracing(self):
                return decompose(self.place(), func, args, kwargs)
        return self._call(func, args, kwargs)

    def constant(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Compute a call that takes no traced tensor."""
        if schema_of(func).op not in self.lowered:
            check_repeatable(self.place(), func)
        result = func(*args, **kwargs)
        if not self.traces_constants or not isinstance(result, Tensor):
            return result
        given = {_memory(tensor) for tensor in _tensors((*args, *kwargs.values()))}
        return result if _memory(result) in given else TracedTensor(result, None, self)

    def place(self) -> str:
        """Return the path of the current module as error messages begin."""
        path = self.paths.get(self.stack[-1], "")
        return f"{path or 'the network'}: "

    def failed_path(self) -> str:
        """Return the path of the innermost module that raised, empty for the network itself."""
        return "" if self.failed is None else self.paths.get(self.failed, "")

    def _call(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        results = self._stand_in_result(func, args, kwargs)
        whole = results if isinstance(results, list | tuple) else (results,)
        if not all(isinstance(result, Tensor) for result in whole):
            return results
        operand = args[0] if args and isinstance(args[0], TracedTensor) else None
        if operand is not None and results is operand.data_:
            return operand
        values = tuple(Value(tuple(result.shape), result.dtype) for result in whole)
        part = self.stack[-1]
        self.calls.append(
            Call(
                schema_of(func).op,
                func,
                name_arguments(func, _map(_argument, args), _map_values(_argument, kwargs)),
                values,
                self.paths.get(part, ""),
                is_layer(type(part)),
            )
        )
        tensors = [TracedTensor(*pair, self) for pair in zip(whole, values, strict=True)]
        return self._finished(func, args, kwargs, results, tensors)

    def _constant(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        results = func(*_map(_concrete, args), **_map_values(_concrete, kwargs))
        whole = results if isinstance(results, list | tuple) else (results,)
        if not all(isinstance(result, Tensor) for result in whole):
            return results
        tensors = [TracedTensor(result, None, self) for result in whole]
        return self._finished(func, args, kwargs, results, tensors)

    def _finished(
        self, func: Any, args: Any, kwargs: Any, results: Any, tensors: list[TracedTensor]
    ) -> Any:
        parent = args[0] if args and isinstance(args[0], TracedTensor) else None
        several = isinstance(results, list | tuple)
        if parent is not None and schema_of(func).may_share:
            for index, tensor in enumerate(tensors):
                if _memory(tensor.data_) == _memory(parent.data_):
                    self._link(tensor, parent, func, args, kwargs, index if several else None)
        return type(results)(tensors) if several else tensors[0]

    def _link(
        self, tensor: TracedTensor, parent: TracedTensor, func: Any, args: Any, kwargs: Any,
        index: int | None,
    ) -> None:  # fmt: skip
        def derive(source: TracedTensor) -> TracedTensor:
            derived = self.dispatch(func, (source, *args[1:]), kwargs)
            return derived if index is None else derived[index]

        named = {**name_arguments(func, args, kwargs), "index_": index}
        tensor.base = parent, derive, schema_of(func).op, named
        tensor.version = parent.version

    def _stand_in_result(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the result of ``func``, on ``meta``."""
        plain = _map(_stand_in_data, args)
        quick = quick_result(schema_of(func).op, plain, kwargs)
        if quick is not None:
            return quick
        try:
            return func(*_map(self._stand_in, args), **_map_values(self._stand_in, kwargs))
        except Exception:  # not implemented on meta, or an error that real tensors report better
            results = func(*_map(_concrete, args), **_map_values(_concrete, kwargs))
            return _map((lambda result: result.to(META)), (results,))[0]

    def _stand_in(self, argument: Any) -> Any:
        """Return an argument for a computation of shapes."""
        if isinstance(argument, TracedTensor):
            argument = argument.data_
        if isinstance(argument, Tensor):
            return argument if argument.is_meta else self._meta(argument)
        return META if isinstance(argument, torch.device) else argument

    def _meta(self, constant: Tensor) -> Tensor:
        if id(constant) not in self.metas:
            self.metas[id(constant)] = constant, constant.detach().to(META)
        return self.metas[id(constant)][1]

    @contextmanager
    def _following_modules(self) -> Iterator[None]:
        """Keep in ``stack`` the modules whose ``forward`` runs."""

        def enter(part: nn.Module, args: Any) -> None:
            self.stack.append(part)

        def leave(part: nn.Module, args: Any, output: Any) -> None:
            self.stack.pop()
            if output is None and self.failed is None:
                self.failed = part

        handles = (
            hooks.register_module_forward_pre_hook(enter),
            hooks.register_module_forward_hook(leave, always_call=True),
        )
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def is_layer(kind: type[nn.Module]) -> bool:
    """Return whether a module is one of PyTorch's layers, or a subclass of one."""
    return any(
        base.__module__.startswith("torch.nn.modules.") and base not in CONTAINERS
        for base in kind.__mro__
    )


CONTAINERS = (nn.Module, nn.Sequential, nn.ModuleList, nn.ModuleDict)


@contextmanager
def _below_autograd() -> Iterator[None]:
    """Dispatch composite operations, such as ``conv2d``, before PyTorch decomposes them.

    Without the fused forms of recurrent layers, which hide their operations.
    """
    mkldnn = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        with torch.no_grad(), torch._C._AutoDispatchBelowAutograd():
            yield
    finally:
        torch._C._set_mkldnn_enabled(mkldnn)


def _returned(output: Tensor) -> Value | Tensor:
    if not isinstance(output, TracedTensor):
        return output
    refresh(output)
    return output.data_ if output.value is None else output.value


def _value_of(argument: Any) -> Value | None:
    """Return the value of an argument that depends on the inputs, None for a constant."""
    return argument.value if isinstance(argument, TracedTensor) else None


def _stand_in_data(argument: Any) -> Any:
    return argument.data_ if isinstance(argument, TracedTensor) else argument


def _argument(argument: Any) -> Any:
    """Return an argument as a `Call` holds it."""
    if isinstance(argument, TracedTensor):
        return argument.data_ if argument.value is None else argument.value
    return argument


def _concrete(argument: Any) -> Any:
    """Return an argument for PyTorch to compute with; zeros where only the shape counts."""
    if not isinstance(argument, TracedTensor):
        return argument
    data = argument.data_
    return torch.zeros(data.shape, dtype=data.dtype) if data.is_meta else data


def _map(function: Callable[[Any], Any], arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        [function(item) for item in argument]
        if isinstance(argument, list | tuple)
        else function(argument)
        for argument in arguments
    )


def _map_values(function: Callable[[Any], Any], arguments: dict[str, Any]) -> dict[str, Any]:
    if not arguments:
        return arguments
    return dict(zip(arguments, _map(function, tuple(arguments.values())), strict=True))


def _tensors(args: tuple[Any, ...]) -> list[Tensor]:
    """Return the tensors among arguments, and in lists among them."""
    return [
        item
        for argument in args
        for item in (argument if isinstance(argument, list | tuple) else (argument,))
        if isinstance(item, Tensor)
    ]


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
