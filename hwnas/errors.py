"""The one exception family that users of hwnas may catch, with the exit code of each."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class HwnasError(Exception):
    """Base of every error that hwnas raises on purpose; the command line shows it as one line."""

    exit_code = 1


class UsageError(HwnasError):
    """A value given by the user that cannot be meant."""

    exit_code = 2


class UnknownName(UsageError):
    """A name that no registry, profile folder or table knows."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        near = get_close_matches(name, known, n=1)
        hint = f", did you mean {near[0]!r}?" if near else ""
        listed = ", ".join(known[:12]) + (f", … {len(known) - 12} more" if len(known) > 12 else "")
        super().__init__(f"no {kind} named {name!r}{hint}; known: {listed or 'none'}")


class InvalidFile(UsageError):
    """A data file that does not say what it should."""

    def __init__(self, file: str, why: str) -> None:
        super().__init__(f"{file}: {why}")


class DeviceError(HwnasError):
    """A device or its runtime that is missing, offline, unauthorised or lost."""

    exit_code = 3


class DeviceLost(DeviceError):
    """A device that stopped answering in the middle of a command."""


class ExportError(HwnasError):
    """A network that cannot be compiled, or a file that failed its verification."""

    exit_code = 4


class BudgetError(HwnasError):
    """A latency budget that no network of the space keeps."""

    exit_code = 5


class Regression(HwnasError):
    """A model file that has become slower than its baseline allows."""

    exit_code = 5


class TooNoisy(HwnasError):
    """Measurements whose spread does not allow a verdict."""

    exit_code = 6


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or its type if it has no message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].strip()
