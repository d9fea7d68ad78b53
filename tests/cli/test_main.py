"""The command line: one line for an error, its exit code, and a quick start."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from errno import EACCES, EDQUOT, ENOSPC
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from click.testing import CliRunner

from hwnas import files
from hwnas.cli.main import COMMANDS, cli, main
from hwnas.errors import ExportError, TooNoisy, TrainingFailed, WriteError
from hwnas.report.report import Report
from hwnas.specialize.run_folder import RunFolder
from hwnas.specialize.setup.work import settle
from hwnas.specialize.spec import RunSpec
from tests.support.reporting.sample_report import measured_report, measured_result
from tests.support.reporting.sample_run import PHONE, ROOT, put_phone_table, write_images


class Output(NamedTuple):
    code: int
    out: str
    err: str


Call = Callable[..., Output]


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(settle, "MEASURED_S", 0.0)  # two steps of each kind


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Call ``hwnas`` in this process."""

    def run(*arguments: str) -> Output:
        monkeypatch.setattr(sys, "argv", ["hwnas", *arguments])
        code: object = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        assert isinstance(code, int)
        captured = capsys.readouterr()
        return Output(code, captured.out, captured.err)

    return run


@pytest.fixture
def phone(tmp_path: Path) -> list[str]:
    """Return the command line of a run on the simulated phone, which has a table."""
    put_phone_table()
    data = write_images(tmp_path / "images.npz", train=60, test=12)
    return ["specialize", "--target", PHONE.name, "--data", str(data), "--threads", "1"]


