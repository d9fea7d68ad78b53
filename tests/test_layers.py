"""Imports go down only (design.md, section 2), as the source says it, lazy imports included."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import hwnas

ROOT = Path(hwnas.__file__).parent
CHECKOUT = Path(__file__).parents[1]

PLAIN = (
    "architecture callable_package delimited files integrity measurement plugins processes "
    "recovery shipped"
)
TORCH_FREE = f"errors {PLAIN} spaces latency_models devices report"
DATA = "data training nn"
MAY_IMPORT = {
    "errors": "",
    **dict.fromkeys(PLAIN.split(), "errors"),
    "files": "errors integrity",
    "recovery": "errors files integrity",
    "spaces": f"errors {PLAIN}",
    "latency_models": f"errors {PLAIN} spaces",
    "devices": f"errors {PLAIN} spaces",
    "report": f"errors {PLAIN} spaces",
    "data": f"errors {PLAIN}",
    "nn": f"errors {PLAIN} spaces",
    "training": f"errors {PLAIN} spaces data nn",
    "pretrained": f"errors {PLAIN} spaces {DATA}",
    # costs enter a search as a table of floats, see ONLY
    "search": f"errors {PLAIN} spaces {DATA} latency_models pretrained",
    # files are opened with the device worker's runtimes, see ONLY
    "export": f"errors {PLAIN} spaces {DATA} devices",
    "console": "errors",
    # how many bits a file has, see ONLY
    "benchmarking": f"errors {PLAIN} spaces latency_models devices export",
    "profiling": f"{TORCH_FREE} {DATA} search export console",
    "networks": f"errors {PLAIN} spaces {DATA} export pretrained",
    "deploy": f"{TORCH_FREE} {DATA} export pretrained networks",
    # delivered files on images: reads reports and bundles, needs neither search nor training
    "evaluation": f"{TORCH_FREE} data export deploy",
    "specialize": f"{TORCH_FREE} {DATA} search export console profiling pretrained networks deploy "
    "benchmarking",
    "testing": f"{TORCH_FREE} {DATA} search export",
    "api": f"{TORCH_FREE} {DATA} search export console profiling pretrained "
    "networks deploy specialize benchmarking evaluation",
    "cli": f"{TORCH_FREE} {DATA} search export console profiling pretrained networks deploy "
    "specialize testing benchmarking evaluation api",
    "__main__": "cli",
    # the front door; it imports when a name is used
    "hwnas": f"{TORCH_FREE} benchmarking evaluation api",
}
"""What each part may import; a part may always import itself and the version in `hwnas`."""

ONLY = {
    ("search", "latency_models"): ("hwnas.latency_models.cost",),
    ("export", "devices"): (
        "hwnas.devices.external_data",
        "hwnas.devices.worker.model",
        "hwnas.devices.worker.runtimes.open",
        "hwnas.devices.worker.runtimes.refusals",
        "hwnas.devices.worker.runtimes.litert",
        "hwnas.devices.worker.runtimes.onnxruntime_cpu",
    ),
    ("profiling", "search"): ("hwnas.search.knapsack",),
    ("benchmarking", "export"): ("hwnas.export.metadata.precision",),
}
"""Where these modules of a part are all that may be imported."""

MAX_FILES = 12
"""Python files in a folder, without ``__init__.py``."""

HEAVY = {"torch", "torchvision", "safetensors", "onnx", "onnxruntime", "lightning"}


def modules() -> Iterator[tuple[str, ast.Module]]:
    for file in sorted(ROOT.rglob("*.py")):
        name = ".".join(("hwnas", *file.relative_to(ROOT).with_suffix("").parts))
        yield name.removesuffix(".__init__"), ast.parse(file.read_text(encoding="utf-8"))


def imports(tree: ast.Module) -> Iterator[str]:
    """Yield the modules that a module imports anywhere, also for types only."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, "imports are absolute"
            if node.module == "hwnas":
                yield from (f"hwnas.{alias.name}" for alias in node.names)
            else:
                yield node.module


def part(module: str) -> str:
    return module.split(".")[1] if "." in module else "hwnas"


def test_every_part_of_the_package_has_its_place() -> None:
    assert {part(name) for name, _ in modules()} == set(MAY_IMPORT)


