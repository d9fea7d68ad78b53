"""YAML and JSON files of nested mappings, with the position of every row; repeated names stay.

Only mappings, text and numbers are read: no tags, no aliases, nothing that executes code.
"""

from __future__ import annotations

import json
from typing import NamedTuple, cast

import yaml

from hwnas.errors import InvalidFile

MAX_DEPTH = 4
"""Deepest nesting: file, tables, rows, fields of a row."""
PLAIN_TAGS = {
    f"tag:yaml.org,2002:{kind}"
    for kind in ("map", "seq", "str", "int", "float", "bool", "null", "timestamp", "value", "merge")
}
"""Tags that YAML resolves implicitly; any other tag is explicit in the file."""


class Entry(NamedTuple):
    """A name in a mapping and its value: text, a number, or nested entries."""

    place: str
    name: str
    value: object

    @property
    def inside(self) -> tuple[Entry, ...] | None:
        """The entries of a nested mapping, or ``None`` for any other value."""
        entries = cast("tuple[Entry, ...]", self.value)
        return entries if isinstance(self.value, tuple) else None


def read_mapping(file: str, text: str) -> tuple[Entry, ...]:
    """Return the entries of a file that is one mapping, in YAML or JSON."""
    try:
        top = _json(text) if text.lstrip().startswith("{") else _yaml(file, text)
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise InvalidFile(file, f"{line}{error.problem or 'is not valid YAML'}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise InvalidFile(file, " ".join(str(error).split())) from None
    except RecursionError:
        raise InvalidFile(file, "is nested too deeply to be a latency table") from None
    if not isinstance(top, tuple):
        raise InvalidFile(file, "expected a mapping from layer names to latencies")
    return cast("tuple[Entry, ...]", top)


def _json(text: str) -> object:
    """Parse JSON; a row's place is its number within its mapping."""

    def entries(pairs: list[tuple[str, object]]) -> tuple[Entry, ...]:
        return tuple(Entry(f"row {row}", name, value) for row, (name, value) in enumerate(pairs, 1))

    return json.loads(text, object_pairs_hook=entries)


def _yaml(file: str, text: str) -> object:
    seen: set[int] = set()

    def plain(node: yaml.Node, deep: int) -> object:
        line = node.start_mark.line + 1
        if id(node) in seen or node.tag not in PLAIN_TAGS:
            raise InvalidFile(file, f"line {line}: aliases and tags are not supported")
        seen.add(id(node))
        if isinstance(node, yaml.ScalarNode):
            return str(node.value)
        if not isinstance(node, yaml.MappingNode) or deep > MAX_DEPTH:
            raise InvalidFile(file, f"line {line}: expected a name and its value")
        return tuple(
            Entry(f"line {key.start_mark.line + 1}", str(key.value), plain(value, deep + 1))
            for key, value in cast("list[tuple[yaml.ScalarNode, yaml.Node]]", node.value)
        )

    node = yaml.compose(text, Loader=yaml.SafeLoader)
    return () if node is None else plain(node, 1)
