"""Inputs and outputs of a module: their names, and how it is called.

Inputs are named as the arguments of ``forward``, a single one of images is `INPUT`. A tensor that
is returned alone is called `OUTPUT`; those of a dict by their keys, of a named tuple or dataclass
by its fields, of a list or tuple by their numbers, nested ones by their path, as ``boxes.0``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields as dataclass_fields
from dataclasses import is_dataclass
from difflib import get_close_matches
from inspect import Parameter, signature
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor, nn

from hwnas.errors import ExportError, UsageError
from hwnas.export.graph.nodes import INPUT, OUTPUT, DType, TensorSpec

Shape = tuple[int, ...]
Stated = Shape | str
"""Shape of an input without the batch, or a text such as ``3x224x224`` or ``32:int64``."""
InputShapes = Shape | Sequence[Stated] | Mapping[str, Stated]
"""Shape of the only input, or of several, in order or by the name of the argument."""

SHAPE_TEXT = re.compile(r"(\d+(?:x\d+)*)(?::(\w+))?")


class ModuleInput(TensorSpec, frozen=True):
    """An input of a module."""

    keyword: str | None = None
    """Name of the argument to pass it as; None: by position."""

    @property
    def batched(self) -> bool:
        """Whether the first axis is the batch, which has size 1."""
        return self.shape[:1] == (1,)

    @property
    def item_shape(self) -> Shape:
        """Shape without the batch."""
        return self.shape[1:] if self.batched else self.shape

    def of_batch(self, batch: int) -> Shape:
        """Return the shape for a batch."""
        return (batch, *self.item_shape) if self.batched else self.shape


class Interface(NamedTuple):
    """The call of a module: its inputs, and the names of its outputs."""

    inputs: tuple[ModuleInput, ...]
    output_names: tuple[str, ...] = ()
    """Names of the outputs; empty: those of the module."""

    @property
    def input_names(self) -> tuple[str, ...]:
        return tuple(each.name for each in self.inputs)

    def call(self, module: nn.Module, tensors: Sequence[Any]) -> dict[str, Any]:
        """Call ``module`` with a tensor for each input and return what it returns, by name."""
        pairs = list(zip(self.inputs, tensors, strict=True))
        args = [tensor for given, tensor in pairs if given.keyword is None]
        keywords = {given.keyword: tensor for given, tensor in pairs if given.keyword is not None}
        outputs = named_outputs(module, module(*args, **keywords))
        names = self.output_names or tuple(map(self._free_name, outputs))
        if len(names) != len(outputs):
            raise UsageError(
                f"{len(names)} output names ({', '.join(names)}), but the network has "
                f"{len(outputs)} outputs ({', '.join(outputs)})"
            )
        for name in names:
            if names.count(name) > 1 or name in self.input_names:
                raise UsageError(f"two inputs or outputs are called {name!r}")
        return dict(zip(names, outputs.values(), strict=True))

    def _free_name(self, name: str) -> str:
        return f"{name}_out" if any(name == each.name for each in self.inputs) else name


class Argument(NamedTuple):
    """An argument of ``forward``."""

    name: str
    required: bool
    positional: bool


def module_interface(
    module: nn.Module, shapes: InputShapes, output_names: Sequence[str] = ()
) -> Interface:
    """Return the interface of ``module`` for inputs of these shapes, without the batch.

    Raises `UsageError` for a name that is no argument of ``forward``, and `ExportError` if an
    argument that it needs has no shape.
    """
    arguments = _arguments(module)
    if isinstance(shapes, Mapping):
        inputs = list(_by_name(module, arguments, shapes))
    else:
        listed: Any = [shapes] if _is_shape(shapes) else list(shapes)
        inputs = list(_in_order(module, arguments, listed))
    _check_needed(module, arguments, inputs)
    if len(inputs) == 1 and len(inputs[0].shape) == 4 and inputs[0].keyword is None:
        inputs = [ModuleInput(INPUT, inputs[0].shape, inputs[0].dtype)]
    return Interface(tuple(inputs), tuple(output_names))


def described_inputs(interface: Interface) -> str:
    """Return a description of the inputs for error messages."""
    inputs = interface.inputs
    if len(inputs) == 1:
        return f"an input of shape {inputs[0].item_shape}"
    listed = ", ".join(f"{each.name} {list(each.shape)}" for each in inputs)
    return f"inputs of the shapes, with the batch, {listed}"


def torch_dtype(dtype: DType, floats: torch.dtype = torch.float32) -> torch.dtype:
    """Return PyTorch's type; ``floats`` for float32."""
    return floats if dtype == "float32" else getattr(torch, dtype)


def parse_shape(text: str) -> tuple[Shape, DType] | None:
    """Read ``3x224x224`` or ``32:int64``; None for anything else."""
    match = SHAPE_TEXT.fullmatch(text.strip())
    if match is None or (match[2] or "float32") not in get_args(DType):
        return None
    shape = tuple(map(int, match[1].split("x")))
    return (shape, match[2] or "float32") if all(shape) else None  # type: ignore[return-value]


