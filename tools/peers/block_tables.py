"""How long does a table of blocks take by TensorFlow's converter, and how long by hwnas?

    python -m tools.peers.block_tables --tensorflow PYTHON [--blocks 40]

``PYTHON`` is that of an environment with ``pip install tensorflow-cpu``. The blocks are some of
those of `tools.bench.measuring.block_table`: each becomes a TFLite file of its own, by Keras and
``TFLiteConverter`` there and by hwnas here. Times are processor times, so that other programs
hardly matter. Latencies are taken in both ways, but are not compared: 50 calls of each file after
another there, rounds beside a reference model in five processes here. Writes
results/block_tables.md.
"""

from __future__ import annotations

import json
import resource
import subprocess
import tempfile
from pathlib import Path
from statistics import fmean, median
from time import process_time

import click
import msgspec

from hwnas.architecture.architecture import Block
from hwnas.devices.profile import find_profile
from hwnas.devices.runner import Subject, open_runner
from hwnas.measurement.disturbance import Disturbed
from hwnas.profiling.bench import compile_untrained
from tools.bench.measuring.block_table import mobile_blocks
from tools.lib.options import PATH
from tools.lib.results import command, results_folder, table, write_results

RESULTS = results_folder(__file__) / "block_tables.md"
SCRIPT = Path(__file__).with_name("keras_blocks.py")
WHOLE = 500
"""Blocks of the table that the times are extrapolated to."""


@click.command()
@click.option("--tensorflow", "python", type=PATH, required=True, help="Python with TensorFlow.")
@click.option("--blocks", "number", default=40, show_default=True, type=click.IntRange(2))
def main(python: Path, number: int) -> None:
    """Convert and time the same blocks by TensorFlow and by hwnas."""
    blocks = chosen_blocks(number)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        theirs, version = by_tensorflow(python, blocks, folder)
        ours = by_hwnas(blocks, folder)
    rows: list[list[str]] = []
    for who, converted_s, timed_s in ((f"TensorFlow {version}", *theirs), ("hwnas", *ours)):
        each_s = fmean(converted_s) + timed_s / number
        rows.append(
            [
                who,
                f"{1e3 * median(converted_s):.0f}",
                f"{1e3 * fmean(converted_s):.0f}",
                f"{1e3 * timed_s / number:.0f}",
                f"{WHOLE * each_s:.0f}",
            ]
        )
    titles = ["by", "file of a block, median", "mean", "latency of a block, mean"]
    text = write_results(
        RESULTS,
        "A table of blocks beside TensorFlow's",
        command(__file__, f"--tensorflow PYTHON --blocks {number}"),
        f"{number} blocks of the space `mobile`, TFLite; processor time in ms. The last column is "
        f"extrapolated from them, in seconds, without imports. A latency is the median of 50 "
        "calls there; here it has rounds beside a reference model in five processes, whose starts "
        "and warm-ups are counted.",
        table([*titles, f"{WHOLE} blocks, s"], rows),
    )
    click.echo(text)


def chosen_blocks(number: int) -> list[Block]:
    """Return blocks of all sizes, without those that end a network."""
    pool = [block for block in mobile_blocks(WHOLE) if block.op != "logits"]
    return pool[:: len(pool) // number][:number]


def by_tensorflow(
    python: Path, blocks: list[Block], folder: Path, script: Path = SCRIPT
) -> tuple[tuple[list[float], float], str]:
    """Return seconds of each conversion and of all latencies, and the version."""
    (folder / "blocks.json").write_bytes(msgspec.json.encode(blocks))
    done = subprocess.run(
        [python, script, folder / "blocks.json", folder], stdout=subprocess.PIPE, check=True
    )
    answer = json.loads(done.stdout.splitlines()[-1])
    return (answer["converted_s"], sum(answer["timed_s"])), answer["version"]


def by_hwnas(blocks: list[Block], folder: Path) -> tuple[list[float], float]:
    """Return seconds of each compilation, and of all latencies in their processes."""
    converted_s: list[float] = []
    subjects: list[Subject] = []
    for place, block in enumerate(blocks):
        begun_s, path = process_time(), folder / f"own-{place}.tflite"
        compile_untrained((block,), (), path)
        converted_s.append(process_time() - begun_s)
        subjects.append(Subject(block.key, path))
    begun_s = _children_s()
    with open_runner(find_profile("host-cpu-litert")) as runner:
        try:
            runner.measure(subjects)
        except Disturbed as error:
            click.echo(f"not all have a latency: {error}", err=True)
    return converted_s, _children_s() - begun_s


def _children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
