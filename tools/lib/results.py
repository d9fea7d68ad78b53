"""Results files of the programs: Markdown with the command, the date, the machine and tables.

A program writes into ``results/`` beside itself, so that a table is found where its program is.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from math import isnan
from pathlib import Path

from hwnas.devices.fingerprint import hardware
from hwnas.files import write_json

ROOT = Path(__file__).parents[2]
SHARED_DATA = ROOT.parent / "shared" / "data"
"""Published measurements and data sets, beside the checkout; ``--data DIR`` names another place."""


def results_folder(program: str) -> Path:
    """Return the ``results`` folder beside a program; ``program`` is its ``__file__``."""
    return Path(program).parent / "results"


def machine() -> str:
    """Return processor, cores, memory and Python version in one line."""
    return f"{hardware()}, Python {platform.python_version()}"


def command(program: str, *arguments: str) -> str:
    """Return how a program is called; ``program`` is its ``__file__``."""
    module = ".".join(Path(program).resolve().relative_to(ROOT).with_suffix("").parts)
    return " ".join(["python -m", module, *filter(None, arguments)])


def write_results(
    path: Path, title: str, called_as: str, *parts: str, conditions: str = "", append: bool = False
) -> str:
    """Write a results file and return its text.

    ``parts`` are paragraphs and tables in Markdown; ``conditions`` is what else a reader must know
    of the measurement, such as the versions of libraries. With ``append`` an earlier file grows by
    a section.
    """
    level = "##" if append else "#"
    conditions = f", {conditions}" if conditions else ""
    head = f"`{called_as}`, {date.today()}, {machine()}{conditions}."
    text = "\n\n".join([f"{level} {title}", head, *filter(None, parts)]) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a" if append else "w", encoding="utf-8") as file:
        file.write(f"\n{text}" if append and file.tell() else text)
    return text


def write_part(
    program: str,
    name: str,
    title: str,
    arguments: str,
    *parts: str,
    figures: object = None,
    out: Path | None = None,
) -> str:
    """Write ``results/NAME.md`` beside a program of several parts, and return its text.

    ``arguments`` are those of the call, ``parts`` as for `write_results`; with ``out`` the
    ``figures`` are written there as JSON.
    """
    path, called_as = results_folder(program) / f"{name}.md", command(program, arguments)
    text = write_results(path, f"{title}: {name.replace('_', ', ')}", called_as, *parts)
    if out is not None:
        write_json(out, figures)
    return text


def sections(parts: Iterable[tuple[str, str]]) -> str:
    """Return titled sections as Markdown."""
    return "\n\n".join(f"## {title}\n\n{content}" for title, content in parts)


def table(titles: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown; numbers as `cell` formats them."""
    lines = [f"| {' | '.join(titles)} |", f"|{' --- |' * len(titles)}"]
    lines += [f"| {' | '.join(map(cell, row))} |" for row in rows]
    return "\n".join(lines)


def table_of(rows: Sequence[Mapping[str, object]]) -> str:
    """Return rows by name as a table; the columns are all names in the order they first occur."""
    titles = list(dict.fromkeys(name for row in rows for name in row))
    lines = [f"| {' | '.join(titles)} |", f"|{' --- |' * len(titles)}"]
    lines += [f"| {' | '.join(str(row.get(name, '')) for name in titles)} |" for row in rows]
    return "\n".join(lines)


def cell(value: object) -> str:
    """Return a number with three decimals up to 1 and one above; a dash where it is no number."""
    if not isinstance(value, float):
        return str(value)
    if isnan(value):
        return "-"
    return f"{value:.3f}" if abs(value) <= 1 else f"{value:.1f}"