def process(*arguments: str, **environment: str) -> Output:
    """Call ``hwnas`` in a process of its own."""
    command = [sys.executable, "-m", "hwnas", *arguments]
    paths = [path for path in (environment.pop("PYTHONPATH", ""), str(ROOT)) if path]
    done = subprocess.run(
        command,
        env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    return Output(done.returncode, done.stdout, done.stderr)


def only_line(output: Output) -> str:
    """Return the line of an output that must be one line of error."""
    assert output.out == ""
    [line] = output.err.splitlines()
    assert line.startswith("hwnas: ")
    return line


def test_an_unknown_target_is_exit_2_with_the_nearest_name() -> None:
    output = process("specialize", "--target", "hots-cpu")
    assert output.code == 2
    assert "no device named 'hots-cpu', did you mean 'host-cpu'?" in only_line(output)


def test_an_unwritable_folder_is_exit_1(phone: list[str], call: Call) -> None:
    output = call(*phone, "--out", "/dev/null/x")
    assert output.code == 1
    assert only_line(output) == "hwnas: /dev/null/x: cannot be written (Not a directory)"


def at(target: str, phone: list[str]) -> list[str]:
    """Return the same command line for another target."""
    place = phone.index("--target") + 1
    return [*phone[:place], target, *phone[place + 1 :]]


@pytest.mark.parametrize(
    ("package", "target"), [("onnxruntime", "host-cpu"), ("ai_edge_litert", "simulated-phone")]
)
def test_a_missing_runtime_is_exit_3_with_what_to_install(
    tmp_path: Path, phone: list[str], package: str, target: str
) -> None:
    stub = tmp_path / "stub" / package
    stub.mkdir(parents=True)
    (stub / "__init__.py").write_text("raise ImportError(name=__name__)")
    words = at(target, phone)
    output = process(*words, "--quiet", PYTHONPATH=str(stub.parent))
    assert output.code == 3, output.err
    assert f"hwnas: {target}: " in only_line(output) and "pip install" in output.err
    assert not list(tmp_path.glob("runs/*/checkpoints"))


def test_an_unreachable_budget_is_exit_5_before_any_training(
    tmp_path: Path, phone: list[str], call: Call
) -> None:
    output = call(*phone, "--budget", "1us", "--out", "run", "--quiet")
    assert output.code == 5
    line = only_line(output)
    assert "a budget of 0.001 ms is below the fastest network of the space; reachable are" in line
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_budget_above_every_network_is_exit_5(phone: list[str], call: Call) -> None:
    output = call(*phone, "--budget", "1s", "--dry-run", "--quiet")
    assert (output.code, "above the largest network of the space" in only_line(output)) == (5, True)


@pytest.mark.parametrize("budget", ["80", "ms", "-3ms", "0ms", "5 parsecs", "nan ms", "1e3ms", ""])
def test_an_invalid_budget_is_exit_2(phone: list[str], call: Call, budget: str) -> None:
    output = call(*phone, "--budget", budget)
    assert output.code == 2
    line = only_line(output)
    assert f"'--budget': {budget!r}: expected a positive number with its unit" in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data", "fashion-mnist-6"], "did you mean 'fashion-mnist-6k'"),
        (["--data", "none.npz"], "none.npz: does not exist, expected a folder of images"),
        (["--data", "{empty}"], "{empty}: "),
        (["--strategy", "ista"], "the strategy 'ista' chooses operations of a cell's nodes"),
        (
            ["--strategy", "reinforce", "--space", "cells"],
            "the space 'cells' has decisions that several",
        ),
        (
            ["--strategy", "nsga2", "--space", "cells"],
            "the space 'cells' has decisions that several",
        ),
        (["--strategy", "ista-one-stage", "--space", "cells"], "use --space cells-norm"),
        (
            ["--strategy", "ista", "--space", "cells", "--objective", "hinge"],
            "--objective hinge: strategy 'ista' has no loss or reward",
        ),
        (["--strategy", "random", "--objective", "hinge"], "--objective hinge: strategy 'random'"),
        (["--space", "mobil"], "no space (or .toml file) named 'mobil', did you mean 'mobile'?"),
        (["--strategy", "proxy"], "no strategy named 'proxy'"),
        (["--effort", "quik"], "no effort named 'quik', did you mean 'quick'?"),
        (["--precision", "int4"], "'int4': expected fp32, int8 or auto"),
        (["--resume", "--out", "{empty}"], "{empty}: there is no run to resume"),
    ],
)
def test_an_invalid_option_is_one_line_and_exit_2(
    tmp_path: Path, phone: list[str], call: Call, options: list[str], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    empty = str(tmp_path / "empty")
    output = call(*phone, *(option.format(empty=empty) for option in options))
    assert output.code == 2
    assert message.format(empty=empty) in only_line(output)
    assert not (tmp_path / "runs").exists()


def test_a_folder_without_images_is_named_with_what_was_expected(
    tmp_path: Path, phone: list[str], call: Call
) -> None:
    (tmp_path / "texts" / "a").mkdir(parents=True)
    (tmp_path / "texts" / "a" / "note.txt").write_text("no image")
    output = call(*phone, "--data", str(tmp_path / "texts"))
    assert output.code == 2
    assert "image" in only_line(output) and str(tmp_path / "texts") in output.err


def test_an_unknown_command_is_exit_2_with_the_nearest_name(call: Call) -> None:
    output = call("specialise")
    assert output.code == 2
    assert "no command named 'specialise', did you mean 'specialize'?" in output.err


def test_every_command_has_help() -> None:
    groups = {"devices": ["list", "show", "check"], "latency": ["measure"]}
    for name, (_, line) in COMMANDS.items():
        for words in ([name], *([name, below] for below in groups.get(name, []))):
            output = CliRunner().invoke(cli, [*words, "--help"])
            assert output.exit_code == 0, words
            assert output.stdout.startswith(f"Usage: cli {' '.join(words)}")
        assert line in CliRunner().invoke(cli, ["--help"]).stdout


@pytest.mark.parametrize("arguments", [["--help"], ["devices", "list"], ["specialize", "--help"]])
def test_quick_commands_import_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from hwnas.cli.main import main\n"
        f"sys.argv = ['hwnas', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    assert not ended.code\n"
        "heavy = 'torch torchvision onnx onnxruntime ai_edge_litert scipy numpy'.split()\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_dry_run_gives_the_range_of_the_simulated_phone(phone: list[str], call: Call) -> None:
    output = call(*phone, "--budget", "50%", "--dry-run", "--json", "--quiet")
    assert output.code == 0
    document = json.loads(output.out)
    [result] = document["results"]
    low_ms, middle_ms, high_ms = result["range_ms"]
    assert 0 < low_ms < middle_ms < high_ms
    assert result["budget_ms"] == pytest.approx(0.5 * high_ms)
    assert result["latency"]["kind"] == "predicted"
    assert document["data"]["input_shape"] == [1, 16, 16]
    assert not Path("runs").exists()


def test_a_dry_run_gives_the_published_range_of_the_pixel_1(phone: list[str], call: Call) -> None:
    output = call(*at("pixel1", phone), "--dry-run", "--json")
    assert output.code == 0
    # the test's photos are few: the plan says that they give no search
    [line] = output.err.splitlines()
    assert line.startswith("no search: 32 + 24 steps of warm-up and search are planned, and below")
    document = json.loads(output.out)
    low_ms, _, high_ms = document["results"][0]["range_ms"]
    assert (round(low_ms, 1), round(high_ms)) == (29.6, 191)
    assert document["results"][0]["latency"]["kind"] == "table"
    assert document["data"]["input_shape"] == [3, 224, 224]
    people = call(*phone, "--target", "pixel1", "--dry-run").out
    assert "29.61 to 191 ms" in people and "nothing was trained" in people


@pytest.mark.parametrize(
    ("option", "name"),
    [
        (["--seed", "1"], "--seed 0, not --seed 1"),
        (["--budget", "5ms"], "no --budget, not --budget 5ms"),
        (["--target", "pixel1"], "--target simulated-phone, not --target pixel1"),
        (["--no-flip"], "no --flip, not --no-flip"),
        (["--separate-weights"], "--share-weights, not --separate-weights"),
    ],
)
def test_resuming_with_another_option_names_it(
    tmp_path: Path, call: Call, option: list[str], name: str
) -> None:
    RunFolder.open(
        tmp_path / "run", RunSpec(targets=(PHONE.name,), data="x.npz"), resume=False
    ).close()
    output = call("specialize", "--resume", "--out", "run", *option)
    assert output.code == 2
    assert f"the run to resume has {name}" in only_line(output)


def test_a_folder_locked_by_another_process_is_refused(
    tmp_path: Path, phone: list[str], call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LOCK_WAIT_S", 0.2)
    code = (
        "import sys; from pathlib import Path; from hwnas.files import lock_folder\n"
        "with lock_folder(Path(sys.argv[1])): print('locked', flush=True); sys.stdin.read()"
    )
    folder = tmp_path / "run"
    folder.mkdir()
    command = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout and other.stdout.readline() == b"locked\n"
        output = call(*phone, "--out", str(folder))
    assert output.code == 2
    assert only_line(output) == f"hwnas: {folder}: another process is working in it"


BEFORE, RESUME = "interrupted", "continue with: hwnas specialize --resume --out 'my run'"
REPEAT = "continue with: hwnas {} --out 'my run'"
"""With the arguments that began the run."""


@pytest.mark.parametrize(
    ("begun", "error", "code", "line"),
    [
        (False, ExportError("no such op"), 4, "no such op"),
        (False, KeyboardInterrupt(), 130, f"{BEFORE}; {REPEAT}"),
        (True, KeyboardInterrupt(), 130, f"{BEFORE}; {RESUME}"),
    ],
)
def test_an_error_in_a_run_has_its_exit_code(
    phone: list[str],
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
    begun: bool,
    error: BaseException,
    code: int,
    line: str,
) -> None:
    def ends(spec: RunSpec, folder: Path, *arguments: object, **options: object) -> Report:
        if begun:
            RunFolder.open(folder, spec, resume=False).close()
        raise error

    monkeypatch.setattr("hwnas.specialize.flow.specialize", ends)
    output = call(*phone, "--out", "my run")
    line = line.format(shlex.join(phone))
    assert (output.code, only_line(output)) == (code, f"hwnas: {line}")


def test_a_run_that_is_interrupted_before_it_has_a_folder_is_continued_by_the_same_command(
    phone: list[str], call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("hwnas.devices.profile.find_profile", interrupt)
    output = call(*phone, "--out", "my run")
    line = f"hwnas: {BEFORE}; {REPEAT.format(shlex.join(phone))}"
    assert (output.code, only_line(output)) == (130, line)


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(ENOSPC, "Full", "some file"), "some file: cannot be written (Full){}"),
        (
            WriteError("some file", OSError(EDQUOT, "Full")),
            "some file: cannot be written (Full){}",
        ),
        (
            TrainingFailed("training a failed: killed by SIGKILL"),
            "training a failed: killed by SIGKILL{}",
        ),
        (WriteError("some file", OSError(EACCES, "No")), "some file: cannot be written (No)"),
        (OSError(EACCES, "No", "some file"), "some file: No"),
    ],
)
def test_a_run_that_can_go_on_names_the_command_that_continues_it(
    phone: list[str],
    call: Call,
    monkeypatch: pytest.MonkeyPatch,
    begun: bool,
    error: Exception,
    line: str,
) -> None:
    def ends(spec: RunSpec, folder: Path, *arguments: object, **options: object) -> Report:
        if begun:
            RunFolder.open(folder, spec, resume=False).close()
        raise error

    monkeypatch.setattr("hwnas.specialize.flow.specialize", ends)
    output = call(*phone, "--out", "my run")
    goes_on = f"; {RESUME if begun else REPEAT.format(shlex.join(phone))}"
    assert (output.code, only_line(output)) == (1, f"hwnas: {line.format(goes_on)}")