def named_outputs(module: nn.Module, output: Any) -> dict[str, Any]:
    """Return the tensors that ``module`` returned, by name; those that are None are left out.

    Raises `ExportError` for anything that is no tensor, or no tensor at all.
    """
    if isinstance(output, Tensor):
        return {OUTPUT: output}
    leaves = [(path, leaf) for path, leaf in _leaves(output, ()) if leaf is not None]
    for path, leaf in leaves:
        if not isinstance(leaf, Tensor):
            place = f" as {'.'.join(path)}" if path else ""
            raise ExportError(
                f"{type(module).__name__} returns {type(leaf).__name__}{place}; expected tensors, "
                "or dicts, lists, tuples and dataclasses of them"
            )
    if not leaves:
        raise ExportError(f"{type(module).__name__} returns no tensor")
    return {_output_name(path): leaf for path, leaf in leaves}


def _leaves(output: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    fields = getattr(output, "_fields", None)
    if isinstance(output, tuple) and fields is not None:
        parts = list(zip(fields, output, strict=True))
    elif is_dataclass(output) and not isinstance(output, type | Mapping):
        parts = [(field.name, getattr(output, field.name)) for field in dataclass_fields(output)]
    elif isinstance(output, Mapping):
        parts = list(output.items())
    elif isinstance(output, list | tuple):
        parts = list(enumerate(output))
    else:
        yield path, output
        return
    for name, part in parts:
        yield from _leaves(part, (*path, str(name)))


def _output_name(path: tuple[str, ...]) -> str:
    name = ".".join(path)
    return f"output_{name}" if name[:1].isdigit() else name


def _by_name(
    module: nn.Module, arguments: list[Argument] | None, shapes: Mapping[str, Stated]
) -> Iterator[ModuleInput]:
    """Yield the inputs in the order of the arguments; by position up to the first that is not."""
    if arguments is None:
        for name, stated in shapes.items():
            yield _input(name, stated)
        return
    names = [argument.name for argument in arguments]
    if _takes_any_keyword(module):
        extra = [name for name in shapes if name not in names]
        arguments = [*arguments, *(Argument(name, False, False) for name in extra)]
        names += extra
    for name in shapes:
        if name not in names:
            near = get_close_matches(name, names, n=1)
            hint = f", did you mean {near[0]!r}?" if near else ""
            raise UsageError(
                f"{type(module).__name__} has no input {name!r}{hint}; known: {', '.join(names)}"
            )
    by_position = True
    for argument in arguments:
        by_position = by_position and argument.positional and argument.name in shapes
        if argument.name in shapes:
            keyword = None if by_position else argument.name
            yield _input(argument.name, shapes[argument.name], keyword)


def _in_order(
    module: nn.Module, arguments: list[Argument] | None, shapes: list[Stated]
) -> Iterator[ModuleInput]:
    if arguments is None:
        arguments = [Argument(f"input_{n}", False, True) for n in range(len(shapes))]
    arguments = [argument for argument in arguments if argument.positional]
    if len(shapes) > len(arguments):
        raise UsageError(
            f"{type(module).__name__} takes {len(arguments)} inputs "
            f"({', '.join(argument.name for argument in arguments) or 'none'}), "
            f"{len(shapes)} shapes are given"
        )
    for argument, stated in zip(arguments, shapes, strict=False):
        yield _input(argument.name, stated)


def _input(name: str, stated: Stated, keyword: str | None = None) -> ModuleInput:
    parsed = parse_shape(stated) if isinstance(stated, str) else (tuple(stated), "float32")
    if parsed is None:
        raise UsageError(
            f"{name}: {stated!r} is no shape; expected e.g. 3x224x224 or 32:int64 "
            f"({', '.join(get_args(DType))})"
        )
    shape, dtype = parsed
    return ModuleInput(name, (1, *shape), dtype, keyword)  # type: ignore[arg-type]


def _arguments(module: nn.Module) -> list[Argument] | None:
    """Return the arguments of ``forward``, None if it does not state them, as in TorchScript."""
    with suppress(TypeError, ValueError):
        parameters = signature(module.forward).parameters.values()
        if any(parameter.kind is Parameter.VAR_POSITIONAL for parameter in parameters):
            return None
        return [
            Argument(
                parameter.name,
                parameter.default is Parameter.empty,
                parameter.kind is not Parameter.KEYWORD_ONLY,
            )
            for parameter in parameters
            if parameter.kind is not Parameter.VAR_KEYWORD
        ]
    return None


def _takes_any_keyword(module: nn.Module) -> bool:
    parameters = signature(module.forward).parameters.values()
    return any(parameter.kind is Parameter.VAR_KEYWORD for parameter in parameters)


def _check_needed(
    module: nn.Module, arguments: list[Argument] | None, inputs: list[ModuleInput]
) -> None:
    given = {item.name for item in inputs}
    missing = [item.name for item in arguments or [] if item.required and item.name not in given]
    if missing:
        needed = [item.name for item in arguments or [] if item.required]
        raise ExportError(
            f"{type(module).__name__} takes {len(needed)} inputs ({', '.join(needed)}); a shape is "
            f"missing for {', '.join(missing)}, e.g. --input-shape {missing[0]}=64"
        )


def _is_shape(shapes: Any) -> bool:
    return isinstance(shapes, str) or all(isinstance(size, int) for size in shapes)
