"""Help in groups, completion in the shell, and examples that work."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from hwnas.cli.framework.command import Group, command, json_option, option
from hwnas.cli.framework.params import COUNTS, DURATION, INPUT_SHAPE, SHARE, TARGET, Value
from hwnas.cli.main import cli

HELP = """\
Usage: bench [OPTIONS]

  Measure.

Device:
  --target DEVICE  Where to measure.  [default: host-cpu]
  --batch N        Inputs of a call.  [default: the file's]

Output:
  --json           Print one JSON document on stdout.

Options:
  --seed N         Random seed.  [default: 0]
  --help           Show this message and exit.

Example:
  hwnas bench --target pixel1
"""


@command("bench", example="hwnas bench --target pixel1")
@json_option
@option("--seed", default=0, help="Random seed.")
@option("--target", group="Device", type=TARGET, default="host-cpu", help="Where to measure.")
@option(
    "--batch",
    group="Device",
    type=click.IntRange(1),
    default_help="the file's",
    help="Inputs of a call.",
)
def bench(**options: object) -> None:
    """Measure."""


def commands(group: click.Group, path: str = "hwnas") -> Iterator[tuple[str, click.Command]]:
    """Yield every command below a group with its full name."""
    context = click.Context(group)
    for name in group.list_commands(context):
        below = group.get_command(context, name)
        assert below is not None
        if isinstance(below, click.Group):
            yield from commands(below, f"{path} {name}")
        else:
            yield f"{path} {name}", below


def complete(*words: str) -> tuple[list[str], str]:
    """Return what bash offers after ``hwnas words...``, and the heavy modules that were loaded."""
    code = (
        "import atexit, sys\n"
        "heavy = 'torch torchvision onnx onnxruntime scipy'.split()\n"
        "atexit.register(lambda: print([n for n in heavy if n in sys.modules], file=sys.stderr))\n"
        "from hwnas.cli.main import main\nmain()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={
            **os.environ,
            "_HWNAS_COMPLETE": "bash_complete",
            "COMP_WORDS": shlex.join(("hwnas", *words)),
            "COMP_CWORD": str(len(words)),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line.split(",", 1) for line in result.stdout.splitlines()]
    return [value for kind, value in lines if kind == "plain"], result.stderr.splitlines()[-1]


def test_help_shows_options_in_groups_with_defaults_and_an_example() -> None:
    assert CliRunner().invoke(bench, ["--help"], prog_name="bench").stdout == HELP


@pytest.mark.parametrize(("name", "below"), list(commands(cli)), ids=lambda value: str(value))
def test_every_example_of_a_command_uses_options_that_exist(
    name: str, below: click.Command
) -> None:
    for example in getattr(below, "examples", ()):
        words = shlex.split(example)
        assert words[: len(name.split())] == name.split()
        parser = below.make_parser(click.Context(below))
        parser.parse_args(words[len(name.split()) :])


@pytest.mark.parametrize(("name", "below"), list(commands(cli)), ids=lambda value: str(value))
def test_every_command_has_an_example_and_describes_its_options(
    name: str, below: click.Command
) -> None:
    assert getattr(below, "examples", ()), name
    options = [param for param in below.params if isinstance(param, click.Option)]
    assert [param.name for param in options if not param.help] == []
    if len(options) > 5:
        assert len({getattr(param, "group", "Options") for param in options}) > 1


@pytest.mark.parametrize(
    ("kind", "word", "value"),
    [
        (SHARE, "5%", 0.05),
        (SHARE, "0.05", 0.05),
        (DURATION, "80ms", 80.0),
        (DURATION, "900us", 0.9),
        (DURATION, "1.5s", 1500.0),
        (INPUT_SHAPE, "3x224x160", (None, "3x224x160")),
        (INPUT_SHAPE, "x=3x224", ("x", "3x224")),
        (INPUT_SHAPE, "ids=32:int64", ("ids", "32:int64")),
        (COUNTS, "1, 8,8,32", (1, 8, 32)),
    ],
)
def test_a_value_is_read_with_its_unit(kind: Value, word: str, value: object) -> None:
    assert kind.convert(word, None, None) == pytest.approx(value)


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (SHARE, "much"),
        (SHARE, "-5%"),
        (SHARE, "nan"),
        (DURATION, "80"),
        (DURATION, "0ms"),
        (INPUT_SHAPE, "3x"),
        (INPUT_SHAPE, "x=0x2x2"),
        (COUNTS, "0"),
        (COUNTS, "1,,2"),
    ],
)
def test_a_value_that_cannot_be_read_says_what_was_expected(kind: Value, word: str) -> None:
    with pytest.raises(click.BadParameter, match=rf"'{word}': expected .*such as"):
        kind.convert(word, None, None)


def test_bash_can_load_the_completion() -> None:
    script = subprocess.run(
        [sys.executable, "-m", "hwnas"],
        env={**os.environ, "_HWNAS_COMPLETE": "bash_source"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "complete -o nosort -F _hwnas_completion hwnas" in script
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("bench",), "benchmark"),
        (("benchmark", "--targ"), "--target"),
        (("benchmark", "--target", "pixel1"), "pixel1"),
    ],
)
def test_commands_options_and_names_complete_without_torch(
    words: tuple[str, ...], expected: str
) -> None:
    offered, heavy = complete(*words)
    assert expected in offered
    assert heavy == "[]"


def test_a_group_lists_its_commands_before_its_options() -> None:
    group = Group("devices", commands=[bench], help="Devices.")
    text = CliRunner().invoke(group, ["--help"]).stdout
    assert text.index("Commands:") < text.index("Options:")
