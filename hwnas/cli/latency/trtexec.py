"""`hwnas latency import` of what ``trtexec`` prints: an observation of a whole network."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hwnas.cli.tables import print_json, print_table

if TYPE_CHECKING:
    from hwnas.latency_models.importers.trtexec.log import TrtexecTimes

FIELDS = ("key", "ms", "standard_error", "scope", "batch", "comment")


def import_trtexec(
    file: Path,
    device: str,
    network: str | None,
    batch: int | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Print the times of a log and add its network to the device's ``observations.csv``.

    ``batch``: inputs of a call, for a log that doesn't say it. At another batch than 1 the device
    is another one, called so.
    """
    import msgspec

    from hwnas.errors import UsageError
    from hwnas.latency_models.importers.trtexec.inputs import batch_device
    from hwnas.latency_models.importers.trtexec.log import observation_of, read_trtexec
    from hwnas.latency_models.storage.model_file import row_of
    from hwnas.latency_models.storage.registry import model_name
    from hwnas.latency_models.storage.store import own_folder
    from hwnas.networks.resolve import find_network

    times = read_trtexec(file)
    if network is None:
        raise UsageError(
            f"{file} is trtexec's output, which does not say of which network it is: --network "
            "names the .onnx file, the run or the published network"
        )
    found = find_network(network)
    batch = _batch(file, times.inputs.batch(str(file), found.input_shape), batch)
    device = batch_device(model_name(device), batch)
    seen = observation_of(times, found.compute_blocks)
    path = out or own_folder(device) / "observations.csv"
    row = (
        ";".join(block.key for block in seen.blocks),
        f"{seen.ms:.6g}",
        f"{seen.standard_error:.4g}",
        seen.scope,
        str(batch),
        file.name,
    )
    count = _add(path, row)
    if as_json:
        print_json({
            "times": msgspec.to_builtins(times), "observation": row_of(seen), "device": device,
            "batch": batch, "file": str(path),
        })  # fmt: skip
        return
    _print(times, batch)
    click.echo(f"{path}: {count} network{'s' if count > 1 else ''} of {device}")
    if count >= 3:
        click.echo(f"next: hwnas latency adapt --from MODEL --to {device} --observations {path}")
    else:
        click.echo("`hwnas latency adapt --observations` takes it from three networks on")


def _batch(file: Path, told: int | None, given: int | None) -> int:
    """Return the batch that the log tells, else the one given. Raises `UsageError` for neither."""
    from hwnas.errors import UsageError

    if told is None and given is None:
        raise UsageError(
            f"{file} does not say how many inputs a call computed (no line 'Created input binding "
            "for … with dimensions …'): --batch N does, 1 for one"
        )
    if told is not None and given not in (None, told):
        raise UsageError(f"--batch {given}: {file} says that a call computed {told}")
    return told or given or 1


def _add(path: Path, row: tuple[str, ...]) -> int:
    """Add a row, or put it in the place of that of the same network; returns how many there are.

    Raises `InvalidFile` for a file with other columns, whose numbers may be in another unit, and
    for one of another batch.
    """
    from hwnas.errors import InvalidFile
    from hwnas.files import write_atomic

    rows: list[list[str]] = []
    if path.exists():
        titles, *rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8")))) or [[]]
        if tuple(titles) != FIELDS:
            raise InvalidFile(
                str(path),
                f"has the columns {','.join(titles)}, expected {','.join(FIELDS)}; name another "
                "file with --out",
            )
    rows = [one for one in rows if one]
    if any(len(one) != len(FIELDS) for one in rows):
        raise InvalidFile(str(path), f"has a row of other than {len(FIELDS)} values")
    place = FIELDS.index("batch")
    if others := sorted({one[place] for one in rows} - {row[place]}):
        raise InvalidFile(
            str(path),
            f"has latencies at batch {', '.join(others)}, the log's is {row[place]}; name another "
            "file with --out",
        )
    rows = [one for one in rows if one[0] != row[0]]
    held = io.StringIO()
    csv.writer(held, lineterminator="\n").writerows([FIELDS, *rows, row])
    write_atomic(path, held.getvalue())
    return len(rows) + 1


def _print(times: TrtexecTimes, batch: int) -> None:
    parts = {
        "computing on the GPU": times.compute,
        "input there": times.to_gpu,
        "outputs back": times.from_gpu,
        "enqueueing": times.enqueue,
        "all of it": times.latency,
    }
    rows = [
        [
            what,
            f"{one.median_ms:.4g}",
            f"{one.percentiles_ms['90']:.4g}" if "90" in one.percentiles_ms else "",
            f"{one.percentiles_ms['99']:.4g}" if "99" in one.percentiles_ms else "",
            f"{one.min_ms:.4g}",
        ]
        for what, one in parts.items()
        if one is not None
    ]
    print_table(["by trtexec", "median ms", "p90", "p99", "min"], rows)
    if batch > 1:
        each_ms = times.compute.median_ms / batch
        click.echo(f"times of a call of {batch} inputs; {each_ms:.4g} ms an input")
    if (rate := times.inputs_per_s(batch)) is not None:
        click.echo(f"{rate:.4g} inputs a second")
    if times.unstable_cv is not None:
        click.echo(
            f"unstable: the computing time varies by {times.unstable_cv:.1%} (CV); lock the "
            "clocks and measure again"
        )
