"""Quick checks of the interface of an extension; `hwnas plugins` checks all installed ones.

They neither measure nor train; `check_runner`, `check_space` and `check_strategy` do.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from random import Random
from typing import Any

from hwnas.architecture.architecture import Architecture
from hwnas.devices.profile import profile_files, read_profile, toml_files
from hwnas.errors import HwnasError, UsageError, first_line
from hwnas.testing.contract import ContractBroken, require

IMAGES = ((3, 32, 32), 10)
"""Input shape and number of classes for the check of a space."""
RUNNER_METHODS = {
    "probe": ((), ()),
    "measure": (("subjects",), ("calibrated_reference_ms", "seed", "progress")),
    "close": ((), ()),
    "__enter__": ((), ()),
    "__exit__": (("kind", "error", "traceback"), ()),
}
"""Positional and keyword arguments of a runner's methods."""


def check_interface(kind: str, extension: Any) -> str:
    """Check the object of an entry point of a kind (a key of `hwnas.plugins.GROUPS`).

    Devices and spaces are called, strategies and runners only inspected. Returns a note for users,
    e.g. the names of a device folder's profiles; empty if there is none. Raises `ContractBroken`.
    """
    require(callable(extension), f"a {kind} is callable; this is {type(extension).__name__}")
    checks = {"device": _device, "space": _space, "strategy": _strategy, "runner": _runner}
    try:
        return checks[kind](extension)
    except (ContractBroken, HwnasError):
        raise
    except Exception as error:
        reason = first_line(error, "no reason given")
        raise ContractBroken(f"it raises {type(error).__name__}: {reason}") from error


def _device(get_folder: Callable[[], Any]) -> str:
    folder = get_folder()
    require(
        hasattr(folder, "iterdir"),
        f"it returns a folder of profiles, e.g. a Path; this returns {type(folder).__name__}",
    )
    files = toml_files(folder)
    require(files, f"{folder} contains profiles (*.toml)")
    names = [read_profile(file).name for file in files]
    used = {file.name: file for file in profile_files()}
    hidden = [file for file in files if str(used.get(file.name)) != str(file)]
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if names[5:] else "")
    return "; ".join([listed, *(f"hidden by {used[file.name]}" for file in hidden)])


def _space(make: Callable[..., Any]) -> str:
    shape, classes = IMAGES
    try:
        space = make(shape, classes)
    except UsageError as error:
        return f"not for images of {'x'.join(map(str, shape))}: {error}"
    network = space.architecture(space.random(Random(0)))
    require(isinstance(network, Architecture), "architecture(random(rng)) is an Architecture")
    require((network.input_shape, network.num_classes) == IMAGES, "networks fit the images")
    require(
        space.input_shape == shape and space.num_classes == classes,
        "the space has the images' shape and classes",
    )
    return ""


def _strategy(kind: Any) -> str:
    from hwnas.search.registry import interface_problem

    problem = interface_problem(kind)
    require(not problem, problem)
    return ""


def _runner(kind: Any) -> str:
    _takes(kind, ("profile",), (), "a runner is made from a profile")
    if inspect.isclass(kind):
        for name, (positional, keywords) in RUNNER_METHODS.items():
            method = getattr(kind, name, None)
            require(callable(method), f"a runner has {name}()")
            arguments = ", ".join((*positional, *(f"{keyword}=..." for keyword in keywords)))
            _takes(method, ("self", *positional), keywords, f"{name}({arguments}) can be called")
    return ""


def _takes(
    call: Any, positional: tuple[str, ...], keywords: tuple[str, ...], requirement: str
) -> None:
    try:
        signature = inspect.signature(call)
    except (TypeError, ValueError):  # a function of an extension module
        return
    try:
        signature.bind(*positional, **dict.fromkeys(keywords))
    except TypeError as error:
        raise ContractBroken(f"{requirement}; {error}") from None
