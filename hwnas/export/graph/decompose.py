"""Decomposition of ATen operations that have no lowering, by PyTorch's own rules."""

from __future__ import annotations

from typing import Any

from torch._C import DispatchKey

from hwnas.errors import ExportError
from hwnas.export.graph.recording import schema_of

FALL_BACK = "fall-back: --via torch-onnx or litert-torch"
"""What a user can do about an operation that is not supported."""


def decompose(place: str, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run the operations that compute the same as ``func``. Raises `ExportError` if none do.

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
    op = schema_of(func).op.removeprefix("prims::")
    return ExportError(f"{place}aten.{op} is outside the compiler's operations; {FALL_BACK}")
