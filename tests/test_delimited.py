"""Tables mean the same in whatever way a spreadsheet wrote them, or the error says what is odd."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hwnas.delimited import Line, decode_text, read_lines
from hwnas.errors import InvalidFile
from hwnas.latency_models.importers.read import read_observations

PLAIN = """key,ms,comment
conv k3 s2 3>16 @32,0.11,"a, b"
mbconv k5 s2 e6 16>24 @16,10.52,
logits 24>10 @8,0.03,größer
"""
WITH_COMMAS = PLAIN.replace('"a, b"', "a").replace(",", ";").replace(".", ",")


def test_plain_text_is_lines_of_values() -> None:
    assert read_lines("f", '# a\n\na, b\n1,"x\ny"\n') == [
        Line(3, ("a", "b")),
        Line(5, ("1", "x\ny")),
    ]


@pytest.mark.parametrize(
    "content",
    [
        PLAIN.encode("utf-8-sig"),
        PLAIN.replace("\n", "\r\n").encode(),
        PLAIN.replace("\n", "\r").encode(),
        PLAIN.replace("key,ms,comment", "Key,MS,Comment").encode(),
        PLAIN.replace('"a, b"', "a").replace(",", "\t").encode(),
        PLAIN.replace('"a, b"', "a").replace(",", "|").encode(),
        PLAIN.replace('"a, b"', "a").replace(",", "\t").encode("utf-16"),
        WITH_COMMAS.encode(),
        ("sep=;\n" + WITH_COMMAS).encode(),
        WITH_COMMAS.replace(";", "\t").encode(),
        PLAIN.replace(" 3>", " e1 3>").replace("logits", "logits k1 s1 e1").encode(),
    ],
    ids=lambda content: repr(content[:12]),
)
def test_a_latency_table_is_the_same_in_every_form(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "plain.csv").write_text(PLAIN, "utf-8")
    (tmp_path / "other.csv").write_bytes(content)
    plain, other = (read_observations(tmp_path / name) for name in ("plain.csv", "other.csv"))
    assert [round(1e3 * each.ms) for each in plain.observations] == [110, 10520, 30]
    assert other.observations == plain.observations


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a;b\n0,1;2.5\n", "has decimal commas (0,1 in line 2) and decimal points (2.5 in line 2)"),
        ("a\tb\n1,234\t5\n", "line 2: 1,234 may be 1.234 or 1234; write it without the comma"),
        ('a,b\n"x,1\n', "line 2: unexpected end of data"),
    ],
)
def test_what_may_mean_two_things_is_one_clear_line(text: str, why: str) -> None:
    with pytest.raises(InvalidFile, match="^f: " + re.escape(why)):
        read_lines("f", text, decimal_commas=True)


def test_other_encodings_are_named_with_their_line() -> None:
    with pytest.raises(InvalidFile, match="line 2 is not UTF-8 text; save it as CSV in UTF-8"):
        decode_text("f", "a,b\nGröße,1\n".encode("cp1252"))
