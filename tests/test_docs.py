"""The documentation is true: links lead somewhere, commands exist, and what can run does run."""

from __future__ import annotations

import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from torch import nn
from torch.distributed.run import get_args_parser

import hwnas
from hwnas.cli.main import cli
from hwnas.report.report import Report
from tests.support.paths import ROOT
from tests.support.reporting.sample_report import measured_report
from tools.__main__ import programs

PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "hwnas" / "spaces").rglob("README.md"),
        *(
            ROOT / folder / "README.md"
            for folder in ("devices", "latency_models", "export", "tools")
        ),
    ]
)
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"this be `([\w.]+)`:\n\n```py\n(.*?)```", re.DOTALL)
WRITTEN = {
    "docs/export.md": {"net.onnx", "net.tflite", "net8.onnx", "net8.tflite"},
    "docs/python.md": {"net.onnx", "net.tflite"},
}
"""Models that the examples of a page write."""


def blocks(page: str, *languages: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return [code for language, code in BLOCK.findall(text) if language in languages]


def commands(page: str) -> Iterator[list[str]]:
    """Yield the words of each `hwnas` command in the code blocks of a page."""
    for line in "".join(blocks(page, "sh", "console")).splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if "torchrun" in words[:1]:
            words = words[words.index("hwnas") :]
        if words[:1] == ["hwnas"]:
            yield words[1:]


def launches(page: str) -> Iterator[list[str]]:
    """Yield the words after each `torchrun` in the code blocks of a page; variables are 1."""
    for code in blocks(page, "console", "bash", "yaml"):
        for text in code.split("torchrun ")[1:]:
            words: list[str] = []
            for word in text.replace("\\\n", " ").split():
                if word == "$" or word.endswith(":"):  # the next prompt, or the next key of YAML
                    break
                words.append(re.sub(r"\$\w+", "1", word.strip("'")))
                if word.endswith("'"):
                    break
            if "hwnas" in words:
                yield words


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", NAMES)
def test_links_lead_to_files_and_headings(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in LINK.findall(text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        file = (ROOT / page).parent / name if name else ROOT / page
        assert file.exists(), target
        assert not anchor or anchor in anchors(file), target


@pytest.mark.parametrize("page", NAMES)
def test_commands_have_the_options_that_pages_type(page: str) -> None:
    for words in commands(page):
        check_options(words)


def check_options(words: list[str]) -> None:
    """Raise `click.UsageError` for an option that a command hasn't."""
    command: click.Command = cli
    context = click.Context(cli, info_name="hwnas", **cli.context_settings)
    while isinstance(command, click.Group):
        name, words = words[0], words[1:]
        below = command.get_command(context, name)
        assert below is not None, f"no command {name!r}"
        command, context = below, click.Context(below, info_name=name, parent=context)
    command.make_parser(context).parse_args(list(words))


def test_launches_have_the_options_that_torchrun_and_hwnas_take() -> None:
    """Those in the scripts of SLURM and Kubernetes too."""
    typed = list(launches("docs/distributed.md"))
    assert len(typed) == 5  # two on one machine, one on two, SLURM, Kubernetes
    for words in typed:
        launch = get_args_parser().parse_args(words)
        assert launch.module and launch.training_script == "hwnas"
        # what the shell puts in the place of $RESUME is an option, or nothing
        arguments = [word for word in launch.training_script_args if word != "1"]
        check_options(arguments)


def test_commands_are_found_on_pages() -> None:
    assert {words[0] for words in commands("README.md")} >= {"specialize", "benchmark"}


@pytest.mark.parametrize("page", [name for name in NAMES if blocks(name, "sh", "python")])
def test_examples_run(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run a page's ``sh`` and ``python`` blocks in order; ``console`` blocks are only parsed."""
    pytest.importorskip("ai_edge_quantizer")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    text = (ROOT / page).read_text(encoding="utf-8")
    files = FILE.findall(text)
    for name, code in files:
        (tmp_path / name).write_text(code)
    names: dict[str, object] = {"__name__": "example"}
    for language, code in BLOCK.findall(text):
        if language == "python":
            exec(compile(code, page, "exec"), names)
        elif language == "sh":
            for line in code.splitlines():
                words = shlex.split(line, comments=True)
                if words:
                    assert words[0] == "hwnas"
                    cli.main(words[1:], standalone_mode=False)
                    assert capsys.readouterr().out, line
    for name, _ in files:
        sys.modules.pop(name.removesuffix(".py"))
    models = {path.name for path in tmp_path.iterdir() if path.suffix in (".onnx", ".tflite")}
    assert models == WRITTEN.get(page, set())


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_examples_that_take_minutes_run_with_a_sample_report(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    signature = inspect.signature(hwnas.specialize)

    def specialize(**options: Any) -> Report:
        signature.bind(**options)
        return measured_report()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path))
    monkeypatch.setattr(hwnas, "specialize", specialize)
    [code] = blocks(page, "py")
    module = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    names: dict[str, object] = {"hwnas": hwnas, "my_module": module}
    exec(compile(code.replace("host-cpu", "simulated-phone"), page, "exec"), names)
    assert re.search(r"\d\.\d+", capsys.readouterr().out)


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 130


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in index


@pytest.mark.parametrize("name", ["devices", "latency_models", "export"])
def test_each_data_folder_names_its_code(name: str) -> None:
    text = (ROOT / name / "README.md").read_text(encoding="utf-8")
    assert f"`hwnas/{name}/`" in "\n".join(text.splitlines()[:6])


def test_every_program_in_tools_is_in_their_readme() -> None:
    text = (ROOT / "tools" / "README.md").read_text(encoding="utf-8")
    assert len(programs()) > 15
    for name, question in programs().items():
        assert f"`{name.removeprefix('tools.')}`" in text
        assert question


def test_the_page_of_the_command_line_is_what_help_prints() -> None:
    """`python -m tools.data.command_line` writes it; click remembers what other tests made."""
    code = "from tools.data.command_line import page; print(page(), end='')"
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8").splitlines()
    assert page == run.stdout.splitlines()
