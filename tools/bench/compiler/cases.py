"""Are the networks of a Python file compiled right, or refused with a clear line?

    OMP_NUM_THREADS=1 python -m tools.bench.compiler.cases PATH...

A PATH is a Python file that defines ``CASES``: a factory and the input shapes without the batch for
each name; ``EXPECT`` of it may state ``refuse`` for some. Or it is a folder, of whose files those
are used that define ``CASES``. The folders of ``habits/`` beside this program are in the manner of
people's code. Each network is compiled to both formats in this process and verified on noise as
``hwnas export`` does. The file then runs on three other inputs beside the network: a format is
right, refused by an `HwnasError` of one line, wrong, or failed with another exception. Writes
``tools/bench/compiler/results/cases.md``; the table of ``habits/`` is in ``habits.md`` beside it,
that of its int8 files, calibrated on noise, in ``habits_int8.md``.
Those of ``habits/unseen`` were written before any of them was compiled: ``unseen_first.md`` is what
became of them then, ``unseen.md`` is today's table.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from importlib import util
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import click
import numpy as np
import onnx
import torch
from torch import nn

from hwnas.architecture.artifact import Format
from hwnas.architecture.runtimes import COMPILED
from hwnas.errors import HwnasError, first_line
from hwnas.export.compile import export_module, noise_for
from hwnas.export.graph.interface import module_interface
from hwnas.export.quantization.ptq import CALIBRATION_IMAGES, Int8
from hwnas.export.verification.images import NOISE_INPUTS, Verification
from hwnas.export.verification.metrics import Array, relative_error, sqnr_db
from hwnas.export.verification.module_outputs import module_outputs
from hwnas.export.verification.run_model import run_file
from hwnas.networks.onnx_file import load_onnx
from tools.bench.compiler.files import count_operators
from tools.lib.options import PATH, out_option
from tools.lib.results import command, results_folder, table, write_results

RESULTS = results_folder(__file__) / "cases.md"
CHECKED = 3
"""Inputs on which a file is compared once more, here."""
PARTS = slice(None, -CHECKED), slice(-CHECKED, None)
MAX_ERROR = 1e-4
MIN_INT8_DB = 5.0


class Outcome(NamedTuple):
    """What became of a network in a format."""

    case: str
    format: str
    result: str
    """``right``, ``refused``, ``wrong``, or ``failed``"""
    error: float = 0.0
    transposes: int = 0
    cpu_s: float = 0.0
    message: str = ""


@click.command()
@click.argument("paths", nargs=-1, required=True, type=PATH)
@click.option("--only", multiple=True, help="Name of a case; repeat it for several.")
@click.option("--int8", is_flag=True, help="Quantise to int8, calibrated on noise.")
@out_option(RESULTS)
def main(paths: tuple[Path, ...], only: tuple[str, ...], int8: bool, out: Path) -> None:
    """Compile the networks of Python files, or of folders of them, to both formats."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    parts: list[str] = []
    for title, cases in modules(paths):
        rows = [
            compiled(name, make, shapes, format, int8)
            for name, (make, shapes) in cases.CASES.items()
            if not only or name in only
            for format in COMPILED
        ]
        parts += report_parts(title, rows, getattr(cases, "EXPECT", {}))
    options = (*(f"--only {name!r}" for name in only), "--int8" if int8 else "", written_to(out))
    called = "OMP_NUM_THREADS=1 " + command(__file__, *map(str, paths), *options)
    conditions = f"torch {torch.__version__}, one thread"
    title = "Networks of people's habits"
    click.echo(write_results(out, title, called, *parts, conditions=conditions))


def written_to(out: Path) -> str:
    return "" if out.resolve() == RESULTS else f"--out {out}"


def modules(paths: Iterable[Path]) -> Iterator[tuple[str, Any]]:
    """Yield the title and the module of each file with cases."""
    for path in paths:
        files = sorted(path.glob("*.py")) if path.is_dir() else [path]
        defining = [(file, module) for file in files if hasattr(module := loaded(file), "CASES")]
        if not defining:
            raise click.UsageError(f"{path} defines no CASES, expected a dict of them by name")
        for file, module in defining:
            yield (f"{path.name}/{file.name}" if path.is_dir() else file.name), module


