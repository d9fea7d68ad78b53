"""`hwnas latency import` of a log of ``trtexec``: the latency of one network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hwnas.cli.tables import print_json, print_table

if TYPE_CHECKING:
    from hwnas.latency_models.importers.trtexec.log import TrtexecTimes


def import_trtexec(
    file: Path,
    device: str,
    network: str | None,
    batch: int | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Print the times of a log, and add its network to the device's ``observations.csv``."""
    import msgspec

    from hwnas.errors import UsageError
    from hwnas.latency_models.fitting.fit import MIN_NETWORKS
    from hwnas.latency_models.importers.trtexec.collect import collect_log
    from hwnas.latency_models.storage.model_file import row_of
    from hwnas.networks.resolve import resolve_architecture

    if network is None:
        raise UsageError(
            f"{file} is trtexec's output, which does not name its network: expected --network "
            "with the .onnx file, the run or the published network"
        )
    timed = resolve_architecture(network)
    log = collect_log(file, device, timed.compute_blocks, timed.input_shape, batch=batch, out=out)
    if as_json:
        print_json(
            {
                "times": msgspec.to_builtins(log.times),
                "observation": row_of(log.observation),
                "device": log.device,
                "batch": log.batch,
                "file": str(log.path),
            }
        )
        return
    _print(log.times, log.batch)
    click.echo(
        f"{log.path}: {log.networks} network{'s' if log.networks > 1 else ''} of {log.device}"
    )
    if log.networks >= MIN_NETWORKS:
        adapt = f"hwnas latency adapt --from MODEL --to {log.device} --observations {log.path}"
        click.echo(f"next: {adapt}")
    else:
        click.echo(f"`hwnas latency adapt --observations` needs at least {MIN_NETWORKS} networks")


def _print(times: TrtexecTimes, batch: int) -> None:
    parts = {
        "GPU compute": times.compute,
        "copy to the GPU": times.to_gpu,
        "copy from the GPU": times.from_gpu,
        "enqueue": times.enqueue,
        "total latency": times.latency,
    }
    rows = [
        [
            name,
            f"{part.median_ms:.4g}",
            f"{part.percentiles_ms['90']:.4g}" if "90" in part.percentiles_ms else "",
            f"{part.percentiles_ms['99']:.4g}" if "99" in part.percentiles_ms else "",
            f"{part.min_ms:.4g}",
        ]
        for name, part in parts.items()
        if part is not None
    ]
    print_table(["by trtexec", "median, ms", "p90", "p99", "min"], rows)
    if batch > 1:
        per_input_ms = times.compute.median_ms / batch
        click.echo(f"times of a call of {batch} inputs; {per_input_ms:.4g} ms per input")
    if (rate := times.inputs_per_s(batch)) is not None:
        click.echo(f"{rate:.4g} inputs per second")
    if times.unstable_cv is not None:
        click.echo(
            f"unstable: the compute time varies by {times.unstable_cv:.1%} (coefficient of "
            "variation); lock the clocks and measure again"
        )
