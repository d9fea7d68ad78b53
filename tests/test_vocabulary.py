"""Identifiers are the field's words: a variable is named after what it is."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT

VAGUE_NAMES = {"one", "found", "said", "told", "asked", "kept"}
"""Names that do not describe a value: what is *one*, who *said* it?"""


def identifiers(tree: ast.Module) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name) | ast.arg(arg=name) | ast.Attribute(attr=name):
                yield name, node.lineno
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, node.lineno
            case ast.keyword(arg=str(name)) | ast.ExceptHandler(name=str(name)):
                yield name, node.lineno
            case ast.alias(name=name, asname=alias):
                yield (alias or name).rpartition(".")[2], node.lineno


@pytest.mark.parametrize("folder", ["hwnas", "tests", "tools"])
def test_no_identifier_is_a_vague_word(folder: str) -> None:
    vague = [
        f"{file.relative_to(ROOT)}:{line} {name}"
        for file in sorted((ROOT / folder).rglob("*.py"))
        for name, line in identifiers(ast.parse(file.read_text(encoding="utf-8")))
        if name.lower().strip("_") in VAGUE_NAMES
    ]
    assert vague == []


def test_the_check_sees_each_kind_of_identifier() -> None:
    code = "import a.one\ndef found(told=1):\n    kept.said = f(asked=told)\nclass One: ...\n"
    names = {name.lower() for name, _ in identifiers(ast.parse(code))}
    assert names >= VAGUE_NAMES


def test_the_glossary_has_the_terms_of_the_code() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = [line for line in text.partition("## Glossary")[2].splitlines() if line.startswith("| ")]
    assert len(rows) > 40
    assert Path(__file__).name in text
