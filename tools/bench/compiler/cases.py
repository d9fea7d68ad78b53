"""Are the networks of a Python file compiled right, or refused with a clear line?

    OMP_NUM_THREADS=1 python -m tools.bench.compiler.cases FILE...

A FILE defines ``CASES``: a factory and an input shape without the batch for each name; ``EXPECT``
of it may state ``refuse`` for some. Each network is compiled to both formats in this process and
verified on noise as ``hwnas export`` does; a format is right, refused by an `HwnasError`, or ends
in another exception. Writes ``tools/bench/compiler/results/cases.md``.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from importlib import util
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import click
import torch

from hwnas.architecture.runtimes import COMPILED
from hwnas.errors import HwnasError, first_line
from hwnas.export.compile import export_module
from tools.bench.compiler.files import count_operators
from tools.lib.options import PATH, out_option
from tools.lib.results import command, results_folder, table, write_results

RESULTS = results_folder(__file__) / "cases.md"


class Outcome(NamedTuple):
    """What became of a network in a format."""

    case: str
    format: str
    result: str
    """``right``, ``refused``, or ``failed``"""
    error: float = 0.0
    transposes: int = 0
    cpu_s: float = 0.0
    message: str = ""


@click.command()
@click.argument("files", nargs=-1, required=True, type=PATH)
@click.option("--only", multiple=True, help="Name of a case; repeat it for several.")
@out_option(RESULTS)
def main(files: tuple[Path, ...], only: tuple[str, ...], out: Path) -> None:
    """Compile the networks of Python FILEs to both formats."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    parts: list[str] = []
    for file in files:
        cases = loaded(file)
        rows = [
            compiled(name, make, shape, format)
            for name, (make, shape) in cases.CASES.items()
            if not only or name in only
            for format in COMPILED
        ]
        parts += report_parts(file.name, rows, getattr(cases, "EXPECT", {}))
    called = "OMP_NUM_THREADS=1 " + command(__file__, " ".join(file.name for file in files))
    conditions = f"torch {torch.__version__}, one thread"
    title = "Networks of people's habits"
    click.echo(write_results(out, title, called, *parts, conditions=conditions))


def loaded(file: Path) -> Any:
    """Return the module of a Python file, which is run."""
    spec = util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = sys.modules[file.stem] = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compiled(name: str, make: Any, shape: Any, format: str) -> Outcome:
    """Compile a network and compare its file with PyTorch."""
    start = process_time()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"net.{format}"
        try:
            artifact = export_module(make(), shape, path)
        except HwnasError as error:
            outcome = Outcome(name, format, "refused", message=first_line(error))
        except Exception as error:  # whatever it is, it is a finding
            message = f"{type(error).__name__}: {first_line(error)}"
            outcome = Outcome(name, format, "failed", message=message)
        else:
            assert artifact.parity is not None
            ops = count_operators(path)
            transposes = ops.get("TRANSPOSE", 0) + ops.get("Transpose", 0)
            error = artifact.parity.max_relative_error
            outcome = Outcome(name, format, "right", error, transposes)
        message = outcome.message.replace(folder, "").removeprefix("/")
    outcome = outcome._replace(cpu_s=process_time() - start, message=message)
    print(*outcome[:3], f"{outcome.error:.1e}", message, file=sys.stderr, flush=True)
    return outcome


def report_parts(title: str, rows: list[Outcome], expected: dict[str, str]) -> list[str]:
    """Return a paragraph and a table of the networks that are not right in both formats."""
    names = dict.fromkeys(row.case for row in rows)
    right = [row for row in rows if row.result == "right"]
    both = [name for name in names if sum(row.case == name for row in right) == len(COMPILED)]
    failed = sum(row.result == "failed" for row in rows)
    unexpected = [name for name in both if expected.get(name) == "refuse"]
    largest = max((row.error for row in right), default=0.0)
    text = (
        f"`{title}`: {len(both)} of {len(names)} networks are right in both formats, largest error "
        f"{largest:.1e}; {failed} ended in a traceback"
        + (f"; a refusal was expected of {', '.join(unexpected)}" if unexpected else "")
        + "."
    )
    others = [
        [row.case, row.format, row.result, expected.get(row.case, ""), row.message[:160]]
        for row in rows
        if row.result != "right"
    ]
    moved = [
        [row.case, f"{row.error:.1e}", str(row.transposes), f"{row.cpu_s:.1f}"]
        for row in right
        if row.format == "tflite" and row.transposes
    ]
    return [
        text,
        table(("network", "format", "result", "expected", "message"), others) if others else "",
        "TFLite files with transposes:" if moved else "",
        table(("network", "error", "transposes", "CPU s"), moved) if moved else "",
    ]


if __name__ == "__main__":
    main()
