"""The report of a run: read, written, rendered, and shown in a notebook."""

from __future__ import annotations

import shlex
from html import escape
from pathlib import Path
from typing import Any, Self

import msgspec

from hwnas.errors import BudgetError, InvalidFile, TooNoisy
from hwnas.files import decode, read_bytes, write_atomic, write_json
from hwnas.measurement.measurement import TOO_NOISY_HALF_WIDTH
from hwnas.recovery import is_json, is_run
from hwnas.report.html import html, markdown
from hwnas.report.schema import SCHEMA, ReportData, Result
from hwnas.report.text_summary import text_summary

NOTEBOOK_HEIGHT_PX = 800


class Report(ReportData, frozen=True, kw_only=True):
    """The report of a run, as ``hwnas specialize`` writes it.

    ``rows()`` gives the results as plain data, e.g. for ``pandas.DataFrame``; a notebook shows the
    HTML page.
    """

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read ``report.json``; unknown fields are ignored. Raises `InvalidFile`."""
        content = read_bytes(path)
        if is_run(path.parent) and not is_json(content):
            command = shlex.join(["hwnas", "specialize", "--resume", "--out", str(path.parent)])
            raise InvalidFile(str(path), f"damaged; `{command}` writes it again")
        schema = decode(content, _Version, str(path)).schema
        if schema != SCHEMA:
            raise InvalidFile(str(path), f"Expected schema {SCHEMA}, got {schema} - at `$.schema`")
        return decode(content, cls, str(path))

    def at(self, folder: Path) -> Self:
        """Return the report with commands for the run in ``folder``, even if the folder was
        moved."""
        words = [shlex.split(command.line) for command in self.commands]
        before = next((line[2] for line in words if line[:2] == ["hwnas", "report"]), None)
        if before is None:
            return self
        lines = (shlex.join(_moved(word, before, folder) for word in line) for line in words)
        commands = tuple(
            msgspec.structs.replace(command, line=line)
            for command, line in zip(self.commands, lines, strict=True)
        )
        return msgspec.structs.replace(self, commands=commands)

    def write(self, folder: Path) -> None:
        """Write the renderings, then ``report.json``, each atomically: the latter marks a run as
        finished."""
        self.render(folder)
        write_json(folder / "report.json", self)

    def render(self, folder: Path) -> None:
        """Write ``report.md`` and ``report.html`` only."""
        write_atomic(folder / "report.md", self.markdown())
        write_atomic(folder / "report.html", self.html())

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain data, as in ``report.json``."""
        return msgspec.json.decode(msgspec.json.encode(self))

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat row for each result: verdict, latency, accuracy, size, file."""
        return [_row(result) for result in self.results]

    def html(self) -> str:
        """Return a self-contained HTML page."""
        return html(self)

    def markdown(self) -> str:
        """Return GitHub-flavoured Markdown, without pictures."""
        return markdown(self)

    def summary(self, folder: Path | None = None, brief: bool = False) -> str:
        """Return a few lines for a terminal; with the run's ``folder`` also paths of its files.

        ``brief``: the results without reasons, notes and next commands.
        """
        return text_summary(self, folder, brief)

    def check_verdicts(self) -> None:
        """Raise `BudgetError` for a budget that is missed, `TooNoisy` for an uncertain latency."""
        for result in self.results:
            latency = result.latency
            if latency is not None and latency.ci95_ms is not None:
                low_ms, high_ms = latency.ci95_ms
                if (high_ms - low_ms) / 2 > TOO_NOISY_HALF_WIDTH * latency.median_ms:
                    raise TooNoisy(
                        f"the latency is only known to lie between {low_ms:.4g} and {high_ms:.4g} "
                        "ms; close other programs and measure again"
                    )
            if result.verdict == "missed":
                raise BudgetError(result.reason)

    def _repr_html_(self) -> str:
        """Return the page in a frame, so that its style stays inside."""
        return (
            f'<iframe srcdoc="{escape(self.html())}" sandbox="allow-scripts" '
            f'style="width: 100%; height: {NOTEBOOK_HEIGHT_PX}px; border: 0"></iframe>'
        )


class _Version(msgspec.Struct):
    schema: int


def _moved(word: str, before: str, folder: Path) -> str:
    """Return a word of a command with the run's former folder replaced by the present one."""
    if word != before and not word.startswith(f"{before}/"):
        return word
    return str(folder / word.removeprefix(before).lstrip("/"))


def _row(result: Result) -> dict[str, Any]:
    latency, network = result.latency, result.architecture
    low_ms, high_ms = (latency.ci95_ms if latency else None) or (None, None)
    file = result.artifacts[0] if result.artifacts else None
    return {
        "target": result.target,
        "runtime": result.runtime,
        "precision": result.precision,
        "budget_ms": result.budget_ms,
        "verdict": result.verdict,
        "kind": latency.kind if latency else None,
        "median_ms": latency.median_ms if latency else None,
        "ci95_low_ms": low_ms,
        "ci95_high_ms": high_ms,
        "p90_ms": latency.p90_ms if latency else None,
        "p99_ms": latency.p99_ms if latency else None,
        "predicted_ms": latency.predicted_ms if latency else None,
        result.score_name: result.score.shown if result.score else None,
        "params": network.params,
        "macs": network.macs,
        "digest": network.digest,
        "file": file.path if file else None,
        "size_bytes": file.size_bytes if file else None,
    }
