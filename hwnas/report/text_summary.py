"""The summary of a report for a terminal: verdicts, files, and what to run next."""

from __future__ import annotations

from pathlib import Path

from hwnas.report import formatting
from hwnas.report.schema import ReportData, Result
from hwnas.report.sentences import accuracy_sentence, prediction_error


def text_summary(report: ReportData, folder: Path | None = None, brief: bool = False) -> str:
    """Return plain text; paths are given from ``folder``, the run's. ``brief``: results only."""
    parts = [_result_lines(result, folder, brief) for result in report.results]
    if brief:
        return "\n".join("\n".join(lines) for lines in parts)
    parts.append([f"note  {note}" for note in report.notes])
    if folder is not None:
        parts.append([f"report  {folder / 'report.html'}"])
    if report.commands:
        lines = [f"  {command.line}  # {command.title}" for command in report.commands]
        parts.append(["next", *lines])
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def _result_lines(result: Result, folder: Path | None, brief: bool) -> list[str]:
    lines = [
        f"{result.target} · {result.runtime} {result.precision}",
        f"  {formatting.headline(result)}",
    ]
    if result.reason and not brief:
        lines.append(f"  {result.reason}")
    latency = result.latency
    if latency and latency.ci95_ms:
        lines.append(f"  95 % interval {formatting.interval(latency.ci95_ms)} ms ({latency.kind})")
    if latency and not brief and (error := prediction_error(latency)):
        lines.append(f"  {error}")
    if result.score:
        lines.append(f"  {accuracy_sentence(result)}")
    for file in result.artifacts:
        path = file.path if folder is None else str(folder / file.path)
        lines.append(f"  {path}  {formatting.size(file.size_bytes)}  sha256 {file.sha256[:12]}")
    return lines
