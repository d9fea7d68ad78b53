"""What does not hold, as a sentence."""

from __future__ import annotations

from collections.abc import Callable


class ContractBroken(AssertionError):
    """A promise that an extension does not keep; pytest shows it as a failed test."""


def holds(truth: object, sentence: str) -> None:
    """Raise `ContractBroken` with the sentence where it is not true."""
    if not truth:
        raise ContractBroken(sentence)


def raises(kind: type[Exception], act: Callable[[], object], sentence: str) -> None:
    """Raise `ContractBroken` where ``act`` does not raise ``kind``."""
    try:
        act()
    except kind:
        return
    except Exception as error:
        raise ContractBroken(f"{sentence}; it raised {type(error).__name__}: {error}") from error
    raise ContractBroken(f"{sentence}; it raised nothing")
