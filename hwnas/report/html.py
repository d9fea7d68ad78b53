"""The report as one HTML page and as Markdown.

The page is self-contained, and a content security policy forbids requests. Its charts are inline
SVG: they need no script, no library and no network.
"""

from __future__ import annotations

import html as html_escapes
import re
from typing import Any

import msgspec
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from hwnas.report import formatting, sentences
from hwnas.report.charts.latency_strip import latency_strip
from hwnas.report.charts.result import result_charts
from hwnas.report.drawings.cell_svg import cell_legend, cell_svgs
from hwnas.report.drawings.network_svg import network_legend, network_svg
from hwnas.report.schema import ReportData, Result
from hwnas.report.tables.candidates import shown_candidates
from hwnas.report.tables.lineage import lineage
from hwnas.report.tables.members import members


def html(report: ReportData) -> str:
    """Return the whole page."""
    results = [_view(report, result) for result in report.results]
    return (
        environment(for_html=True)
        .get_template("report.html.j2")
        .render(report=report, results=results)
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


COMMAND = re.compile(r"`([^`\n]+)`")
"""A command in a sentence; `re.split` gives text and commands by turns."""


def html_prose(text: str) -> Markup:
    """Return a sentence in HTML, its commands as code."""
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if place % 2 else part
        for place, part in enumerate(COMMAND.split(text))
    )


def markdown_prose(text: str) -> Markup:
    """Return a sentence in Markdown, its commands as code unless they hold signs of HTML."""
    return Markup("").join(
        Markup(f"`{part}`")
        if place % 2 and not {*"<>&"} & {*part}
        else escape_markdown(f"`{part}`" if place % 2 else part)
        for place, part in enumerate(COMMAND.split(text))
    )


def fenced(line: str) -> Markup:
    """Return a code block whose fence is longer than any run of backticks in ``line``."""
    longest = max((len(run) for run in re.findall(r"`+", line)), default=0)
    fence = "`" * max(3, longest + 1)
    return Markup(f"{fence}\n{line}\n{fence}")


def _view(report: ReportData, result: Result) -> dict[str, Any]:
    """Return the values that the templates need beside the plain data."""
    valid = report.dataset.valid if report.dataset else 0
    search = report.search_of(result)
    blocks = result.architecture.blocks
    candidates = shown_candidates(result.candidates)
    shown = msgspec.structs.replace(result, candidates=candidates)
    return {
        "result": result,
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
        "charts": {
            name: Markup(chart) for name, chart in result_charts(shown, search, valid).items()
        },
        "family": lineage(result.family),
        "candidates": candidates,
        "members": members(candidates),
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
    untyped.filters["prose"] = html_prose if for_html else markdown_prose
    return environment
