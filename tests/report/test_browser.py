"""The pages in a browser: readable at all widths, dark and printed, without errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hwnas.data.photos.labelled import ReadingOptions
from hwnas.evaluation.classifier import find_classifier
from hwnas.evaluation.evaluate import evaluate_model
from hwnas.evaluation.page import page as page_of_evaluation
from hwnas.report.report import Report
from hwnas.specialize.comparison.compare import compare_runs
from hwnas.specialize.comparison.page import page as page_of_comparison
from tests.report.test_cell_networks import SPACE, report_of
from tests.support.browser import WIDTHS, Browser, Page, chromium
from tests.support.data import colours
from tests.support.data.colours import BLUE, RED
from tests.support.reporting.sample_report import fleet_report, measured_report, table_report

PROGRAM = chromium()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="chromium is not installed")

REPORTS = {
    "measured": measured_report,
    "table": table_report,
    "fleet": fleet_report,
    "cells": lambda: report_of(SPACE.default),
}

WIDER_THAN_THE_PAGE = """
[...document.querySelectorAll("body *")].filter(element =>
  element.getBoundingClientRect().right > innerWidth + 1 && !element.closest(".scroll")
  && getComputedStyle(element).overflowX === "visible" && !element.closest("pre")
).map(element => element.outerHTML.slice(0, 120))
"""

MARKS = """
[...document.querySelectorAll(".chart")].map(chart => {
  const marks = [...chart.querySelectorAll(".line, .symbol path, td")].filter(mark => {
    const box = mark.getBoundingClientRect();
    return box.width + box.height > 0;
  });
  const plots = [...chart.querySelectorAll("svg.marks")];
  const outside = marks.filter(mark => mark.closest("svg.marks")).filter(mark => {
    const box = mark.getBoundingClientRect();
    const plot = mark.closest("svg.marks").getBoundingClientRect();
    return box.left < plot.left - 11 || box.right > plot.right + 11
      || box.top < plot.top - 11 || box.bottom > plot.bottom + 11;
  });
  return [chart.className, marks.length, outside.length,
    Math.min(...plots.map(plot => plot.getBoundingClientRect().width))];
})
"""

NAMES_WHEN_SCROLLED = """
[...document.querySelectorAll(".scroll")].filter(box =>
  box.scrollWidth > box.clientWidth && box.querySelectorAll("tbody tr").length > 1
).map(box => {
  box.scrollLeft = box.scrollWidth;
  const left = box.getBoundingClientRect().left;
  return [...box.querySelectorAll("tbody tr")].map(row => {
    const [name] = [...row.children].filter(cell => cell.offsetWidth);
    const shown = name.getBoundingClientRect();
    const lines = shown.height / parseFloat(getComputedStyle(name).lineHeight);
    return [name.innerText, shown.left - left, shown.width / box.clientWidth, lines];
  });
})
"""
"""Text, distance from the left edge, share of the width, and height in lines of the first cell of
each row, in tables that are scrolled to their right end."""

SMALLEST_TEXT = """
Math.min(...[...document.querySelectorAll(".plot text, .strip text, td, p, li, dd")].map(
  text => parseFloat(getComputedStyle(text).fontSize)))
