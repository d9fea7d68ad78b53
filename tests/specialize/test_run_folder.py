from contextlib import ExitStack
from pathlib import Path
from time import process_time, sleep

import pytest

from hwnas.errors import InvalidFile, UsageError
from hwnas.files import append_line
from hwnas.specialize.run_folder import RunFolder
from hwnas.specialize.spec import RunSpec, encode_spec, has_whole_spec, read_spec


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path, RunSpec(), ExitStack())


def test_time_of_an_inner_stage_is_not_that_of_the_outer_too(folder: RunFolder) -> None:
    with folder.stage("outer"), folder.stage("inner"):
        sleep(0.2)
    times = folder.stages()
    assert times["inner"].seconds >= 0.2
    assert times["outer"].seconds < times["inner"].seconds


def test_the_processor_time_of_a_stage_leaves_waiting_out(folder: RunFolder) -> None:
    with folder.stage("waiting"):
        sleep(0.2)
    with folder.stage("computing"):
        until = process_time() + 0.1
        while process_time() < until:
            pass
    times = folder.stages()
    assert times["waiting"].cpu_s < 0.1 <= times["computing"].cpu_s + 0.02


def test_a_stage_that_is_entered_again_adds_up_and_an_error_keeps_its_time(
    folder: RunFolder,
) -> None:
    for _ in range(2):
        with pytest.raises(KeyError), folder.stage("tried"):
            sleep(0.01)
            raise KeyError
    assert folder.stages()["tried"].seconds >= 0.02


def test_stages_of_a_folder_without_processor_time_are_read(folder: RunFolder) -> None:
    append_line(folder.path / "stages.jsonl", {"stage": "train", "seconds": 3.0})
    assert folder.stages()["train"] == (3.0, 0.0)


SPEC = RunSpec(targets=("simulated-phone",), seed=3, strategy_options={"window": 8})


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    RunFolder.open(tmp_path / "run", SPEC, resume=False).close()
    return tmp_path / "run"


@pytest.mark.parametrize("end", [None, 0, 1, 40, -20, -1])
def test_a_specification_that_is_damaged_is_that_of_the_manifest(
    begun: Path, end: int | None
) -> None:
    config = begun / "config.toml"
    content = config.read_bytes()
    assert read_spec(begun) == SPEC and content == encode_spec(SPEC)
    if end is None:
        config.unlink()
    else:
        config.write_bytes(content[:end])
    assert read_spec(begun) == SPEC
    messages: list[str] = []
    RunFolder.open(begun, SPEC, resume=True, say=messages.append).close()
    [message] = messages
    assert message.endswith("; the specification in manifest.json is used")
    assert config.read_bytes() == content


def test_an_edited_specification_is_no_other_run(begun: Path) -> None:
    config = begun / "config.toml"
    config.write_bytes(config.read_bytes().replace(b"seed = 3", b"seed = 4"))
    assert not has_whole_spec(begun) and read_spec(begun) == SPEC


def test_a_damaged_specification_that_is_nowhere_else_is_refused(begun: Path) -> None:
    config = begun / "config.toml"
    content = config.read_bytes()
    (begun / "manifest.json").write_text("{}")
    assert read_spec(begun) == SPEC
    for part in (b"", content[:100], content.rpartition(b"# check")[0]):
        config.write_bytes(part)
        with pytest.raises(InvalidFile, match=r"config\.toml: its hash .*; start a new run"):
            read_spec(begun)
    config.unlink()
    with pytest.raises(UsageError, match="there is no run to resume"):
        read_spec(begun)
