"""A wrong command line is one line on stderr, which names the help of the command."""

from __future__ import annotations

import sys

import pytest

from hwnas.cli.main import main


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("benchmark", "Missing argument 'FILE...'; see `hwnas benchmark --help`"),
        (
            "benchmark a --max-regress much",
            "Invalid value for '--max-regress': 'much': expected a share such as 5% or 0.05; "
            "see `hwnas benchmark --help`",
        ),
        (
            "latency predict a --target host-cpu --budget 5,5ms",
            "Invalid value for '--budget': '5,5ms': expected a positive time with its unit, such "
            "as 80ms; decimals have a point: 5.5ms; see `hwnas latency predict --help`",
        ),
        (
            "specialize --budget 5,0ms",
            "Invalid value for '--budget': '5,0ms': expected a positive number with its unit, like "
            "80ms, 900us, 0.1s, or a share of the space's largest network like 50%; decimals have "
            "a point: 5.0ms; see `hwnas specialize --help`",
        ),
        (
            "latency predict a --target host-cpu --budget 1.5e3us",
            "Invalid value for '--budget': '1.5e3us': expected a positive time with its unit, such "
            "as 80ms; numbers are written in digits: 1500us; see `hwnas latency predict --help`",
        ),
        (
            "latency predict a --target host-cpu --budget 5MS",
            "Invalid value for '--budget': '5MS': expected a positive time with its unit, such "
            "as 80ms; units are in small letters: 5ms; see `hwnas latency predict --help`",
        ),
        (
            "train --architecture a --data b --out c --minutes nan",
            "Invalid value for '--minutes': 'nan' is not a finite number; see `hwnas train --help`",
        ),
        ("devices lst", "No such command 'lst'. Did you mean 'list'? See `hwnas devices --help`"),
        (
            "train resnet18 --data photos --out tuned",
            "Got unexpected extra argument (resnet18): the network follows --from or "
            "--architecture, the images follow --data; names with blanks need quotes; see `hwnas "
            "train --help`",
        ),
        (
            "specialize photos",
            "Got unexpected extra argument (photos): the device follows --target, the images "
            "follow --data, a network follows --from; names with blanks need quotes; see `hwnas "
            "specialize --help`",
        ),
        ("runs list a b", "Got unexpected extra argument (b); see `hwnas runs list --help`"),
    ],
)
def test_a_wrong_command_line_is_one_line_with_the_help_to_read(
    line: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["hwnas", *line.split()])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", f"hwnas: {message}\n")


def test_no_command_at_all_shows_the_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["hwnas"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    text = capsys.readouterr().err
    assert "Usage: hwnas" in text and "Exit codes:" in text and "130  interrupted" in text
