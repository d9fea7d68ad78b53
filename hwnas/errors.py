"""Exceptions of hwnas, with the exit code of each on the command line."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from errno import EDQUOT, EFBIG, ENOSPC

NO_SPACE = (ENOSPC, EDQUOT, EFBIG)
"""Numbers of the errors of a full disk: no space, no quota, the largest file size."""


class HwnasError(Exception):
    """Base class of all errors that hwnas raises; the command line prints them as one line."""

    exit_code = 1
    can_resume = False
    """Whether the command can continue where it stopped, once the cause is removed."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most similar to ``name``, ignoring case; ``None`` if none
    is."""
    folded = {each.casefold(): each for each in known}
    near = get_close_matches(name.casefold(), folded, n=1)
    return folded[near[0]] if near else None


class UsageError(HwnasError):
    """An invalid value given by the user."""

    exit_code = 2


class UnknownName(UsageError):
    """A name that is in no registry, folder or table; the message has the nearest one."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        near = nearest(name, known)
        hint = f", did you mean {near!r}? Known" if near else "; known"
        listed = ", ".join(known[:12]) + (f", … {len(known) - 12} more" if len(known) > 12 else "")
        super().__init__(f"no {kind} named {name!r}{hint}: {listed or 'none'}")


class InvalidFile(UsageError):
    """A data file with invalid content."""

    def __init__(self, file: str, why: str) -> None:
        super().__init__(f"{file}: {why}")
        self.file, self.why = file, why


class WriteError(HwnasError):
    """A file that cannot be written: no space, no permission, a read-only file system."""

    def __init__(self, file: object, error: OSError) -> None:
        super().__init__(f"{file}: cannot be written ({error.strerror or error})")
        self.can_resume = error.errno in NO_SPACE


class TrainingFailed(HwnasError):
    """A training that ended in a process of its own without a result."""

    can_resume = True


class Interrupted(HwnasError):
    """A signal that ended a command; the exit code is 128 and its number."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class DeviceError(HwnasError):
    """A device or its runtime that is missing, offline, unauthorised or lost."""

    exit_code = 3


class DeviceLost(DeviceError):
    """A device that stopped answering in the middle of a command."""


class ExportError(HwnasError):
    """A network that cannot be compiled, or a file that failed its verification."""

    exit_code = 4


class BudgetError(HwnasError):
    """A latency budget that no network of the space meets."""

    exit_code = 5


class Regression(HwnasError):
    """A model file that has become slower than its baseline allows."""

    exit_code = 5


class TooNoisy(HwnasError):
    """Measurements that are too noisy for a verdict."""

    exit_code = 6


def first_line(error: BaseException, missing: str = "") -> str:
    """Return the first line of an error's message; if it is empty ``missing``, or else the error's
    type."""
    return (str(error).strip() or missing or type(error).__name__).splitlines()[0].strip()


def last_line(output: bytes | str, missing: str = "nothing") -> str:
    """Return the last line of a program's output or an error's message; ``missing`` if empty."""
    text = output if isinstance(output, str) else output.decode(errors="replace")
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else missing
