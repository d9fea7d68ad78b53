"""`python -m tools` lists the programs for maintainers, each with the question it answers."""

from __future__ import annotations

import ast
from pathlib import Path

FOLDER = Path(__file__).parent


def programs() -> dict[str, str]:
    """Return the first line of each program's docstring, by the module that runs it."""
    questions: dict[str, str] = {}
    for file in sorted(FOLDER.rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        if "\nif __name__ == " in text and file != Path(__file__):
            module = ".".join(("tools", *file.relative_to(FOLDER).with_suffix("").parts))
            questions[module] = (ast.get_docstring(ast.parse(text)) or "").split("\n")[0]
    return questions


if __name__ == "__main__":
    for name, question in programs().items():
        print(f"python -m {name}\n    {question}")
