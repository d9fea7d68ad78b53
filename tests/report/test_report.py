"""The report as JSON, as a page, and in a notebook."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from math import isclose
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from hwnas.cli.report import report as command
from hwnas.errors import InvalidFile, WriteError
from hwnas.report import formatting, sentences
from hwnas.report.accuracy import ClassAccuracy
from hwnas.report.charts.result import result_charts
from hwnas.report.html import html, markdown
from hwnas.report.latency import Latency
from hwnas.report.report import Report
from hwnas.report.schema import NextCommand
from tests.support.reporting.contract import CONTRACT
from tests.support.reporting.sample_report import (
    fleet_report,
    host_measurement,
    measured_report,
    measured_result,
    table_report,
    table_result,
)

SCRIPTS = re.compile(r"<(script|style)\b.*?</\1>", flags=re.S)
KINDS = "measured|table|predicted|simulated|emulated"


class Tags(HTMLParser):
    """Collects what a browser would act on: tags, their attributes, and the text between."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def count(self, name: str) -> int:
        return sum(tag == name for tag, _ in self.tags)

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] and self.tags[-1][0] not in ("script", "style"):
            self.text.append(data)


def simulated_report() -> Report:
    return measured_report("simulated")


REPORTS = [measured_report, table_report, fleet_report, simulated_report]


def test_the_json_document_keeps_its_contract(tmp_path: Path) -> None:
    measured_report().write(tmp_path)
    document = json.loads((tmp_path / "report.json").read_text())
    assert document["schema"] == 1
    result = document["results"][0]
    parts = result | {"result": result, "artifact": result["artifacts"][0], "document": document}
    for part, names in CONTRACT.items():
        assert set(names.split()) <= parts[part].keys()


@pytest.mark.parametrize("make", REPORTS)
def test_a_report_survives_writing_and_reading(make, tmp_path: Path) -> None:
    make().write(tmp_path)
    assert Report.read(tmp_path / "report.json") == make()
    assert {file.name for file in tmp_path.iterdir()} == {"report.json", "report.md", "report.html"}


