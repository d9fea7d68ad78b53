"""The lineage of networks that a search grows from each other."""

from __future__ import annotations

import msgspec

from hwnas.report.candidate_rows import FamilyRow
from hwnas.report.html import html, markdown
from hwnas.report.tables.lineage import MAX_NETWORKS, lineage
from tests.support.reporting.sample_report import measured_report


def row(name: str, parent: str = "", accuracy: float | None = 0.5, **more: object) -> FamilyRow:
    given = {
        "name": name,
        "parent": parent,
        "accuracy": accuracy,
        "digest": "00",
        "params": 10,
        "macs": 20,
        "state": "trained",
        "latency_ms": 1.0,
        **more,
    }
    return msgspec.convert(given, FamilyRow)


FAMILY = (
    row("n0"),
    row("n1", "n0", 0.6, steps=("wider 1.1 to 8", "deeper 1.1 k3")),
    row("n2", "n0", 0.7, steps=("<b>",)),
    row("n3", "n1", None, state="failed"),
    row("n4", "n2", 0.8, chosen=True, measured_ms=1.5),
)


def test_children_follow_their_parent_the_best_first() -> None:
    assert [(item.row.name, item.depth) for item in lineage(FAMILY)] == [
        ("n0", 0),
        ("n2", 1),
        ("n4", 2),
        ("n1", 1),
        ("n3", 2),
    ]
    changes = {item.row.name: item.changes for item in lineage(FAMILY)}
    assert changes["n1"] == "wider 1.1 to 8, deeper 1.1 k3"
    many = row("n5", "n0", steps=tuple(f"wider 1.1 to {n}" for n in range(8, 16)))
    assert lineage([FAMILY[0], many])[1].changes.endswith("wider 1.1 to 12, … 3 more")
    assert (changes["n0"], changes["n4"]) == ("start", "trained longer")


def test_a_large_lineage_shows_the_chosen_line_and_the_best() -> None:
    line = [row("n0", "", 0.1)]
    line += [row(f"n{n}", f"n{n - 1}", 0.1) for n in range(1, 10)]
    line[-1] = msgspec.structs.replace(line[-1], chosen=True)
    others = [row(f"m{n}", "n0", 0.2 + n / 1000) for n in range(100)]
    shown = [item.row.name for item in lineage([*line, *others])]
    assert len(shown) == MAX_NETWORKS and {item.name for item in line} <= set(shown)
    assert "m99" in shown and "m0" not in shown


def test_html_and_markdown_show_the_lineage_escaped() -> None:
    report = measured_report()
    result = msgspec.structs.replace(report.results[0], family=FAMILY)
    whole = msgspec.structs.replace(report, results=(result,))
    page, text = html(whole), markdown(whole)
    assert "&lt;b&gt;" in page and "<b>" not in page.split("Lineage")[1].split("</table>")[0]
    assert "· · ★ n4" in text and "| failed |" in text
    assert "Lineage" not in markdown(report) and "Family lineage" not in html(report)
