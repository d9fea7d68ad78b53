"""The table of lowerings and its documentation."""

from __future__ import annotations

import re

import torch

from hwnas.export.lowering.registry import LOWER
from tests.support.paths import ROOT


def documented() -> dict[str, set[str]]:
    """Return the operations of each row in the table of docs/export.md."""
    section = (ROOT / "docs" / "export.md").read_text().split("## Operations")[1]
    rows = re.findall(r"^\| ([a-z ,]+) \| (`.+`) \|$", section, re.MULTILINE)
    return {subject: set(re.findall(r"`(\w+)`", cells)) for subject, cells in rows}


def test_the_documentation_lists_every_operation_of_the_table() -> None:
    listed = set().union(*documented().values())
    assert listed == {op for op in LOWER if not op.startswith("_")}


def test_a_row_of_the_documentation_holds_the_lowerings_of_one_file() -> None:
    files = [{LOWER[op].__module__ for op in operations} for operations in documented().values()]
    assert all(len(modules) == 1 for modules in files)
    assert len(set().union(*files)) == len(files)


def test_every_operation_of_the_table_exists_in_pytorch() -> None:
    assert [op for op in LOWER if not hasattr(torch.ops.aten, op)] == []