def loaded(file: Path) -> Any:
    """Return the module of a Python file, which is run."""
    name = f"cases_{file.stem}"  # a file may be called as a module of Python
    spec = util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = sys.modules[name] = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def compiled(name: str, make: Any, shapes: Any, format: Format, int8: bool) -> Outcome:
    """Compile a network and compare its file with it, twice."""
    start = process_time()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"net.{format}"
        try:
            outcome = Outcome(name, format, *attempt(make(), shapes, path, int8))
        except HwnasError as error:
            lines = str(error).strip().count("\n") + 1
            message = first_line(error)
            result = "refused" if lines == 1 else f"refused in {lines} lines"
            outcome = Outcome(name, format, result, message=message)
        except Exception as error:  # whatever it is, it is a finding
            message = f"{type(error).__name__}: {first_line(error)}"
            outcome = Outcome(name, format, "failed", message=message)
        message = outcome.message.replace(f"{folder}/", "")
    outcome = outcome._replace(cpu_s=process_time() - start, message=message)
    print(*outcome[:3], f"{outcome.error:.1e}", message, file=sys.stderr, flush=True)
    return outcome


def attempt(network: Any, shapes: Any, path: Path, int8: bool) -> tuple[str, float, int]:
    """Return what became of a network, the error of its file, and the number of its transposes.

    A ``network`` that is no module is an ONNX model.
    """
    if isinstance(network, nn.Module):
        module, interface = network, module_interface(network, shapes)
    else:
        source = path.with_name("source.onnx")
        onnx.save(network, source)
        module, interface = load_onnx(source, shapes)
    count = NOISE_INPUTS + CALIBRATION_IMAGES // 4 if int8 else NOISE_INPUTS
    noise = noise_for(module, interface, count + CHECKED)
    used, checked = ([array[part] for array in noise.inputs] for part in PARTS)
    calibration = None
    if int8:
        first, *others = (array[NOISE_INPUTS:] for array in used)
        calibration = Int8(first, others=tuple(others))
        used = [array[:NOISE_INPUTS] for array in used]
    verification = Verification(used[0], None, tuple(used[1:]))
    artifact = export_module(module, interface, path, verification=verification, int8=calibration)
    assert artifact.parity is not None
    counts = count_operators(path)
    transposes = counts.get("TRANSPOSE", 0) + counts.get("Transpose", 0)
    expected = module_outputs(module, interface, checked)
    outputs = run_file(path, checked, interface.input_names)
    agrees = all(
        outputs[output].shape == values.shape and agree(outputs[output], values, int8)
        for output, values in expected.items()
    )
    return "right" if agrees else "wrong", artifact.parity.max_relative_error, transposes


def agree(outputs: Array, expected: Array, int8: bool) -> bool:
    """Return whether outputs are those of the network, integers exactly."""
    if int8:
        return expected.dtype.kind != "f" or sqnr_db(outputs, expected) >= MIN_INT8_DB
    if expected.dtype.kind == "f":
        return relative_error(outputs, expected) <= MAX_ERROR
    return bool(np.array_equal(outputs, expected))


def report_parts(title: str, rows: list[Outcome], expected: dict[str, str]) -> list[str]:
    """Return a paragraph and a table of the networks that are not right in both formats."""
    names = dict.fromkeys(row.case for row in rows)
    right = [row for row in rows if row.result == "right"]
    both = [name for name in names if sum(row.case == name for row in right) == len(COMPILED)]
    failed, wrong = (sum(row.result == kind for row in rows) for kind in ("failed", "wrong"))
    unexpected = [name for name in both if expected.get(name) == "refuse"]
    largest = max((row.error for row in right), default=0.0)
    text = (
        f"`{title}`: {len(both)} of {len(names)} networks are right in both formats, largest error "
        f"{largest:.1e}; {failed} ended in a traceback, {wrong} files are wrong"
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
