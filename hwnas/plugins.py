"""Extensions by entry points: built-ins are named in the same form and imported when asked for.

Two packages may declare one name: hwnas's own wins, then the first by package name.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, NamedTuple

from hwnas.errors import HwnasError, UnknownName

GROUPS = {
    "device": "hwnas.devices",
    "strategy": "hwnas.strategies",
    "space": "hwnas.spaces",
    "runner": "hwnas.runners",
}


State = Literal["ok", "hidden", "broken"]
Check = Callable[[str, Any], str]
"""Takes a kind and what an entry point names; returns a note, or raises what is wrong."""


class Plugin(NamedTuple):
    """An extension that is installed, and whether it can be used."""

    kind: str
    name: str
    package: str
    version: str
    value: str
    """Module and attribute, e.g. ``acme.search:Annealing``."""
    state: State
    """``hidden``: another one of that name is used, which is no fault of either."""
    note: str = ""
    """Why it is broken, what hides it, or what else is to be known."""


def names(kind: str) -> list[str]:
    """Return the names installed of a kind, sorted."""
    return sorted({point.name for point in _points(kind)})


def load(kind: str, name: str) -> Any:
    """Import and return the extension of that kind and name.

    Raises `UnknownName`, or `HwnasError` for one that is declared and cannot be imported.
    """
    for point in _points(kind):
        if point.name == name:
            found, problem = _loaded(point)
            if problem:
                raise HwnasError(f"{kind} {name!r} of package {_package(point)}: {problem}")
            return found
    raise UnknownName(kind, name, names(kind))


def installed(check: Check) -> list[Plugin]:
    """Load and check every extension there is; hidden ones are not loaded."""
    found: list[Plugin] = []
    for kind in GROUPS:
        first: dict[str, str] = {}
        for point in _points(kind):
            package, version = _package(point), point.dist.version if point.dist else "?"
            state, note = "hidden", f"by the one of the same name in {first.get(point.name)}"
            if point.name not in first:
                first[point.name] = package
                state, note = _checked(kind, point, check)
            found.append(Plugin(kind, point.name, package, version, point.value, state, note))
    return found


def _checked(kind: str, point: EntryPoint, check: Check) -> tuple[State, str]:
    extension, problem = _loaded(point)
    if problem:
        return "broken", problem
    try:
        return "ok", check(kind, extension)
    except Exception as error:
        return "broken", f"{point.value}: {error}"


def _loaded(point: EntryPoint) -> tuple[Any, str]:
    """Return what an entry point names, or why there is nothing: its import runs foreign code."""
    try:
        return point.load(), ""
    except Exception as error:
        said = str(error).strip().splitlines()[:1] or ["no reason given"]
        return None, f"{point.value} cannot be loaded: {type(error).__name__}: {said[0]}"


def _points(kind: str) -> list[EntryPoint]:
    """Return the entry points of a kind in the order in which one of a name is taken."""
    points = entry_points(group=GROUPS[kind])
    return sorted(
        points, key=lambda point: (point.name, _package(point) != "hwnas", _package(point))
    )


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "?"
