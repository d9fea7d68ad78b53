"""The `hwnas` command: sub-commands are imported when they are called."""

from __future__ import annotations

import sys
from importlib import import_module

import click

from hwnas import __version__
from hwnas.errors import HwnasError

COMMANDS = {
    "specialize": ("hwnas.cli.specialize:specialize", "Make a model for a device and a budget."),
    "devices": ("hwnas.cli.devices:devices", "List, add, check and examine devices."),
    "latency": ("hwnas.cli.latency.group:latency", "Measure, check and ask latency models."),
    "export": ("hwnas.cli.export:export", "Compile a network, or your own module, to model files."),
    "train": ("hwnas.cli.train:train", "Train one architecture from scratch."),
    "verify": (
        "hwnas.cli.verify.command:verify",
        "Compare a file with its network, a bundle with its word.",
    ),
    "benchmark": ("hwnas.cli.benchmark.command:benchmark", "Measure model files and compare them."),
    "show": ("hwnas.cli.show:show", "Show an architecture, block by block."),
    "deploy": ("hwnas.cli.deploy:deploy", "Bring a model to a device and try it there."),
    "kit": ("hwnas.cli.kit:kit", "Build the native runner that measures on phones."),
    "plugins": ("hwnas.cli.plugins:plugins", "List extensions, and which are broken."),
    "report": ("hwnas.cli.report:report", "Render a run's report again and print its results."),
}


class LazyGroup(click.Group):
    """A group that knows its commands' names and one line on each, and imports one when needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        return getattr(import_module(module), name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        from hwnas.errors import UnknownName

        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            raise click.UsageError(str(UnknownName("command", args[0], COMMANDS)), ctx)
        return super().resolve_command(ctx, args)


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="hwnas")
def cli() -> None:
    """Give it a device, a latency budget and a data set; it gives back a model file that was
    measured on that device and keeps the budget.

    \b
    Exit codes: 0 ok, 1 failure, 2 usage or bad configuration, 3 device missing or lost,
    4 export or verification failed, 5 budget not kept, 6 measurement too noisy,
    130 interrupted (resumable).
    """


def main() -> None:
    """Run the command line; an error of hwnas is one line on stderr and its exit code."""
    try:
        ended = cli.main(standalone_mode=False)  # what `ctx.exit` was called with, if it was
        sys.exit(ended if isinstance(ended, int) else 0)
    except HwnasError as error:
        click.echo(f"hwnas: {error}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("hwnas: interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
