"""Extensions by entry points: built-ins are named in the same form and imported when asked for."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from hwnas.errors import UnknownName

GROUPS = {
    "strategy": "hwnas.strategies",
    "space": "hwnas.spaces",
    "runner": "hwnas.runners",
    "exporter": "hwnas.exporters",
    "latency model": "hwnas.latency_models",
}


def names(kind: str) -> list[str]:
    """Return the names installed of a kind, sorted."""
    return sorted({point.name for point in _points(kind)})


def load(kind: str, name: str) -> Any:
    """Import and return the extension of that kind and name."""
    for point in _points(kind):
        if point.name == name:
            return point.load()
    raise UnknownName(kind, name, names(kind))


def _points(kind: str) -> list[EntryPoint]:
    return list(entry_points(group=GROUPS[kind]))
