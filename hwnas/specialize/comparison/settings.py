"""The differences between the settings of runs."""

from __future__ import annotations

from collections.abc import Sequence

from hwnas.specialize.comparison.runs import Entry
from hwnas.specialize.options import OPTIONS, RunOption
from hwnas.specialize.spec import RunSpec

CHANGING = ("load at the end",)
"""Fields of the environment that differ between any two runs."""


def differing_settings(entries: Sequence[Entry]) -> dict[str, tuple[str, ...]]:
    """Return the options and versions that are not the same for all results.

    Options are read from the run folders; for a report alone they are taken from its command.
    """
    specs = [entry.spec for entry in entries if entry.spec is not None]
    settings: dict[str, tuple[str, ...]] = {}
    if len(specs) == len(entries):
        for option in OPTIONS:
            settings[option.flag.partition("/")[0]] = tuple(_text(option, spec) for spec in specs)
    else:
        settings["command"] = tuple(entry.report.command for entry in entries)
    settings["hwnas"] = tuple(entry.report.hwnas_version for entry in entries)
    environments = [entry.report.environment for entry in entries]
    for name in dict.fromkeys(name for environment in environments for name in environment):
        if name not in CHANGING:
            values = [environment.get(name) for environment in environments]
            settings[name] = tuple("–" if value is None else str(value) for value in values)  # noqa: RUF001
    return {name: values for name, values in settings.items() if len(set(values)) > 1}


def _text(option: RunOption, spec: RunSpec) -> str:
    """Return the value of an option as it is typed; ``default`` if it was left out."""
    value = getattr(spec, option.field)
    if value in (None, (), "", {}):
        return "default"
    words = option.words(value)
    if option.switch:
        return "on" if value else "off"
    return " ".join(word for word in words if word != option.flag)
