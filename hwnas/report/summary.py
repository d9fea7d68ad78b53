"""The last lines of a run: verdicts, the files, and what to type next."""

from __future__ import annotations

from pathlib import Path

from hwnas.report import formatting
from hwnas.report.report import Report, Result


def summary(report: Report, folder: Path | None = None) -> str:
    """Return plain text for a terminal; paths are given from ``folder``, the run's."""
    parts = [_result_lines(result, folder) for result in report.results]
    parts.append([f"note  {note}" for note in report.notes])
    if folder is not None:
        parts.append([f"report  {folder / 'report.html'}"])
    if report.commands:
        lines = [f"  {command.line}  # {command.title}" for command in report.commands]
        parts.append(["next", *lines])
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def _result_lines(result: Result, folder: Path | None) -> list[str]:
    lines = [
        f"{result.target} · {result.runtime} {result.precision}",
        f"  {formatting.headline(result)}",
    ]
    if result.reason:
        lines.append(f"  {result.reason}")
    latency = result.latency
    if latency and latency.ci95_ms:
        lines.append(f"  95 % interval {formatting.interval(latency.ci95_ms)} ms ({latency.kind})")
    if latency and (surprise := formatting.surprise(latency)):
        lines.append(f"  {surprise}")
    if result.accuracy:
        lines.append(f"  {accuracy_line(result)}")
    for file in result.artifacts:
        path = file.path if folder is None else str(folder / file.path)
        lines.append(f"  {path}  {formatting.size(file.size_bytes)}  sha256 {file.sha256[:12]}")
    return lines


def accuracy_line(result: Result) -> str:
    """Return e.g. ``accuracy 97.2 % (95 % 95.0 to 98.5 %) on 360 test images, the file itself``."""
    accuracy = result.accuracy
    if accuracy is None:
        return "accuracy not known"
    bounds = f" (95 % {formatting.percent_interval(accuracy.ci95)})" if accuracy.ci95 else ""
    which = "in torch; the file was not run" if accuracy.artifact is None else "the file itself"
    shown = formatting.percent(formatting.shown_accuracy(result))
    return f"accuracy {shown}{bounds} on {accuracy.test_images} test images, {which}"
