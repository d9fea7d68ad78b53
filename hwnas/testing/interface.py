"""What can be said of any extension in a moment: `hwnas plugins` asks it of each that is installed.

Nothing is measured or trained: `check_runner`, `check_space` and `check_strategy` do that.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from random import Random
from typing import Any

from hwnas.architecture.architecture import Architecture
from hwnas.devices.profile import profile_files, read_profile, toml_files
from hwnas.errors import HwnasError, UsageError
from hwnas.testing.contract import ContractBroken, holds

IMAGES = ((3, 32, 32), 10)
"""Channels, height and width, and classes that a space is tried with."""
RUNNER = {
    "probe": ((), ()),
    "measure": (("subjects",), ("calibrated_reference_ms", "seed", "progress")),
    "close": ((), ()),
    "__enter__": ((), ()),
    "__exit__": (("kind", "error", "traceback"), ()),
}
"""Arguments by place, and by name, of a runner's methods."""


def check_interface(kind: str, extension: Any) -> str:
    """Check an extension of a kind (`hwnas.plugins.GROUPS`); returns what else is to be known.

    Calls the functions of devices and spaces. Raises `ContractBroken`.
    """
    holds(callable(extension), f"a {kind} is callable; this is {type(extension).__name__}")
    checks = {"device": _device, "space": _space, "strategy": _strategy, "runner": _runner}
    try:
        return checks[kind](extension)
    except (ContractBroken, HwnasError):
        raise
    except Exception as error:
        said = str(error).strip().splitlines()[:1] or ["no reason given"]
        raise ContractBroken(f"it raises {type(error).__name__}: {said[0]}") from error


def _device(folder_of: Callable[[], Any]) -> str:
    folder = folder_of()
    holds(
        hasattr(folder, "iterdir"),
        f"it returns a folder of profiles, e.g. a Path; this returns {type(folder).__name__}",
    )
    files = toml_files(folder)
    holds(files, f"{folder} has profiles (*.toml)")
    names = [read_profile(file).name for file in files]
    taken = {file.name: file for file in profile_files()}
    hidden = [file for file in files if str(taken.get(file.name)) != str(file)]
    said = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if names[5:] else "")
    return "; ".join([said, *(f"hidden by {taken[one.name]}" for one in hidden)])


def _space(make: Callable[..., Any]) -> str:
    shape, classes = IMAGES
    try:
        space = make(shape, classes)
    except UsageError as error:
        return f"not for images of {'x'.join(map(str, shape))}: {error}"
    made = space.architecture(space.random(Random(0)))
    holds(isinstance(made, Architecture), "architecture(random(rng)) is an Architecture")
    holds((made.input_shape, made.num_classes) == IMAGES, "networks take the images asked for")
    holds(space.input_shape == shape and space.num_classes == classes, "the space says them too")
    return ""


def _strategy(kind: Any) -> str:
    from hwnas.search.registry import interface_problem

    problem = interface_problem(kind)
    holds(not problem, problem)
    return ""


def _runner(kind: Any) -> str:
    _takes(kind, ("profile",), (), "a runner is made with a profile")
    if inspect.isclass(kind):
        for name, (places, named) in RUNNER.items():
            method = getattr(kind, name, None)
            holds(callable(method), f"a runner has {name}()")
            told = ", ".join((*places, *(f"{one}=…" for one in named)))
            _takes(method, ("self", *places), named, f"{name}({told}) can be called")
    return ""


def _takes(call: Any, places: tuple[str, ...], named: tuple[str, ...], sentence: str) -> None:
    try:
        signature = inspect.signature(call)
    except (TypeError, ValueError):  # of an extension module
        return
    try:
        signature.bind(*places, **dict.fromkeys(named))
    except TypeError as error:
        raise ContractBroken(f"{sentence}; {error}") from None
