"""Requirements of extensions, stated as sentences."""

from __future__ import annotations

from collections.abc import Callable


class ContractBroken(AssertionError):
    """A requirement that an extension violates; pytest shows it as a failed test."""


def require(condition: object, requirement: str) -> None:
    """Raise `ContractBroken` with the requirement if the condition is false."""
    if not condition:
        raise ContractBroken(requirement)


def require_error(kind: type[Exception], call: Callable[[], object], requirement: str) -> None:
    """Raise `ContractBroken` if ``call`` does not raise ``kind``."""
    try:
        call()
    except kind:
        return
    except Exception as error:
        raise ContractBroken(f"{requirement}; it raised {type(error).__name__}: {error}") from error
    raise ContractBroken(f"{requirement}; it raised nothing")
