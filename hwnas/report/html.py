"""The report as one HTML page and as Markdown.

The page is self-contained: plotly.js is embedded once, compressed (2.0 MB instead of 4.8 MB; the
browser unpacks it), and a content security policy forbids requests.
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

from hwnas.report import formatting, sentences
from hwnas.report.charts.latency_strip import latency_strip
from hwnas.report.charts.result import result_charts
from hwnas.report.drawings.cell_svg import cell_legend, cell_svgs
from hwnas.report.drawings.network_svg import network_legend, network_svg
from hwnas.report.lineage_table import lineage
from hwnas.report.members_table import members
from hwnas.report.schema import ReportData, Result


def html(report: ReportData) -> str:
    """Return the whole page."""
    results = [_view(report, result) for result in report.results]
    plotly = _plotly() if any(view["charts"] for view in results) else ""
    return (
        environment(for_html=True)
        .get_template("report.html.j2")
        .render(report=report, results=results, plotly=Markup(plotly))
    )


def markdown(report: ReportData) -> str:
    """Return the report as GitHub-flavoured Markdown, without pictures."""
    results = [_view(report, result) for result in report.results]
    text = (
        environment(for_html=False)
        .get_template("report.md.j2")
        .render(report=report, results=results)
    )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def escape_markdown(value: Any) -> Any:
    """Escape a string for a table cell or a sentence; other values are returned as they are."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    text = html_escapes.escape(re.sub(r"\s*[\r\n]+\s*", " ", value), quote=False)
    return Markup(re.sub(r"([\\`*_\[\]|#~])", r"\\\1", text))


def fenced(line: str) -> Markup:
    """Return a code block whose fence is longer than any run of backticks in ``line``."""
    longest = max((len(run) for run in re.findall(r"`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markup(f"{fence}\n{line}\n{fence}")


def _view(report: ReportData, result: Result) -> dict[str, Any]:
    """Return the values that the templates need beside the plain data."""
    valid = report.dataset.valid if report.dataset else 0
    search = report.search_of(result)
    charts = result_charts(result, search, valid)
    blocks = result.architecture.blocks
    return {
        "result": result,
        "fixes_nodes": any(point.live_nodes is not None for point in search),
        "headline": formatting.headline(result),
        "verdict_sentences": sentences.verdict_sentences(result),
        "prediction_error": sentences.prediction_error(result.latency) if result.latency else "",
        "baselines": sentences.baseline_comparison(result, valid),
        "accuracy": sentences.accuracy_sentence(result),
        "strip": Markup(latency_strip(result)),
        "drawing": Markup(network_svg(blocks)),
        "legend": network_legend(blocks),
        "cells": [(title, Markup(svg)) for title, svg in cell_svgs(result.architecture.cells)],
        "cell_legend": cell_legend(result.architecture.cells),
        "charts": {name: Markup(_inline_json(figure)) for name, figure in charts.items()},
        "widths": {name: _widths(figure) for name, figure in charts.items()},
        "family": lineage(result.family),
        "members": members(result.candidates),
        "decimals": formatting.decimals([block.predicted_ms for block in blocks]),
    }


def environment(*, for_html: bool) -> Environment:
    """Return the environment of the templates, for HTML or for Markdown."""
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
    """Return the smallest and the largest width of a chart in pixels; below, it scrolls."""
    meta = figure["layout"].get("meta", {})
    return {"min": meta.get("min_width", 0), "max": meta.get("max_width", 1200)}


@cache
def _plotly() -> str:
    """Return plotly.js, gzipped, in base64; the bytes are reproducible."""
    library: Any = import_module("plotly.offline")
    source: str = library.get_plotlyjs()
    return b64encode(gzip.compress(source.encode(), 9, mtime=0)).decode()
