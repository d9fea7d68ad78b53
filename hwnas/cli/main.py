"""The `hwnas` command: sub-commands are imported when they are called."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

import click

from hwnas import __version__
from hwnas.cli.framework.command import ARGUMENTS, Group, interrupted
from hwnas.cli.framework.signals import open_standard_streams, stopping_signals
from hwnas.errors import HwnasError, Interrupted, UnknownName

SECTIONS = {
    "Make a model": {
        "specialize": ("hwnas.cli.specialize:specialize", "Make a model for a device and budget."),
        "train": ("hwnas.cli.train:train", "Train a network, or tune a trained one."),
        "networks": (
            "hwnas.cli.networks.group:networks",
            "List networks with published weights, show and fetch them.",
        ),
        "data": ("hwnas.cli.data:data", "Look at data sets; pack large ones."),
        "export": ("hwnas.cli.export:export", "Compile a network to ONNX and TFLite files."),
        "runs": (
            "hwnas.cli.housekeeping.group:runs",
            "List runs, delete what they no longer need.",
        ),
        "report": ("hwnas.cli.report:report", "Print and render the report of a run."),
        "show": ("hwnas.cli.show:show", "Show an architecture, block by block."),
    },
    "Measure": {
        "devices": ("hwnas.cli.devices:devices", "List, add, check and diagnose devices."),
        "latency": ("hwnas.cli.latency.group:latency", "Measure, fit and query latency models."),
        "benchmark": ("hwnas.cli.benchmark:benchmark", "Measure and compare model files."),
    },
    "Deliver": {
        "predict": ("hwnas.cli.deliver.predict:predict", "Predict the classes of images."),
        "evaluate": (
            "hwnas.cli.deliver.evaluate:evaluate",
            "Measure the accuracy of a model on a data set.",
        ),
        "verify": ("hwnas.cli.deliver.verify:verify", "Verify a model file or a bundle."),
        "deploy": (
            "hwnas.cli.deliver.deploy:deploy",
            "Copy a model to a device and test it there.",
        ),
    },
    "Extend": {
        "kit": ("hwnas.cli.kit:kit", "Build the native runner that measures on phones."),
        "plugins": ("hwnas.cli.plugins:plugins", "List and check installed extensions."),
    },
}
"""Where each command is and its line in the help, in sections."""

COMMANDS = {name: entry for section in SECTIONS.values() for name, entry in section.items()}


class LazyGroup(Group):
    """A group that knows its commands by name and imports one when it is needed."""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        words = list(args)
        try:
            context = super().make_context(info_name, args, parent, **extra)
        except KeyboardInterrupt as error:
            raise interrupted(error) from None
        context.meta[ARGUMENTS] = words
        return context

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:  # while a command is imported
            raise interrupted(error) from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        return getattr(import_module(module), name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, COMMANDS))
        for title, section in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(f"{n:{width}}", line) for n, (_, line) in section.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            raise UnknownName("command", args[0], COMMANDS)
        return super().resolve_command(ctx, args)


@click.command(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    example="hwnas specialize --target host-cpu --budget 2ms --data fashion-mnist-6k",
)
@click.version_option(__version__, prog_name="hwnas")
def cli() -> None:
    """Give it a device, a latency budget and a data set: hwnas searches, trains and compiles a
    network, and measures the model file on that device.

    \b
    Exit codes:
      0    success
      1    failure
      2    wrong usage or configuration
      3    device missing or lost
      4    export or verification failed
      5    budget exceeded, or slower than the baseline
      6    measurement too noisy for a verdict
      130  interrupted (can be resumed); 143 by SIGTERM

    \b
    Shell completion (bash; zsh and fish likewise):
      eval "$(_HWNAS_COMPLETE=bash_source hwnas)"
    """


def main() -> None:
    """Run the command line; an error is one line on stderr, and its exit code."""
    open_standard_streams()
    with stopping_signals():
        status = _run()
    sys.exit(status)


def _run() -> int:
    """Call the command and return the exit code."""
    try:
        status = cli.main(prog_name="hwnas", standalone_mode=False)  # the argument of `ctx.exit`
        sys.stdout.flush()
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except BrokenPipeError:
        _discard_output()
        return 1
    except Exception as error:
        line, code = _ending(error)
        _discard_output()
        click.echo(f"hwnas: {line}", err=True)
        return code
    return status if isinstance(status, int) else 0


def _ending(error: Exception) -> tuple[str, int]:
    """Return the line and the exit code of an error. Raises what is a fault of the program."""
    if isinstance(error, Interrupted):
        from hwnas.processes import kill_children

        kill_children()
        if sys.stderr.isatty():
            click.echo(err=True)  # the terminal shows ^C in this line
    if isinstance(error, HwnasError):
        return str(error), error.exit_code
    if isinstance(error, click.ClickException):
        return _one_line(error), error.exit_code
    if isinstance(error, click.Abort):
        return "interrupted", 130
    if isinstance(error, OSError) and error.strerror:
        file = "the output" if error.filename is None else error.filename
        return f"{file}: {error.strerror}", 1
    if isinstance(error, UnicodeEncodeError):
        return "a file's name is not in the encoding of this locale; PYTHONUTF8=1 helps", 1
    raise error


def _discard_output() -> None:
    """Drop what can't be written; the interpreter would try it again as it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def _one_line(error: click.ClickException) -> str:
    """Return the message of a usage error, with the command whose help explains its options."""
    message = " ".join(error.format_message().split()).rstrip(".")
    if isinstance(error, click.UsageError) and error.ctx is not None:
        separator = " See" if message.endswith("?") else "; see"
        return f"{message}{separator} `{error.ctx.command_path} --help`"
    return message
