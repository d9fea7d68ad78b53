"""Rendering: the report as one HTML page and as Markdown.

The page asks the network for nothing: plotly.js is inside, once, compressed (2.0 MB instead of
4.8 MB; the browser unpacks it), and a content security policy forbids requests.
"""

from __future__ import annotations

import gzip
import html as html_escapes
import re
from base64 import b64encode
from functools import cache
from importlib import import_module
from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from hwnas.report import formatting
from hwnas.report.charts.latency_strip import strip
from hwnas.report.charts.result import figures
from hwnas.report.drawings.cell_svg import cell_drawings, cell_legend
from hwnas.report.drawings.network_svg import drawing, legend
from hwnas.report.lineage_table import tree
from hwnas.report.report import Report, Result
from hwnas.report.summary import accuracy_line


def html(report: Report) -> str:
    """Return the whole page."""
    results = [_view(report, result) for result in report.results]
    plotly = _plotly() if any(view["charts"] for view in results) else ""
    return (
        _environment(for_html=True)
        .get_template("report.html.j2")
        .render(report=report, results=results, plotly=Markup(plotly))
    )


def markdown(report: Report) -> str:
    """Return the report as GitHub-flavoured Markdown, without pictures."""
    results = [_view(report, result) for result in report.results]
    text = (
        _environment(for_html=False)
        .get_template("report.md.j2")
        .render(report=report, results=results)
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def escape_markdown(value: Any) -> Any:
    """Make a string harmless inside a table cell or a sentence; other values pass."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    text = html_escapes.escape(re.sub(r"\s*[\r\n]+\s*", " ", value), quote=False)
    return Markup(re.sub(r"([\\`*_\[\]|#~])", r"\\\1", text))


def fenced(line: str) -> Markup:
    """Return a code block whose fence is longer than any run of backticks in ``line``."""
    longest = max((len(run) for run in re.findall(r"`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markup(f"{fence}\n{line}\n{fence}")


def _view(report: Report, result: Result) -> dict[str, Any]:
    """Collect what the templates need and plain data does not say."""
    valid = report.dataset.valid if report.dataset else 0
    search = report.search_of(result)
    charts = figures(result, search, valid)
    blocks = result.architecture.blocks
    return {
        "result": result,
        "settles": any(point.live_nodes is not None for point in search),
        "headline": formatting.headline(result),
        "certainty": formatting.certainty(result),
        "surprise": formatting.surprise(result.latency) if result.latency else "",
        "baselines": formatting.against_baselines(result, valid),
        "accuracy": accuracy_line(result),
        "strip": Markup(strip(result)),
        "drawing": Markup(drawing(blocks)),
        "legend": legend(blocks),
        "cells": [(title, Markup(svg)) for title, svg in cell_drawings(result.architecture.cells)],
        "cell_legend": cell_legend(result.architecture.cells),
        "charts": {name: Markup(_inline_json(figure)) for name, figure in charts.items()},
        "widths": {name: _widths(figure) for name, figure in charts.items()},
        "family": tree(result.family),
        "places": formatting.places([block.predicted_ms for block in blocks]),
    }


def _environment(*, for_html: bool) -> Environment:
    environment = Environment(
        loader=PackageLoader("hwnas", "report/templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=None if for_html else escape_markdown,
    )
    untyped: Any = environment
    untyped.globals["formatting"] = formatting
    untyped.filters["fenced"] = fenced
    return environment


def _inline_json(figure: dict[str, Any]) -> str:
    """Return JSON that cannot end the ``<script>`` element around it."""
    return msgspec.json.encode(figure).decode().replace("<", "\\u003c")


def _widths(figure: dict[str, Any]) -> dict[str, int]:
    """Return the widths in pixels below which a chart scrolls, and above which it stays."""
    meta = figure["layout"].get("meta", {})
    return {"least": meta.get("min_width", 0), "most": meta.get("max_width", 1200)}


@cache
def _plotly() -> str:
    """Return plotly.js, gzipped, in base64: the same bytes every time."""
    library: Any = import_module("plotly.offline")
    source: str = library.get_plotlyjs()
    return b64encode(gzip.compress(source.encode(), 9, mtime=0)).decode()
