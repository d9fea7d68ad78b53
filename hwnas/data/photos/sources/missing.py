"""Locates the files that a list names, and suggests similar names for missing ones."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from hwnas.data.photos.sources.listing import SUFFIXES
from hwnas.errors import InvalidFile

MAX_LISTED = 5
"""Most missing files that a message lists."""

WINDOWS_DRIVE = re.compile(r"[A-Za-z]:[\\/]")


def located(folder: Path, given: str) -> str | None:
    """Return the path of a file as a list gives it, relative to ``folder`` and always written in
    the same way; None if there is no such file."""
    for name in dict.fromkeys((given, given.replace("\\", "/"))):
        if name and (folder / name).is_file():
            path, whole = Path(name), folder.absolute()
            if path.is_relative_to(whole):
                path = path.relative_to(whole)
            return str(path)
    return None


def check_missing(path: Path, missing: Mapping[int, str], others: int) -> None:
    """Raise `InvalidFile` for lines whose files are missing, with a suggestion for the first.

    ``missing`` are the files by their lines, ``others`` is the number of lines whose files exist.
    """
    if not missing:
        return
    number, given = next(iter(missing.items()))
    hint = _hint(path.parent, given)
    if len(missing) == 1:
        if not hint and others and number == 1:
            hint = "; if this line names the columns, call them path and label"
        raise InvalidFile(f"{path}:{number}", f"no file {given!r} in {path.parent}{hint}")
    lines = [f"line {line} {name!r}" for line, name in list(missing.items())[:MAX_LISTED]]
    more = f", … {len(missing) - MAX_LISTED} more" if len(missing) > MAX_LISTED else ""
    total = len(missing) + others
    why = f"{len(missing)} of {total} files are not in {path.parent}: {', '.join(lines)}{more}"
    raise InvalidFile(str(path), why + hint)


def _hint(folder: Path, given: str) -> str:
    if "://" in given:
        return "; it is an address: download the images"
    if WINDOWS_DRIVE.match(given):
        return "; write paths relative to the list instead of Windows' absolute ones"
    near = _near(folder / given.replace("\\", "/"))
    if near is not None:
        return f"; did you mean {os.path.join(os.path.dirname(given), near)!r}?"
    return ""


def _near(file: Path) -> str | None:
    """Return the file in the same folder that differs in case only, or has a suffix besides."""
    try:
        names = sorted(name for name in os.listdir(file.parent) if (file.parent / name).is_file())
    except (OSError, ValueError):
        return None
    wanted = file.name.casefold()
    for name in names:
        if name.casefold() == wanted:
            return name
    return next((name for name in names if name.casefold() in [wanted + s for s in SUFFIXES]), None)