"""

CONTRASTS = """
(() => {
  const probe = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgb = colour => {
    probe.clearRect(0, 0, 1, 1); probe.fillStyle = colour; probe.fillRect(0, 0, 1, 1);
    return [...probe.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const luminance = colour => rgb(colour).map(part => part / 255).map(
    part => part <= .03928 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4
  ).reduce((sum, part, i) => sum + part * [.2126, .7152, .0722][i], 0);
  const paper = luminance(getComputedStyle(document.body).backgroundColor);
  const ratio = colour => {
    const [low, high] = [paper, luminance(colour)].sort((a, b) => a - b);
    return (high + .05) / (low + .05);
  };
  const style = element => getComputedStyle(element);
  const of = (selector, name) => [...document.querySelectorAll(selector)].map(
    element => ratio(style(element)[name]));
  return [paper, Math.min(...of("p, li, td, dd, dt, h3", "color"), ...of(".plot text", "fill")),
    Math.min(...of(".chart .line", "stroke"), ...of(".chart .symbol path:not(.band)", "stroke"))];
})()
"""
"""Luminance of the page, least contrast of text to it (WCAG), and of the marks of charts."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert PROGRAM is not None
    with Browser.running(PROGRAM) as running:
        yield running


@pytest.fixture(params=REPORTS)
def page(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    report: Report = REPORTS[request.param]()
    report.render(tmp_path)
    return tmp_path / "report.html"


def test_a_page_fits_every_width_and_each_chart_has_marks(browser: Browser, page: Path) -> None:
    for width in WIDTHS:
        opened = Page(browser, page, width)
        assert opened.problems == []
        assert opened.evaluate("innerWidth") == width
        assert opened.evaluate("document.documentElement.scrollWidth") <= width
        assert opened.evaluate(WIDER_THAN_THE_PAGE) == []
        charts = opened.evaluate(MARKS)
        assert charts
        for name, marks, outside, plot_px in charts:
            assert marks > 1 and not outside, (name, marks, outside)
            assert plot_px is None or plot_px > 0.6 * min(width, 640), (name, plot_px)
        assert opened.evaluate(SMALLEST_TEXT) >= 11


def test_a_wide_table_on_a_phone_keeps_the_names_of_its_rows_in_view(
    browser: Browser, tmp_path: Path
) -> None:
    measured_report().render(tmp_path)
    tables = Page(browser, tmp_path / "report.html", 360).evaluate(NAMES_WHEN_SCROLLED)
    names = [[name for name, *_ in rows] for rows in tables]
    assert any("mbconv k3" in " ".join(rows) for rows in names), "the blocks"
    assert len(tables) >= 2
    for name, left_px, share, lines in (row for rows in tables for row in rows):
        assert name.strip()
        assert abs(left_px) <= 1 and share < 0.65, name
        assert lines < 4, f"{name}: a word is broken into letters"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_marks_stand_out_on_light_and_dark_pages(
    scheme: str, browser: Browser, tmp_path: Path
) -> None:
    fleet_report().render(tmp_path)
    opened = Page(browser, tmp_path / "report.html", 1024, scheme=scheme)
    paper, text, marks = opened.evaluate(CONTRASTS)
    assert (paper > 0.9) if scheme == "light" else (paper < 0.05)
    assert text >= 4.5, "WCAG 2.2, 1.4.3"
    assert marks >= 3, "WCAG 2.2, 1.4.11"


def test_print_is_dark_on_white_and_shows_all_columns(browser: Browser, tmp_path: Path) -> None:
    fleet_report().render(tmp_path)
    printed = Page(browser, tmp_path / "report.html", 720, scheme="dark", media="print")
    paper, text, marks = printed.evaluate(CONTRASTS)
    assert paper > 0.9 and text >= 4.5 and marks >= 3
    assert printed.evaluate('getComputedStyle(document.querySelector("button")).display') == "none"
    assert printed.evaluate(WIDER_THAN_THE_PAGE) == []
    printed.pdf(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")


def test_the_page_of_an_evaluation_fits_every_width(browser: Browser, tmp_path: Path) -> None:
    name = "a class with a name that is longer than a telephone is wide"
    data = colours.colour_folder(tmp_path / "data", {"blue": [BLUE] * 3, name: [BLUE, RED]})
    model = colours.colour_file(tmp_path / "net.onnx", labels=("blue", "green", name))
    path = tmp_path / "evaluation.html"
    run = evaluate_model(find_classifier(model), str(data), "all", ReadingOptions())
    path.write_text(page_of_evaluation(run))
    for width in WIDTHS:
        opened = Page(browser, path, width)
        assert opened.problems == []
        assert opened.evaluate("document.documentElement.scrollWidth") <= width
        assert opened.evaluate(WIDER_THAN_THE_PAGE) == []


def test_a_comparison_fits_every_width_and_its_chart_has_marks(
    browser: Browser, tmp_path: Path
) -> None:
    for name in ("first", "a-second-run-of-a-long-name-that-tells-much-of-it"):
        (tmp_path / name).mkdir()
        measured_report().write(tmp_path / name)
    path = tmp_path / "comparison.html"
    runs = [file.parent for file in tmp_path.glob("*/report.json")]
    path.write_text(page_of_comparison(compare_runs(runs)))
    for width in WIDTHS:
        opened = Page(browser, path, width)
        assert opened.problems == []
        assert opened.evaluate("document.documentElement.scrollWidth") <= width
        assert opened.evaluate(WIDER_THAN_THE_PAGE) == []
        [[_, marks, outside, _]] = opened.evaluate(MARKS)
        assert marks >= 2 and not outside


def test_an_exception_or_an_error_of_the_console_is_a_problem(
    browser: Browser, tmp_path: Path
) -> None:
    page = tmp_path / "wrong.html"
    page.write_text('<script>console.error("first"); second()</script><img src="third.png">')
    problems = "\n".join(Page(browser, page, 360).problems)
    assert all(name in problems for name in ("first", "second", "ERR_FILE_NOT_FOUND"))
