"""The README says what is true."""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from hwnas.cli.main import COMMANDS, cli
from tools.__main__ import programs

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_quickstart_of_twenty_lines_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    [code] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 20
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path))
    exec(compile(code, "README.md", "exec"), {})
    assert re.fullmatch(r"[\d,]+ MACs, 0*\d*\.\d+ ms, 95 % \(.*\)\n", capsys.readouterr().out)
    assert (tmp_path / "network.onnx").exists()


def test_the_commands_for_a_network_of_ones_own_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ai_edge_quantizer")
    [(code, commands)] = re.findall(r"```py\n(.*?)```\s+```sh\n(.*?)```", README, re.DOTALL)
    (tmp_path / "nets.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for line in commands.splitlines():
        cli.main(shlex.split(line, comments=True)[1:], standalone_mode=False)
    sys.modules.pop("nets")
    assert {one.name for one in tmp_path.glob("net*.*[xe]")} == {
        "net.onnx", "net.tflite", "net8.onnx", "net8.tflite",
    }  # fmt: skip
    assert len(capsys.readouterr().out.splitlines()) == 5


def test_every_command_that_the_readme_types_exists() -> None:
    lines = re.findall(r"^hwnas (.*)$", README, re.MULTILINE)
    typed = {shlex.split(line, comments=True)[0] for line in lines}
    assert typed and typed <= set(COMMANDS)


@pytest.mark.parametrize("name", ["devices", "latency_models", "export"])
def test_each_data_folder_says_where_its_code_is(name: str) -> None:
    first = (ROOT / name / "README.md").read_text(encoding="utf-8").splitlines()[0]
    assert f"`hwnas/{name}/`" in first


def test_every_program_in_tools_is_in_their_readme() -> None:
    text = (ROOT / "tools" / "README.md").read_text(encoding="utf-8")
    assert len(programs()) > 15
    for name, question in programs().items():
        assert f"`{name.removeprefix('tools.')}`" in text
        assert question
