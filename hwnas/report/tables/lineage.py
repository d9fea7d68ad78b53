"""The lineage of networks that were grown from each other, as rows of a table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from hwnas.report.candidate_rows import FamilyRow

MAX_NETWORKS = 60
"""Most networks that a page shows; ``report.json`` has all."""

MAX_STEPS = 5
"""Most changes of a network that a page lists; ``report.json`` has all."""


class Descendant(NamedTuple):
    """A network at its place in the tree."""

    depth: int
    """Generations from the start network."""
    row: FamilyRow

    @property
    def changes(self) -> str:
        """Changes to the parent, shortened if there are many."""
        steps = self.row.steps
        if not steps:
            return "trained longer" if self.row.parent else "start"
        more = [f"… {len(steps) - MAX_STEPS} more"] if len(steps) > MAX_STEPS else []
        return ", ".join([*steps[:MAX_STEPS], *more])


def lineage(family: Iterable[FamilyRow]) -> list[Descendant]:
    """Return every network after its parent, the most accurate child first.

    At most `MAX_NETWORKS`: the chosen network and its ancestors, then the most accurate others.
    """
    rows = list(family)
    names = {row.name: row for row in rows}
    shown = _shown(rows, names)
    children: dict[str, list[FamilyRow]] = {}
    for row in rows:
        if row.name in shown:
            parent = row.parent if row.parent in names else ""
            children.setdefault(parent, []).append(row)
    ordered: list[Descendant] = []
    waiting = [Descendant(0, row) for row in reversed(children.get("", []))]
    while waiting:
        descendant = waiting.pop()
        ordered.append(descendant)
        grown = sorted(children.get(descendant.row.name, []), key=lambda row: row.accuracy or 0.0)
        waiting += [Descendant(descendant.depth + 1, row) for row in grown]
    return ordered


def _shown(rows: list[FamilyRow], names: dict[str, FamilyRow]) -> set[str]:
    def with_ancestors(row: FamilyRow) -> set[str]:
        line = {row.name}
        while row.parent in names and row.parent not in line:
            row = names[row.parent]
            line.add(row.name)
        return line

    ordered = sorted(rows, key=lambda row: (not row.chosen, -(row.accuracy or 0.0)))
    shown: set[str] = set()
    for row in ordered:
        wanted = shown | with_ancestors(row)
        if len(wanted) <= MAX_NETWORKS:
            shown = wanted
    return shown
