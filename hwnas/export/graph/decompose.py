"""Operations without a lowering: they are replaced by PyTorch's decompositions, or refused with a
reason."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch._C import DispatchKey

from hwnas.errors import ExportError
from hwnas.export.graph.recording import schema_of

FALL_BACK = "fall-back: --via torch-onnx or litert-torch"
"""Advice for operations that are not supported."""
DECISIONS = {
    *("item", "is_nonzero", "_local_scalar_dense", "equal", "allclose"),
    *("nonzero", "nonzero_numpy", "masked_select", "unique", "_unique2", "argwhere"),
}
"""Operations by which Python code, or a shape, depends on the pixels."""
FOURIER = "matrices of cosines and sines in the place of a Fourier transform of a fixed length"
PARTS = "real and imaginary parts as two tensors"
INSTEAD = {
    **dict.fromkeys(("_fft_r2c", "_fft_c2c", "_fft_c2r"), FOURIER),
    **dict.fromkeys(("complex", "polar", "view_as_complex", "view_as_real"), PARTS),
    **dict.fromkeys(("bincount", "histc"), "compare with each bin, and sum"),
    "torchvision::nms": "return boxes and scores, and call it on the outputs",
    "masked_scatter": "torch.where",
}
"""Replacements for operations, which the error suggests."""


def check_computable(place: str, func: Any) -> None:
    """Raise `ExportError` for an operation on values of the input that no file can compute.

    ``place`` is the path of the module as error messages begin.
    """
    schema = schema_of(func)
    if schema.op in DECISIONS or (schema.op == "where" and len(schema.names) == 1):
        what = "a branch" if schema.op == "is_nonzero" else f"Tensor.{schema.op}"
        raise ExportError(
            f"{place}{what} depends on the values of the input; only computations that "
            "are the same for every input can be compiled"
        )
    if schema.op in INSTEAD:
        raise _outside(place, func)


def check_repeatable(place: str, func: Any) -> None:
    """Raise `ExportError` for an operation that draws random numbers."""
    if _draws(func):
        raise ExportError(
            f"{place}{_title(func)} draws random numbers in evaluation mode; draw them outside of "
            "the network, as an input"
        )


def decompose(place: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run the operations into which ``func`` decomposes. Raises `ExportError` if there are none.

    ``place`` is the path of the module as error messages begin.
    """
    try:
        return _decomposed(place, func, args, kwargs)
    except RecursionError:  # a rule that computes the operation by itself, as that of ``tan``
        raise _outside(place, func) from None


def _decomposed(place: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    result = func.decompose(*args, **kwargs)
    if result is not NotImplemented:
        return result
    if func.namespace == "prims":  # what decompositions contain, each a name of an ATen operation
        return func._op_dk(DispatchKey.CompositeExplicitAutograd, *args, **kwargs)
    from torch._decomp import decomposition_table  # imports SymPy: only where it is needed

    if func not in decomposition_table:
        raise _outside(place, func)
    return decomposition_table[func](*args, **kwargs)


def _outside(place: str, func: Any) -> ExportError:
    """Return the error for an operation without a lowering."""
    instead, fall_back = INSTEAD.get(schema_of(func).op), FALL_BACK
    if instead:
        fall_back = FALL_BACK.replace("--via", f"{instead}, or --via")
    return ExportError(f"{place}{_title(func)} is outside the compiler's operations; {fall_back}")


@lru_cache(maxsize=4096)
def _draws(func: Any) -> bool:
    """Return whether an operation itself draws random numbers, rather than the operations that it
    is composed of."""
    composed = DispatchKey.CompositeImplicitAutograd
    return (
        torch.Tag.nondeterministic_seeded in func.tags
        and not torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), composed)
    )


def _title(func: Any) -> str:
    op = schema_of(func).op.removeprefix("prims::")
    return op if "::" in op else f"aten.{op}"
