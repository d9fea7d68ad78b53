"""Write `docs/cli.md`: the help of every command.

python -m tools.data.command_line
"""

from __future__ import annotations

from collections.abc import Iterator

import click

from hwnas.cli.main import cli
from tools.lib.results import ROOT

PAGE = ROOT / "docs" / "cli.md"
WIDTH = 100
HEAD = """# Command line

Every command takes `--help`. Commands that programs call take `--json` and print one JSON document
on stdout; progress and notes go to stderr. `NO_COLOR` is honoured. Nothing is ever installed: an
error that needs a package prints the `pip install` line.

Completion of commands, options, targets, strategies, spaces and data sets in the shell:

```console
$ eval "$(_HWNAS_COMPLETE=bash_source hwnas)"     # or zsh_source, fish_source; in ~/.bashrc
```

| exit code | meaning |
| --- | --- |
| 0 | success |
| 1 | failure |
| 2 | wrong usage or configuration, or an input file that is damaged or refused by its runtime |
| 3 | the device is missing, offline, unauthorised or lost |
| 4 | export or verification failed (also `hwnas verify` of a file that its runtime refuses) |
| 5 | the budget is exceeded, or a file is slower than its baseline |
| 6 | the measurement is too noisy for a verdict |
| 130 | interrupted (Ctrl-C); the command that resumes is printed |
| 143 | the same by SIGTERM (129: by SIGHUP) |

This page is written by `python -m tools.data.command_line`.
"""


def commands(command: click.Command, parent: click.Context | None = None) -> Iterator[str]:
    """Yield a section for each command, groups before their members."""
    context = click.Context(
        command,
        info_name=command.name if parent else "hwnas",
        parent=parent,
        terminal_width=WIDTH,
        **{**command.context_settings, "max_content_width": WIDTH},
    )
    level = "##" if parent is None or parent.parent is None else "###"
    yield f"{level} {context.command_path}\n\n```text\n{command.get_help(context)}\n```"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            if (member := command.get_command(context, name)) is not None:
                yield from commands(member, context)


def page() -> str:
    """Return the text of `docs/cli.md`."""
    return "\n\n".join([HEAD.strip(), *commands(cli)]) + "\n"


@click.command()
def main() -> None:
    """Write docs/cli.md."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