def test_a_too_noisy_latency_is_exit_6() -> None:
    result = measured_result()
    assert result.latency is not None
    wide = msgspec.structs.replace(result.latency, median_ms=4.0, ci95_ms=(2.0, 7.0))
    result = msgspec.structs.replace(result, latency=wide, verdict="missed")
    report = msgspec.structs.replace(measured_report(), results=(result,))
    with pytest.raises(TooNoisy, match="lie between 2 and 7 ms") as caught:
        report.check_verdicts()
    assert caught.value.exit_code == 6


def test_an_invalid_profile_is_exit_2(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("name = 1\n")
    assert process("devices", "check", str(wrong)).code == 2
    assert process("--version").code == 0


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ('["sep_conv_3x4", 0]', "normal cell, node 2: no cell op named 'sep_conv_3x4', did you"),
        ('["skip_connect", 2]', "normal cell: node 2 takes its own output: a cycle"),
        ('["skip_connect", 3]', "normal cell: node 2 takes node 3, which comes after it: a cycle"),
        ("", "normal cell: no node has an input"),
    ],
)
def test_an_invalid_genotype_is_named_with_its_file_and_place(
    tmp_path: Path, call: Call, edges: str, message: str
) -> None:
    path = tmp_path / "genotype.json"
    cell = '{"nodes": [[%s], []], "concat": [2, 3]}'
    good = cell % '["skip_connect", 0]'
    path.write_text(f'{{"normal": {cell % edges}, "reduction": {good}}}')
    out = tmp_path / "out"
    output = call(
        "train", "--architecture", str(path), "--data", "fashion-mnist-6k", "--out", str(out)
    )
    assert output.code == 2
    assert f"{path}: " in only_line(output) and message in output.err
    assert not out.exists()
