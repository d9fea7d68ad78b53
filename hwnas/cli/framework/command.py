"""Commands whose help shows options in groups and an example, and which complete in the shell.

A command is declared as with click; `command` and `option` take the place of ``click.command`` and
``click.option``, and inside a `Group` its ``command`` method does::

    @command("benchmark", example="hwnas benchmark a.onnx b.tflite --batch 1,8")
    @click.argument("files", nargs=-1, required=True, metavar="FILE...")
    @option("--target", group="Device", type=TARGET, default="host-cpu", help="Where to measure.")
    @option("--format", group="Output", type=click.Choice(["onnx", "tflite"]), help="Format.")
    @option("--images", type=click.IntRange(1), default_help="16; int8: 256", help="To verify.")
    @json_option
    def benchmark(files: tuple[str, ...], target: str, ...) -> None:

* ``group`` is the heading under which the help lists an option; without it that is "Options".
  Groups appear in the order of their first option, "Output" and "Options" at the end.
* Defaults are shown without being asked for. ``default_help`` describes a default that is no
  fixed value, e.g. ``default_help="the data set's"``.
* Types of values with units (`SHARE`, `DURATION`, `SHAPE`) and of names that complete (`TARGET`,
  `SPACE`, `DATA`, ...) are in `hwnas.cli.framework.params`; a closed set is a ``click.Choice``.
* ``example`` is a line, or several, that works as it stands; a test parses it.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import Any

import click

from hwnas.cli.framework.signals import signal_number
from hwnas.errors import NO_SPACE, HwnasError, Interrupted, WriteError

ARGUMENTS = "hwnas.arguments"
"""Where a context's ``meta`` holds the words of the command line."""

PLAIN_METAVARS = {"INTEGER": "N", "INTEGER RANGE": "N", "FLOAT": "NUMBER", "FLOAT RANGE": "NUMBER"}
"""Placeholders for values of click's own types."""


MAX_NAME = 28
"""Characters of an option in the help whose description begins on the same line."""


class Option(click.Option):
    """An option that belongs to a group of the help and shows its default."""

    def __init__(
        self, *args: Any, group: str = "Options", default_help: str | None = None, **attrs: Any
    ) -> None:
        attrs.setdefault("show_default", True)
        super().__init__(*args, **attrs)
        self.group = group
        self.default_help = default_help

    def make_metavar(self, ctx: click.Context) -> str:
        metavar = super().make_metavar(ctx)
        return PLAIN_METAVARS.get(metavar, metavar)

    def get_help_extra(self, ctx: click.Context) -> Any:
        extra = super().get_help_extra(ctx)
        extra.pop("range", None)  # an error message names it
        if self.default_help is not None:
            extra["default"] = self.default_help
        return extra


class _Help(click.Command):
    """Help with the options in groups, and examples."""

    def __init__(self, *args: Any, example: str | tuple[str, ...] = (), **attrs: Any) -> None:
        super().__init__(*args, **attrs)
        self.examples = (example,) if isinstance(example, str) else example

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                groups.setdefault(getattr(param, "group", "Options"), []).append(record)
        for last in ("Output", "Options"):  # every command has these
            if last in groups:
                groups[last] = groups.pop(last)
        if isinstance(self, click.Group):
            self.format_commands(ctx, formatter)
        names = [name for records in groups.values() for name, _ in records]
        width = min(max(map(len, names), default=0), MAX_NAME)  # the same in all groups
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:{width}}", text) for name, text in records], MAX_NAME)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.examples:
            with formatter.section("Example" if len(self.examples) == 1 else "Examples"):
                for line in self.examples:  # written whole, to be copied
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")
        super().format_epilog(ctx, formatter)


class Command(_Help):
    """A command of hwnas, which a signal ends with one line and the command that continues."""

    def __init__(
        self, *args: Any, continued_by: str | None = None, argument_hint: str = "", **attrs: Any
    ) -> None:
        """``continued_by`` is what is added to the command line to go on after an interruption:
        ``--resume``, or nothing; ``None`` for a command that keeps nothing. ``argument_hint`` says
        which options to use, in the error for an argument to a command that takes none."""
        super().__init__(*args, **attrs)
        self.continued_by, self.argument_hint = continued_by, argument_hint

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            if self.argument_hint and "extra argument" in error.message:
                text = f"{error.message}: {self.argument_hint}; names with blanks need quotes"
                raise click.UsageError(text, error.ctx) from None
            raise

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise interrupted(error, self._continuing(ctx)) from None
        except (HwnasError, OSError) as error:
            if (stopped := stopped_by(error, self._continuing(ctx))) is not None:
                raise stopped from None
            raise

    def _continuing(self, ctx: click.Context) -> list[str] | None:
        words: list[str] | None = ctx.meta.get(ARGUMENTS)
        if words is None or self.continued_by is None:
            return None
        words = [word for word in words if word != "--again"]  # which would begin anew
        added = [self.continued_by] if self.continued_by and self.continued_by not in words else []
        return ["hwnas", *words, *added]


def interrupted(error: KeyboardInterrupt, words: Sequence[str] | None = None) -> Interrupted:
    """Return the error of an interrupted command; ``words`` are the command that continues it."""
    return Interrupted(f"interrupted{_continue_line(words)}", signal_number(error))


def stopped_by(
    error: HwnasError | OSError, words: Sequence[str] | None = None
) -> HwnasError | None:
    """Return the error of a command that can go on, such as one whose disk is full; ``words`` are
    the command that continues it. ``None`` for any other error."""
    if isinstance(error, OSError) and error.errno in NO_SPACE and error.filename is not None:
        error = WriteError(error.filename, error)
    if isinstance(error, HwnasError) and error.can_resume:
        return HwnasError(f"{error}{_continue_line(words)}")
    return None


def _continue_line(words: Sequence[str] | None) -> str:
    return "" if words is None else f"; continue with: {shlex.join(words)}"


class Group(_Help, click.Group):
    """A command that has sub-commands, e.g. ``hwnas devices``."""

    command_class = Command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands, each with the whole first sentence of its help."""
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, cmd.get_short_help_str(200)) for name, cmd in commands.items() if cmd]
            )


def command(name: str, example: str | tuple[str, ...] = (), **attrs: Any) -> Callable[..., Command]:
    """Return a decorator that makes a function a command; ``attrs`` as for `Command`."""
    return click.command(name, cls=Command, example=example, **attrs)


def option(
    *names: str, group: str = "Options", default_help: str | None = None, **attrs: Any
) -> Callable[[Any], Any]:
    """Return a decorator that adds an option; ``attrs`` as for `click.option`."""
    return click.option(*names, cls=Option, group=group, default_help=default_help, **attrs)


json_option = option(
    "--json", "as_json", group="Output", is_flag=True, help="Print one JSON document on stdout."
)
quiet_option = option("--quiet", group="Output", is_flag=True, help="Print the result only.")
track_option = option(
    "--track",
    group="Output",
    type=click.Choice(["tensorboard", "mlflow"]),
    help="Send loss, accuracy and speed to an experiment tracker.",
)
