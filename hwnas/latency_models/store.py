"""Where latency tables are kept: measured ones in the user's folder, published ones shipped."""

from __future__ import annotations

from pathlib import Path

from hwnas.errors import HwnasError, InvalidFile
from hwnas.files import home, write_atomic, write_json
from hwnas.latency_models.table import Conditions, HeldOut, LatencyTable
from hwnas.measurement import Environment
from hwnas.shipped import shipped
from hwnas.spaces.space import SearchSpace


def measured_folder(device: str, space: SearchSpace) -> Path:
    """Return the folder of this machine's own table and journal for a device and a space."""
    channels, size, _ = space.input_shape
    name = f"{space.name}-{channels}x{size}-{space.num_classes}"
    return home() / "latency_models" / device / name


def read_measured(folder: Path) -> LatencyTable | None:
    """Return the table in ``folder``, if one was made."""
    path = folder / "table.json"
    return LatencyTable.from_json(path.read_bytes(), str(path)) if path.exists() else None


def write_measured(table: LatencyTable, folder: Path) -> None:
    """Write ``table.json`` and the card that says what it is worth."""
    write_json(folder / "table.json", table)
    write_atomic(folder / "card.md", card(table))


def published_table(device: str, space: SearchSpace) -> LatencyTable | None:
    """Return a shipped table that covers ``space``; ``None`` if the device has none at all.

    Raises `HwnasError` naming the block if the device's tables do not cover the space.
    """
    folder = shipped("latency_models") / device
    if not folder.is_dir():
        return None
    files = sorted(
        (file for file in folder.iterdir() if file.name.endswith(".json")), key=lambda f: f.name
    )
    uncovered: HwnasError | None = None
    for file in files:
        table = LatencyTable.from_json(file.read_bytes(), str(file))
        try:
            table.cost_table(space)
        except HwnasError as error:
            uncovered = error
        else:
            return table
    if uncovered is not None:
        raise uncovered
    return None


def outdated(table: LatencyTable, now: Environment, reference_sha256: str) -> str | None:
    """Return why ``table`` does not hold under the conditions of ``now``, or ``None``."""
    then = table.conditions
    if then is None:
        return None
    if then.fingerprint != now.fingerprint:
        return (
            f"it was made on {then.hardware} (fingerprint {then.fingerprint}), this is "
            f"{now.hardware} ({now.fingerprint})"
        )
    if then.runtime_version != now.runtime_version:
        return f"{then.runtime} was {then.runtime_version} and is {now.runtime_version} now"
    if then.threads != now.threads:
        return f"it was made with {then.threads} threads, the profile now says {now.threads}"
    if then.reference_sha256 != reference_sha256:
        return "the reference model has changed since"
    return None


def calibration(now: Environment, reference_sha256: str) -> float | None:
    """Return the reference's latency from the newest table that holds under ``now``, if any."""
    tables = [
        table
        for path in sorted((home() / "latency_models" / now.device).glob("*/table.json"))
        if (table := read_table(path)).conditions is not None
        and outdated(table, now, reference_sha256) is None
    ]
    newest = max(tables, key=lambda table: table.made, default=None)
    return None if newest is None or newest.conditions is None else newest.conditions.reference_ms


def set_aside(folder: Path) -> None:
    """Rename an outdated table and its journal, so that nothing measured is lost."""
    for name in ("table.json", "journal.jsonl", "card.md"):
        path = folder / name
        if path.exists():
            stem, suffix = name.split(".")
            number = 1
            while (kept := folder / f"{stem}-{number}.{suffix}").exists():
                number += 1
            path.rename(kept)


def read_table(path: Path) -> LatencyTable:
    """Read a table from any file."""
    try:
        return LatencyTable.from_json(path.read_bytes(), str(path))
    except OSError as error:
        raise InvalidFile(str(path), error.strerror or str(error)) from None


def card(table: LatencyTable) -> str:
    """Say in Markdown where a table comes from and how far it can be trusted."""
    lines = [
        f"# Latency table of {table.device}",
        "",
        f"- source: {table.source}",
        f"- made: {table.made}",
        f"- kind: {table.kind}",
        f"- rows: {len(table.rows_ms)} blocks; whole networks in the fit: {len(table.observed)}",
        f"- in a network a block costs {table.scale:.3f} x (alone - {table.call_ms:.4f} ms); "
        f"a network of no blocks {table.overhead_ms:.4f} ms",
        *_error_lines(table.held_out),
        *_condition_lines(table.conditions),
    ]
    return "\n".join(lines) + "\n"


def _error_lines(held_out: HeldOut | None) -> list[str]:
    if held_out is None:
        return ["- held-out error: not known, no whole network was measured"]
    return [
        f"- held-out error over {held_out.networks} networks ({held_out.folds}-fold): within 5 % "
        f"{held_out.within_5:.0%}, within 10 % {held_out.within_10:.0%}, RMSPE "
        f"{held_out.rmspe:.1%}, Spearman {held_out.spearman:.3f}"
    ]


def _condition_lines(conditions: Conditions | None) -> list[str]:
    if conditions is None:
        return []
    return [
        f"- device: {conditions.hardware} (fingerprint {conditions.fingerprint})",
        f"- runtime: {conditions.runtime} {conditions.runtime_version}, "
        f"{conditions.threads} thread(s)",
        f"- reference model: {conditions.reference_ms:.4f} ms, interquartile range "
        f"{conditions.reference_spread:.1%} of it, sha256 {conditions.reference_sha256[:12]}",
    ]
