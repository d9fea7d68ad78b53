"""Modules of the user's code, by ``module:factory``."""

from __future__ import annotations

import sys
import traceback
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import nn

from hwnas.errors import UsageError, first_line


def user_module(name: str) -> nn.Module:
    """Return the module of ``module:factory``: imports the Python module, also from the current
    folder, and calls the factory, which runs the user's code.

    The factory may also be the module itself. Raises `UsageError` if there is no such module, and,
    with type and place, for errors of the user's code.
    """
    module_name, _, factory = name.partition(":")
    module = _call_factory(name, module_name, factory)
    if not isinstance(module, nn.Module):
        kind = type(module).__name__
        raise UsageError(f"{name}: expected a torch.nn.Module, got {kind}")
    return module


def _call_factory(name: str, module_name: str, factory: str) -> Any:
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        namespace = import_module(module_name)
    except ImportError as error:
        raise UsageError(f"{name}: cannot import {module_name!r} ({error})") from None
    except (Exception, SystemExit) as error:
        message = f"{name}: importing {module_name!r} raised {_describe(error)}"
        raise UsageError(message) from error
    if not hasattr(namespace, factory):
        near = get_close_matches(factory, vars(namespace), n=1)
        hint = f", did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"{name}: {module_name!r} has no {factory!r}{hint}")
    make: Any = getattr(namespace, factory)
    try:
        return make() if callable(make) and not isinstance(make, nn.Module) else make
    except (Exception, SystemExit) as error:
        raise UsageError(f"{name}: {factory}() raised {_describe(error)}") from error


def _describe(error: BaseException) -> str:
    """Return in one line the type, message and place of an error of the user's code."""
    message = first_line(error, "no message")
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f" ({Path(frame.filename).name}, line {frame.lineno})"
    return f"{type(error).__name__}: {message}{'' if isinstance(error, SyntaxError) else place}"
