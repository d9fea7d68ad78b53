"""`hwnas latency import` of what ``trtexec`` prints: an observation of a whole network."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hwnas.cli.tables import print_json, print_table

if TYPE_CHECKING:
    from hwnas.latency_models.importers.trtexec import TrtexecTimes

FIELDS = ("key", "ms", "standard_error", "what", "comment")


def import_trtexec(
    file: Path, device: str, network: str | None, out: Path | None, as_json: bool
) -> None:
    """Print the times of a log and add its network to the device's ``observations.csv``."""
    import msgspec

    from hwnas.block import FREE_OPS
    from hwnas.errors import UsageError
    from hwnas.latency_models.importers.trtexec import observation_of, read_trtexec
    from hwnas.latency_models.names import model_name
    from hwnas.latency_models.store import own_folder
    from hwnas.pipeline.named_network import find_network

    times = read_trtexec(file)
    if network is None:
        raise UsageError(
            f"{file} is trtexec's output, which does not say of which network it is: --network "
            "names the .onnx file, the run or the published network"
        )
    blocks = find_network(network).blocks
    keys = tuple(block.key for block in blocks if block.op not in FREE_OPS)
    seen = observation_of(times, keys)
    path = out or own_folder(model_name(device)) / "observations.csv"
    row = (
        ";".join(seen.keys),
        f"{seen.ms:.6g}",
        f"{seen.standard_error:.4g}",
        seen.what,
        file.name,
    )
    count = _add(path, row)
    if as_json:
        print_json({"times": msgspec.to_builtins(times), "observation": seen, "file": str(path)})
        return
    _print(times)
    click.echo(f"{path}: {count} network{'s' if count > 1 else ''} of {device}")
    if count >= 3:
        click.echo(f"next: hwnas latency adapt --from MODEL --to {device} --observations {path}")
    else:
        click.echo("`hwnas latency adapt --observations` takes it from three networks on")


def _add(path: Path, row: tuple[str, ...]) -> int:
    """Add a row, or put it in the place of that of the same network; returns how many there are.

    Raises `InvalidFile` for a file with other columns: its numbers may be in another unit.
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
    rows = [one for one in rows if one and one[0] != row[0]]
    held = io.StringIO()
    csv.writer(held, lineterminator="\n").writerows([FIELDS, *rows, row])
    write_atomic(path, held.getvalue())
    return len(rows) + 1


def _print(times: TrtexecTimes) -> None:
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
    if times.throughput_per_s is not None:
        click.echo(f"{times.throughput_per_s:.4g} runs a second")
    if times.unstable_cv is not None:
        click.echo(
            f"unstable: the computing time varies by {times.unstable_cv:.1%} (CV); lock the "
            "clocks and measure again"
        )