def test_fields_of_a_later_version_are_ignored(tmp_path: Path) -> None:
    later = json.loads(msgspec.json.encode(measured_report())) | {"colour": "blue"}
    (tmp_path / "report.json").write_text(json.dumps(later))
    assert Report.read(tmp_path / "report.json") == measured_report()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "truncated"),
        ('{"schema": 2}', "Expected schema 1, got 2"),
        ('{"schema": 1, "command": 3}', r"Expected `str`, got `int` - at `\$.command`"),
    ],
)
def test_a_wrong_document_is_named_with_its_reason(text: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(InvalidFile, match=why):
        Report.read(path)


@pytest.mark.parametrize("make", REPORTS)
def test_every_latency_in_markdown_has_its_kind(make) -> None:
    lines = markdown(make()).splitlines()
    for line in lines:
        if re.search(r"\d ms\b", line):
            assert re.search(KINDS, line), line
    tables = [line for line, rule in pairwise(lines) if rule.startswith("|---")]
    assert len(tables) >= 3
    for header in tables:
        _check_columns([cell.strip() for cell in header.strip("|").split("|")])


@pytest.mark.parametrize("make", REPORTS)
def test_every_latency_on_the_page_has_its_kind(make) -> None:
    body = SCRIPTS.sub("", html(make()))
    for sentence in re.findall(
        r"<(?:p|li|dd|text|title|h2)\b.*?</(?:p|li|dd|text|title|h2)>", body
    ):
        if re.search(r"\d ms\b", sentence) and "budget" not in sentence:
            assert re.search(KINDS, sentence), sentence
    for head in re.findall(r"<thead>.*?</thead>", body, flags=re.S):
        _check_columns(re.findall(r"<th(?: [^>]*)?>(.*?)</th>", head))


def _check_columns(titles: list[str]) -> None:
    """The title of a column of milliseconds states the kind of latency, unless a separate column
    does."""
    for title in titles:
        if "ms" in title.split() and "budget" not in title and "calibrated" not in title:
            assert re.search(KINDS, title) or "kind" in titles, titles


@pytest.mark.parametrize("kind", ["simulated", "emulated"])
def test_a_simulated_latency_is_never_called_measured(kind) -> None:
    report = measured_report(kind)
    chart = result_charts(report.results[0], report.search, 360)["accuracy"]
    assert f"latency, ms ({kind}; open: predicted)</text>" in chart
    assert formatting.headline(report.results[0]).endswith(f"({kind}, not measured)")
    pages = markdown(report) + SCRIPTS.sub("", html(report))
    for line in pages.splitlines():
        # "measured" may stand in "not measured" and in the name of the journal, nowhere else.
        rest = re.sub(r"not measured|measurements?", "", line)
        assert not re.search(r"\bmeasured\b", rest), line


def test_names_from_users_are_escaped() -> None:
    evil = "</script><script>alert('x')</script>|`<img src=x>`"
    report = measured_report()
    result = report.results[0]
    blocks = [
        msgspec.structs.replace(b, key=evil, decision=evil) for b in result.architecture.blocks
    ]
    result = msgspec.structs.replace(
        result,
        title=evil,
        target=evil,
        reason=evil,
        candidates=tuple(msgspec.structs.replace(row, name=evil) for row in result.candidates),
        artifacts=(msgspec.structs.replace(result.artifacts[0], path="javascript:alert(1)|"),),
        architecture=msgspec.structs.replace(result.architecture, blocks=tuple(blocks)),
    )
    report = msgspec.structs.replace(
        report,
        dataset=msgspec.structs.replace(report.dataset, name=evil) if report.dataset else None,
        command=evil,
        results=(result,),
        search=tuple(msgspec.structs.replace(point, target="") for point in report.search),
        notes=(evil + "\n# heading",),
        environment={evil: evil},
    )
    plain, page = Tags(html(measured_report())), Tags(html(report))
    assert page.count("script") == plain.count("script")
    assert page.count("img") == 0
    assert not [a for _, a in page.tags if (a.get("href") or "").startswith("javascript:")]
    assert evil in "".join(page.text)

    text = re.sub(r"^(`{3,})\n.*?\n\1$", "", markdown(report), flags=re.S | re.M)
    assert "<script" not in text and "<img" not in text
    assert "\n# heading" not in text
    sizes = {
        len(re.findall(r"(?<!\\)\|", line))
        for line in text.splitlines()
        if line.startswith("| ") and "onnx" in line and "javascript" in line
    }
    assert sizes == {8}


@pytest.mark.parametrize("make", REPORTS)
def test_the_page_makes_no_network_request(make) -> None:
    page = html(make())
    for tag, attributes in Tags(page).tags:
        assert tag not in ("link", "iframe", "img", "object", "embed")
        for name in ("src", "href", "srcset", "action", "data"):
            assert not re.match(r"(https?:)?//", attributes.get(name) or "")
    assert not re.search(r"url\(|@import|https?://", page)
    assert "default-src 'none'" in page


def test_a_missed_budget_comes_first_with_its_reason() -> None:
    result = fleet_report().results[1]
    assert formatting.headline(result).startswith("MISSED 0.208 ms of 0.200 ms (measured)")
    assert "entirely over the budget" in sentences.verdict_sentences(result)[0]
    assert 'class="hero missed"' in html(fleet_report())


def test_a_table_gives_a_probability_instead_of_a_verdict() -> None:
    text = markdown(table_report())
    assert "NOT MEASURED 78.4 ms of 80.0 ms (from a table, not measured)" in text
    assert "One call in ten" not in text
    # Normal distribution: (80 - 78.4) / 2.6 = 0.615 standard deviations: 73 %.
    assert "probability that the device keeps the budget is 73 %" in text


def test_a_result_without_any_number_has_a_page() -> None:
    bare = msgspec.structs.replace(
        table_result(), latency=None, accuracy=None, artifacts=(), latency_model=None, range_ms=None
    )
    report = msgspec.structs.replace(table_report(), results=(bare,), dataset=None, stages_s={})
    assert "nothing was measured" in html(report)
    assert "nothing was measured" in markdown(report)
    assert "NOT MEASURED" in report.summary()
    empty = msgspec.structs.replace(report, results=())
    assert "no result" in html(empty) and markdown(empty)


def test_a_budget_inside_the_interval_is_not_called_safe() -> None:
    close = Latency(kind="measured", median_ms=0.9, ci95_ms=(0.8, 1.1), samples=63, rounds=9)
    result = msgspec.structs.replace(measured_result(), latency=close, budget_ms=1.0)
    assert "another run may reach the other verdict" in sentences.verdict_sentences(result)[0]


def test_a_drift_over_the_limit_is_reported() -> None:
    latency = measured_result().latency
    assert latency is not None
    for drift, warns in ((0.05, False), (-0.12, True)):
        drifted = msgspec.structs.replace(latency, reference_drift=drift)
        result = msgspec.structs.replace(measured_result(), latency=drifted)
        words = "in another state than at its calibration"
        assert (words in " ".join(sentences.verdict_sentences(result))) == warns


def test_baselines_whose_intervals_overlap_are_a_tie() -> None:
    assert "this is a tie" in sentences.baseline_comparison(measured_result(), 360)
    assert "is better" in sentences.baseline_comparison(measured_result(), 360_000)
    assert sentences.baseline_comparison(table_result(), 360) == ""


def test_numbers_have_significant_digits() -> None:
    assert [formatting.ms(v) for v in (0.2119, 78.4, 80.0, 1234.5, 0.0123, 0, None)] == [
        "0.212",
        "78.4",
        "80.0",
        "1234",
        "0.0123",
        "0",
        "–",  # noqa: RUF001
    ]
    assert formatting.distinct(79.96, 80.0) == ("79.96", "80.00")
    assert [formatting.count(v) for v in (970, 56_400, 3_713_000)] == ["970", "56.4 k", "3.71 M"]
    assert [formatting.seconds(v) for v in (41.2, 512, 7322)] == [
        "41.2 s",
        "8 min 32 s",
        "2 h 02 min",
    ]
    sizes = [formatting.size(size) for size in (412_331, 1_000_000, 999_990_000, 1_695_710_000)]
    assert sizes == ["412 kB", "1.00 MB", "999.99 MB", "1.70 GB"]


def test_a_raw_verdict_uses_the_latency_by_the_clock() -> None:

    calibrated, raw = (
        Latency.from_measurement(host_measurement("measured"), raw=raw) for raw in (False, True)
    )
    assert raw.judged == "raw" and calibrated.judged == "calibrated"
    assert raw.raw_median_ms is not None and isclose(raw.median_ms, raw.raw_median_ms)
    assert calibrated.reference_drift == pytest.approx(raw.reference_drift)
    assert calibrated.median_ms != raw.median_ms


def test_a_notebook_shows_the_whole_page_in_a_frame() -> None:
    report = measured_report()
    [(tag, attributes)] = Tags(report._repr_html_()).tags
    assert tag == "iframe" and attributes["srcdoc"] == report.html()
    assert attributes["sandbox"] == "allow-scripts"


def test_the_results_are_plain_data() -> None:
    report = fleet_report()
    assert report.to_dict() == json.loads(msgspec.json.encode(report))
    first, missed, table = report.rows()
    assert (first["verdict"], missed["verdict"]) == ("kept", "missed")
    assert first["ci95_low_ms"] < first["median_ms"] < first["ci95_high_ms"]
    assert first["accuracy"] == 350 / 360 and first["file"] == "export/model.onnx"
    assert (table["kind"], table["ci95_low_ms"], table["median_ms"]) == ("table", None, 78.4)
    assert first.keys() == missed.keys() == table.keys()


def test_the_command_renders_again_without_changing_the_json(tmp_path: Path) -> None:
    fleet_report().write(tmp_path)
    before = (tmp_path / "report.json").read_bytes()
    (tmp_path / "report.html").unlink()
    for run in (tmp_path, tmp_path / "report.json"):
        result = CliRunner().invoke(command, [str(run)])
        assert result.exit_code == 0, result.output
        assert "KEPT 0.208 ms of 0.250 ms (measured)" in result.stdout
        assert "hwnas benchmark runs/digits" in result.stdout
    assert (tmp_path / "report.html").exists()
    assert (tmp_path / "report.json").read_bytes() == before


def test_the_command_prints_one_json_document(tmp_path: Path) -> None:
    measured_report().write(tmp_path)
    result = CliRunner().invoke(command, [str(tmp_path), "--json"])
    assert msgspec.json.decode(result.stdout.encode(), type=Report) == measured_report()


def test_a_missing_run_is_a_usage_error(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, [str(tmp_path / "nowhere")])
    assert isinstance(result.exception, InvalidFile)
    assert result.exception.exit_code == 2
    assert "expected a run folder" in str(result.exception)
    (tmp_path / "config.toml").write_text("")
    mistyped = CliRunner().invoke(command, [str(tmp_path / "reports.json")]).exception
    assert str(mistyped).startswith(f"{tmp_path / 'reports.json'}: no such file")


def test_the_accuracy_names_the_best_and_the_worst_class() -> None:
    result = measured_result()
    assert result.accuracy is not None
    classes = (ClassAccuracy("<b>bees", 0.5), ClassAccuracy("ants", 0.75))
    accuracy = msgspec.structs.replace(result.accuracy, classes=classes)
    named = msgspec.structs.replace(result, accuracy=accuracy)
    assert "from 50.0 % for '<b>bees' to 75.0 % for 'ants'" in sentences.accuracy_sentence(named)
    report = msgspec.structs.replace(measured_report(), results=(named,))
    assert "<b>bees" not in html(report) and "&lt;b&gt;bees" in html(report)


def test_top_5_and_balanced_accuracy_are_shown_where_they_apply() -> None:
    plain = measured_result()
    assert plain.accuracy is not None
    assert "top-5" not in sentences.accuracy_sentence(plain)
    accuracy = msgspec.structs.replace(plain.accuracy, top5=0.981, balanced=0.612)
    result = msgspec.structs.replace(plain, accuracy=accuracy)
    sentence = sentences.accuracy_sentence(result)
    assert "top-5 98.1 %, mean over classes 61.2 %" in sentence
    report = msgspec.structs.replace(measured_report(), results=(result,))
    assert "top-5 98.1 %" in html(report) and "mean over classes 61.2 %" in report.summary()


def test_the_commands_of_a_run_that_was_moved_name_its_folder(tmp_path: Path) -> None:
    lines = [
        "hwnas deploy runs/a",
        "hwnas benchmark runs/a/export/model.onnx --target runs/another.toml",
        "hwnas specialize --target host-cpu --data 'my photos'",
        "hwnas report runs/a",
    ]
    commands = tuple(NextCommand("title", line) for line in lines)
    report = msgspec.structs.replace(measured_report(), commands=commands)
    moved = report.at(tmp_path / "my runs")
    there = f"'{tmp_path}/my runs"
    assert [command.line for command in moved.commands] == [
        f"hwnas deploy {there}'",
        f"hwnas benchmark {there}/export/model.onnx' --target runs/another.toml",
        "hwnas specialize --target host-cpu --data 'my photos'",
        f"hwnas report {there}'",
    ]
    assert moved.at(Path("runs/a")) == report
    bare = msgspec.structs.replace(report, commands=())
    assert bare.at(tmp_path) == bare


def test_a_report_in_a_folder_that_cannot_be_written_is_printed_all_the_same(
    tmp_path: Path,
) -> None:
    measured_report().write(tmp_path)
    for name in ("report.md", "report.html"):
        (tmp_path / name).unlink()
        (tmp_path / name).mkdir()
    result = CliRunner().invoke(command, [str(tmp_path)])
    assert "KEPT" in result.stdout
    assert isinstance(result.exception, WriteError) and "report.md" in str(result.exception)


def test_commands_in_notes_are_code_and_all_else_is_text() -> None:
    notes = ("`hwnas show a` shows <b>", "an odd ` and `<img src=x>`")
    report = msgspec.structs.replace(measured_report(), notes=notes)
    page, text = html(report), markdown(report)
    assert "<li><code>hwnas show a</code> shows &lt;b&gt;</li>" in page
    assert "- `hwnas show a` shows &lt;b&gt;" in text
    assert "<img" not in page and "<img" not in text
