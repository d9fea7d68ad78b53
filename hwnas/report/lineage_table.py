"""The family tree of a search that grows networks from each other, as rows of a table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from hwnas.report.schema import FamilyRow

SHOWN = 60
"""Networks that a page shows at most; ``report.json`` has all."""


LISTED = 5
"""Steps of a network that a page lists; all are in ``report.json``."""


class Branch(NamedTuple):
    """A network at its place in the tree."""

    depth: int
    """Generations from the start network."""
    row: FamilyRow

    @property
    def said(self) -> str:
        """What was done to the parent; of many steps the first."""
        steps = self.row.steps
        if not steps:
            return "trained on" if self.row.parent else "start"
        more = [f"… {len(steps) - LISTED} more"] if len(steps) > LISTED else []
        return ", ".join([*steps[:LISTED], *more])


def tree(family: Iterable[FamilyRow]) -> list[Branch]:
    """Return every network after its parent, the most accurate child first.

    Of a large family the ancestors of the chosen network are shown, and the most accurate others.
    """
    rows = list(family)
    names = {row.name: row for row in rows}
    shown = _shown(rows, names)
    children: dict[str, list[FamilyRow]] = {}
    for row in rows:
        if row.name in shown:
            parent = row.parent if row.parent in names else ""
            children.setdefault(parent, []).append(row)
    found: list[Branch] = []
    waiting = [Branch(0, row) for row in reversed(children.get("", []))]
    while waiting:
        branch = waiting.pop()
        found.append(branch)
        born = sorted(children.get(branch.row.name, []), key=lambda row: row.accuracy or 0.0)
        waiting += [Branch(branch.depth + 1, row) for row in born]
    return found


def _shown(rows: list[FamilyRow], names: dict[str, FamilyRow]) -> set[str]:
    def with_ancestors(row: FamilyRow) -> set[str]:
        found = {row.name}
        while row.parent in names and row.parent not in found:
            row = names[row.parent]
            found.add(row.name)
        return found

    ordered = sorted(rows, key=lambda row: (not row.chosen, -(row.accuracy or 0.0)))
    shown: set[str] = set()
    for row in ordered:
        wanted = shown | with_ancestors(row)
        if len(wanted) <= SHOWN:
            shown = wanted
    return shown
