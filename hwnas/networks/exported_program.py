"""Loads a program that `torch.export` saved, a ``.pt2`` file, as a module for the compiler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hwnas.errors import UsageError, first_line
from hwnas.export.graph.interface import InputShapes, Interface, ModuleInput, module_interface
from hwnas.export.graph.nodes import INPUT


def load_program(
    path: Path, shapes: InputShapes | None, output_names: Sequence[str] = ()
) -> tuple[nn.Module, Interface]:
    """Return the module of a ``.pt2`` file and its inputs, whose shapes the file states.

    Only load files that you trust: PyTorch may run code from them. Raises `UsageError` for another
    kind of file, for ``shapes`` that are not the file's, and for free shapes without ``shapes``.
    """
    try:
        program: Any = torch.export.load(path)
    except Exception as error:  # whatever reading a damaged file raises
        raise UsageError(f"{path}: no program of torch.export ({first_line(error)})") from error
    module, stated = program.module(), _stated(path, program)
    given = {} if shapes is None else _given(path, stated, shapes)
    inputs = tuple(_input(path, name, value, given.get(name)) for name, value in stated.items())
    if len(inputs) == 1 and len(inputs[0].shape) == 4:
        inputs = (ModuleInput(INPUT, inputs[0].shape, inputs[0].dtype),)
    return module, Interface(inputs, tuple(output_names))


def _stated(path: Path, program: Any) -> dict[str, Tensor]:
    """Return the inputs; sizes that are free are no integers."""
    names = program.graph_signature.user_inputs
    values = {
        node.name: node.meta["val"]
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in names
    }
    others = [name for name, value in values.items() if not isinstance(value, Tensor)]
    if others or not values:
        listed = ", ".join(others) or "no input"
        raise UsageError(f"{path}: expected inputs that are tensors, found {listed}")
    return values


def _given(path: Path, stated: Mapping[str, Tensor], shapes: InputShapes) -> dict[str, ModuleInput]:
    if isinstance(shapes, Mapping):
        unknown = [name for name in shapes if name not in stated]
        if unknown:
            raise UsageError(f"{path} has no input {unknown[0]!r}; its inputs: {', '.join(stated)}")
        return {each.name: each for each in module_interface(_Any(), shapes).inputs}
    listed = module_interface(_Any(), shapes).inputs
    if len(listed) > len(stated):
        raise UsageError(
            f"{path} takes {len(stated)} inputs ({', '.join(stated)}), {len(listed)} shapes are "
            "given"
        )
    return dict(zip(stated, listed, strict=False))


class _Any(nn.Module):
    """Accepts inputs of any number and name."""

    def forward(self, *inputs: Tensor) -> None: ...


def _input(path: Path, name: str, value: Tensor, given: ModuleInput | None) -> ModuleInput:
    sizes: list[Any] = list(value.shape)
    wanted = list(sizes[1:]) if given is None else list(given.item_shape)
    fixed = [isinstance(size, int) for size in sizes[1:]]
    fits = len(wanted) == len(fixed) and all(
        size == other or not known
        for size, other, known in zip(sizes[1:], wanted, fixed, strict=True)
    )
    if not fits:
        what = "images" if len(sizes) == 4 else name
        raise UsageError(f"{path} takes {what} of shape {_text(sizes[1:])}, not {_text(wanted)}")
    if not all(isinstance(size, int) for size in wanted):
        what = "images" if len(sizes) == 4 else name
        raise UsageError(f"{path} takes {what} of any size; expected --input-shape, e.g. 3x224x224")
    if isinstance(sizes[0] if sizes else 1, int) and sizes[:1] not in ([], [1]):
        raise UsageError(f"{path}: {name} has a batch of {sizes[0]}; expected 1, or a free batch")
    dtype: Any = str(value.dtype).removeprefix("torch.")
    if value.dtype.is_floating_point:
        dtype = "float32"
    return ModuleInput(name, (1, *map(int, wanted)) if sizes else (), dtype)


def _text(shape: Sequence[Any]) -> str:
    return "x".join(map(str, shape))
