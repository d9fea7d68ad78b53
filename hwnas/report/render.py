"""Writing a report: ``report.json`` and its Markdown and HTML renderings."""

from __future__ import annotations

from pathlib import Path

from hwnas.files import write_atomic, write_json
from hwnas.report.html import html, markdown
from hwnas.report.report import Report


def write(report: Report, folder: Path) -> None:
    """Write ``report.json`` and its renderings; each file is whole at any moment."""
    write_json(folder / "report.json", report)
    render(report, folder)


def render(report: Report, folder: Path) -> None:
    """Write ``report.md`` and ``report.html`` only."""
    write_atomic(folder / "report.md", markdown(report))
    write_atomic(folder / "report.html", html(report))
