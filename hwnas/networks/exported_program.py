"""Loads a program that `torch.export` saved, a ``.pt2`` file, as a module for the compiler."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from hwnas.errors import UsageError, first_line

Shape = tuple[int, int, int]


def load_program(path: Path, input_shape: Shape | None) -> tuple[nn.Module, Shape]:
    """Return the module of a ``.pt2`` file and the shape of its image, which the file states.

    Only load files that you trust: PyTorch may run code from them. Raises `UsageError` for another
    kind of file, for several inputs, and for an ``input_shape`` that is not the file's.
    """
    try:
        program: Any = torch.export.load(path)
    except Exception as error:  # whatever reading a damaged file raises
        raise UsageError(f"{path}: no program of torch.export ({first_line(error)})") from error
    stated = _image_shape(path, program)
    sizes = zip(stated, input_shape or stated, strict=True)
    if any(isinstance(size, int) and size != given for size, given in sizes):
        raise UsageError(f"{path} takes images of shape {_text(stated)}, not {_text(input_shape)}")
    shape = input_shape or stated
    if not all(isinstance(size, int) for size in shape):
        raise UsageError(f"{path} takes images of any size; expected --input-shape, e.g. 3x224x224")
    return program.module(), (shape[0], shape[1], shape[2])


def _image_shape(path: Path, program: Any) -> tuple[Any, Any, Any]:
    """Return channels, height and width of the only input; those that are free are no integers."""
    names = program.graph_signature.user_inputs
    shapes = [
        node.meta["val"].shape
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in names
    ]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        listed = ", ".join(_text(shape) for shape in shapes) or "none"
        raise UsageError(f"{path}: expected one input [N, C, H, W], found {listed}")
    return tuple(shapes[0][1:])  # type: ignore[return-value]


def _text(shape: Any) -> str:
    return "x".join(map(str, shape))
