"""Extensions by entry points; built-in ones are declared in the same way.

They are imported on demand. If two packages declare the same name, hwnas's own takes precedence,
then the first by package name.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, NamedTuple

from hwnas.errors import HwnasError, UnknownName, first_line

GROUPS = {
    "device": "hwnas.devices",
    "strategy": "hwnas.strategies",
    "space": "hwnas.spaces",
    "runner": "hwnas.runners",
}


State = Literal["ok", "hidden", "broken"]
Check = Callable[[str, Any], str]
"""Takes a kind and the object of an entry point; returns a note, raises if it is invalid."""


class Plugin(NamedTuple):
    """An installed extension and its state."""

    kind: str
    name: str
    package: str
    version: str
    value: str
    """Module and attribute, e.g. ``acme.search:Annealing``."""
    state: State
    """``hidden``: an extension of the same name takes precedence, which is not an error."""
    note: str = ""
    """The reason why it is broken or hidden, or other information."""


def names(kind: str) -> list[str]:
    """Return the names of all installed extensions of a kind, sorted."""
    return sorted({point.name for point in _points(kind)})


def load(kind: str, name: str) -> Any:
    """Import and return the extension of that kind and name.

    Raises `UnknownName`, or `HwnasError` for an extension that cannot be imported.
    """
    for point in _points(kind):
        if point.name == name:
            extension, problem = _load(point)
            if problem:
                raise HwnasError(f"{kind} {name!r} of package {_package(point)}: {problem}")
            return extension
    raise UnknownName(kind, name, names(kind))


def installed(check: Check) -> list[Plugin]:
    """Load and check all installed extensions; hidden ones are not loaded."""
    plugins: list[Plugin] = []
    for kind in GROUPS:
        first: dict[str, str] = {}
        for point in _points(kind):
            package, version = _package(point), point.dist.version if point.dist else "?"
            state, note = "hidden", f"by the extension of the same name in {first.get(point.name)}"
            if point.name not in first:
                first[point.name] = package
                state, note = _check(kind, point, check)
            plugins.append(Plugin(kind, point.name, package, version, point.value, state, note))
    return plugins


def _check(kind: str, point: EntryPoint, check: Check) -> tuple[State, str]:
    extension, problem = _load(point)
    if problem:
        return "broken", problem
    try:
        return "ok", check(kind, extension)
    except Exception as error:
        return "broken", f"{point.value}: {error}"


def _load(point: EntryPoint) -> tuple[Any, str]:
    """Return the object of an entry point, or the reason why foreign code failed to import."""
    try:
        return point.load(), ""
    except Exception as error:
        reason = first_line(error, "no reason given")
        return None, f"{point.value} cannot be loaded: {type(error).__name__}: {reason}"


def _points(kind: str) -> list[EntryPoint]:
    """Return the entry points of a kind in order of precedence."""
    points = entry_points(group=GROUPS[kind])
    return sorted(
        points, key=lambda point: (point.name, _package(point) != "hwnas", _package(point))
    )


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "?"
