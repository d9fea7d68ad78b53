"""Imports go down only (design.md, section 2), as the source says it, lazy imports included."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import hwnas

ROOT = Path(hwnas.__file__).parent

PLAIN = (
    "architecture artifact block block_counts files intervals measurement plugins processes "
    "regression shipped wiring"
)
TORCH_FREE = f"errors {PLAIN} spaces latency_models devices report"
DATA = "batches checkpoint data_sources datasets distributed image_folder images splits training nn"
MAY_IMPORT = {
    "errors": "",
    **dict.fromkeys(PLAIN.split(), "errors"),
    "measurement": "errors intervals",
    "regression": "errors intervals measurement",
    "block": "errors block_counts",
    "wiring": "errors block",
    "architecture": "errors block wiring",
    "spaces": f"errors {PLAIN}",
    "latency_models": f"errors {PLAIN} spaces",
    "devices": f"errors {PLAIN} spaces",
    "report": f"errors {PLAIN} spaces",
    **dict.fromkeys(DATA.split(), f"errors {PLAIN} spaces {DATA}"),
    # costs enter a search as a table of floats, see ONLY
    "search": f"errors {PLAIN} spaces {DATA} latency_models",
    # files are opened with the device worker's runtimes, see ONLY
    "export": f"errors {PLAIN} spaces {DATA} devices",
    "block_times": TORCH_FREE,
    "profiling": f"{TORCH_FREE} {DATA} search export block_times",
    "pipeline": f"{TORCH_FREE} {DATA} search export profiling",
    "specialize": f"{TORCH_FREE} {DATA} search export profiling pipeline",
    "cli": f"{TORCH_FREE} {DATA} search export profiling pipeline specialize testing",
    "testing": f"{TORCH_FREE} {DATA} search export",
    "__main__": "cli",
}
"""What each part may import; a part may always import itself and the version in `hwnas`."""

ONLY = {
    ("search", "latency_models"): ("hwnas.latency_models.cost",),
    ("export", "devices"): ("hwnas.devices.worker_model", "hwnas.devices.worker_litert"),
    ("profiling", "search"): ("hwnas.search.derive",),
}
"""Where these modules of a part are all that may be imported."""

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
    assert {part(name) for name, _ in modules()} - {"hwnas"} == set(MAY_IMPORT)


def test_nobody_imports_upwards() -> None:
    wrong = [
        f"{name} imports {found}"
        for name, tree in modules()
        for found in imports(tree)
        if found.startswith("hwnas.")
        and found != "hwnas.__version__"
        and part(found) not in {part(name), *MAY_IMPORT.get(part(name), "").split()}
    ]
    assert wrong == []


def test_neighbours_touch_in_the_agreed_module_only() -> None:
    wrong = [
        f"{name} imports {found}"
        for name, tree in modules()
        for found in imports(tree)
        if found.startswith("hwnas.")
        and (allowed := ONLY.get((part(name), part(found)))) is not None
        and found not in allowed
    ]
    assert wrong == []


def test_the_agreed_direction_has_no_circle() -> None:
    def reached(name: str, path: tuple[str, ...] = ()) -> None:
        assert name not in path, f"{' -> '.join(path)} -> {name}"
        for below in MAY_IMPORT[name].split():
            if not {name, below} <= set(DATA.split()):
                reached(below, (*path, name))

    reached("__main__")


def test_plain_data_spaces_latency_models_devices_and_report_know_no_torch() -> None:
    wrong = [
        f"{name} imports {found}"
        for name, tree in modules()
        if part(name) in TORCH_FREE.split()
        for found in imports(tree)
        if found.split(".")[0] in HEAVY
    ]
    assert wrong == []


def test_strategies_see_neither_devices_nor_predictors() -> None:
    wrong = [
        f"{name} imports {found}"
        for name, tree in modules()
        if part(name) == "search"
        for found in imports(tree)
        if found.startswith(("hwnas.devices", "hwnas.export", "hwnas.latency_models.table"))
    ]
    assert wrong == []


def test_the_command_line_imports_nothing_heavy_at_its_top() -> None:
    heavy = (
        HEAVY
        | {"numpy", "plotly", "rich", "msgspec"}
        | {f"hwnas.{name}" for name in MAY_IMPORT if name not in ("cli", "errors", "__main__")}
    )
    wrong = [
        f"{name} imports {found}"
        for name, tree in modules()
        if part(name) in ("cli", "__main__", "hwnas")
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for found in imports(ast.Module([node], []))
        if found.split(".")[0] in heavy or ".".join(found.split(".")[:2]) in heavy
    ]
    assert wrong == []