def test_nobody_imports_upwards() -> None:
    wrong = [
        f"{name} imports {target}"
        for name, tree in modules()
        for target in imports(tree)
        if target.startswith("hwnas.")
        and target != "hwnas.__version__"
        and part(target) not in {part(name), *MAY_IMPORT.get(part(name), "").split()}
    ]
    assert wrong == []


def test_neighbours_touch_in_the_agreed_module_only() -> None:
    wrong = [
        f"{name} imports {target}"
        for name, tree in modules()
        for target in imports(tree)
        if target.startswith("hwnas.")
        and (allowed := ONLY.get((part(name), part(target)))) is not None
        and target not in allowed
    ]
    assert wrong == []


def test_the_agreed_direction_has_no_circle() -> None:
    def reached(name: str, path: tuple[str, ...] = ()) -> None:
        assert name not in path, f"{' -> '.join(path)} -> {name}"
        for below in MAY_IMPORT[name].split():
            reached(below, (*path, name))

    reached("__main__")


def test_no_files_import_each_other_in_a_circle() -> None:
    names = {name for name, _ in modules()}
    below = {name: {b for b in imports(tree) if b in names} - {name} for name, tree in modules()}
    visited: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"{' -> '.join(path[path.index(name) :])} -> {name}"
        if name not in visited:
            for other in sorted(below[name]):
                visit(other, (*path, name))
            visited.add(name)

    for name in sorted(names):
        visit(name, ())


def folders() -> Iterator[tuple[Path, list[str]]]:
    """Yield each folder of the package with the names of its Python files."""
    for folder in sorted({file.parent for file in ROOT.rglob("*.py")}):
        yield folder, sorted(f.stem for f in folder.glob("*.py") if not f.stem.startswith("__"))


def groups(folder: Path) -> Iterator[str]:
    """Yield the names of the folders in a folder and beside it, in singular and plural."""
    for parent in {folder, folder.parent} - {ROOT.parent}:
        for inner in parent.iterdir():
            if inner.is_dir() and (inner / "__init__.py").exists():
                yield from (inner.name, inner.name.removesuffix("s"))


def test_no_file_name_begins_with_the_name_of_its_folder_or_of_a_neighbour() -> None:
    """A prefix is a folder: ``tflite/writer.py``, not ``tflite_writer.py``."""
    wrong = [
        str(folder.relative_to(ROOT) / name)
        for folder, names in folders()
        for name in names
        for group in {*(folder.name, folder.name.removesuffix("s")), *groups(folder), *names}
        if name.startswith(f"{group}_")
    ]
    assert wrong == []


def test_no_folder_is_a_drawer() -> None:
    wrong = {str(folder): len(names) for folder, names in folders() if len(names) > MAX_FILES}
    assert wrong == {}


@pytest.mark.parametrize("root", ["tests", "tools"])
def test_no_folder_of_tests_or_programs_is_a_drawer(root: str) -> None:
    """Only that of the tests of the package's own files, and of those of the repository."""
    inner = [file.parent for file in (CHECKOUT / root).rglob("*.py")]
    counts = {folder: len(list(folder.glob("[!_]*.py"))) for folder in inner}
    wrong = {str(f): n for f, n in counts.items() if n > MAX_FILES and f != CHECKOUT / "tests"}
    assert wrong == {}


def test_plain_data_spaces_latency_models_devices_and_report_know_no_torch() -> None:
    wrong = [
        f"{name} imports {target}"
        for name, tree in modules()
        if part(name) in f"{TORCH_FREE} benchmarking".split()
        for target in imports(tree)
        if target.split(".")[0] in HEAVY
    ]
    assert wrong == []


def test_strategies_see_neither_devices_nor_predictors() -> None:
    wrong = [
        f"{name} imports {target}"
        for name, tree in modules()
        if part(name) == "search"
        for target in imports(tree)
        if target.startswith(("hwnas.devices", "hwnas.export", "hwnas.latency_models.table"))
    ]
    assert wrong == []


def test_the_command_line_imports_nothing_heavy_at_its_top() -> None:
    heavy = (
        HEAVY
        | {"numpy", "rich", "msgspec"}
        | {f"hwnas.{name}" for name in MAY_IMPORT if name not in ("cli", "errors", "__main__")}
    )
    wrong = [
        f"{name} imports {target}"
        for name, tree in modules()
        if part(name) in ("cli", "__main__", "hwnas")
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for target in imports(ast.Module([node], []))
        if target.split(".")[0] in heavy or ".".join(target.split(".")[:2]) in heavy
    ]
    assert wrong == []
