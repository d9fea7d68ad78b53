"""The agreement of a file with PyTorch in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hwnas.architecture.artifact import OutputParity, Parity


def agreement_text(parity: Parity, source: str, labelled: bool = False) -> str:
    """Return the agreement in one line; ``source`` are the inputs it was measured on.

    ``labelled`` states that their labels are known. Classes are named for classifiers only.
    """
    error = f"error {parity.max_relative_error:.1e} of the largest output on {source}"
    if parity.accuracy_artifact is None or parity.accuracy_torch is None:
        return error
    if labelled:
        return (
            f"{error}, accuracy {parity.accuracy_artifact:.2%} "
            f"(PyTorch {parity.accuracy_torch:.2%})"
        )
    agreement = (
        parity.accuracy_artifact if parity.label_agreement is None else (parity.label_agreement)
    )
    return f"{error}, the same class in {agreement:.0%}"


def output_lines(parity: Parity) -> list[str]:
    """Return a line for each output, unless the network is a classifier."""
    if parity.accuracy_artifact is not None:
        return []
    return [f"{each.name} {list(each.shape)}: {_output_text(each)}" for each in parity.outputs]


def _output_text(output: OutputParity) -> str:
    if output.agreement is not None:
        return f"the same in {output.agreement:.2%}"
    noise = "" if output.sqnr_db is None else f", noise {output.sqnr_db:.0f} dB below it"
    return f"error {output.max_relative_error:.1e}{noise}"
