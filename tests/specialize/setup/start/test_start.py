"""The trained network that a run starts from."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwnas.console import QuietConsole
from hwnas.data.datasets import load_dataset
from hwnas.errors import UsageError
from hwnas.pretrained.modules import from_module
from hwnas.pretrained.sources import Source, find_source
from hwnas.specialize.setup.start import default as default_start
from hwnas.specialize.setup.start import network as start_network
from hwnas.specialize.setup.start.default import DEFAULTS, started
from hwnas.specialize.setup.start.network import check_options, default_size, start_from
from hwnas.specialize.spec import SCRATCH, RunSpec
from tests.support.data.photos import noise_folder
from tests.support.networks.trained import small_mobilenet
from tests.support.reporting.consoles import RecordingConsole

NETWORK = DEFAULTS[0]


@pytest.fixture
def photos(tmp_path: Path) -> str:
    return str(noise_folder(tmp_path / "photos", size=80))


@pytest.fixture
def weights_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def only_the_first(source: Source) -> Path | None:
        return Path("weights.pth") if source.name == NETWORK else None

    monkeypatch.setattr(default_start, "weights_file", only_the_first)


@pytest.mark.usefixtures("weights_here")
def test_photos_start_from_a_network_whose_weights_are_here(photos: str) -> None:
    console = RecordingConsole()
    spec = started(RunSpec(data=photos), None, console)
    assert (spec.pretrained, spec.strategy) == (NETWORK, "elastic")
    assert f"--from {SCRATCH}" in console.lines[0]


def test_without_weights_the_command_that_gets_them_is_shown(
    photos: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(default_start, "weights_file", lambda source: None)
    console = RecordingConsole()
    spec = started(RunSpec(data=photos), None, console)
    assert (spec.pretrained, spec.strategy) == (SCRATCH, "proxyless")
    assert find_source(NETWORK).obtained_by in console.lines[0]


@pytest.mark.usefixtures("weights_here")
@pytest.mark.parametrize(
    "fields",
    [
        {"space": "ofa"},
        {"strategy": "random"},
        {"width_mults": (0.5,)},
        {"latency_model": "pixel1/table-2018"},
        {"pretrained": SCRATCH},
    ],
)
def test_a_run_that_asks_for_a_search_from_scratch_gets_it(
    photos: str, fields: dict[str, object]
) -> None:
    spec = RunSpec(data=photos, **fields)  # type: ignore[arg-type]
    assert started(spec, None, QuietConsole()) == spec


@pytest.mark.usefixtures("weights_here")
def test_small_photos_and_named_data_sets_are_trained_from_scratch(tmp_path: Path) -> None:
    small = RunSpec(data=str(noise_folder(tmp_path / "small", size=32)))
    assert started(small, None, QuietConsole()) == small
    assert started(RunSpec(), None, QuietConsole()) == RunSpec()


@pytest.mark.usefixtures("weights_here")
def test_a_run_that_exists_keeps_its_start(photos: str, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("")
    spec = RunSpec(data=photos)
    assert started(spec, tmp_path, QuietConsole()) == spec


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"strategy": "random"}, "cut by strategy elastic, not random"),
        ({"strategy": "elastic", "space": "ofa"}, "leave --space ofa out"),
        ({"strategy": "elastic", "width_mults": (0.5,)}, "leave --width-mult out"),
    ],
)
def test_options_of_a_search_from_scratch_are_refused(
    fields: dict[str, object], problem: str
) -> None:
    with pytest.raises(UsageError, match=problem):
        check_options(RunSpec(pretrained=NETWORK, **fields))  # type: ignore[arg-type]


def test_few_photos_of_a_class_are_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = from_module(small_mobilenet(), (3, 32, 32), "small")
    monkeypatch.setattr(start_network, "load_pretrained", lambda *_: network)
    notes: list[bool] = []
    for count in (40, 80):
        photos = str(noise_folder(tmp_path / f"{count}", count=count, size=32))
        start = start_from("small", photos, 32, load_dataset)
        notes.append(any("fewer than 20 training images" in note for note in start.dataset.notes))
    assert notes == [True, False]


def test_small_photos_are_enlarged_by_about_a_quarter() -> None:
    assert default_size(224, None) == 224
    assert default_size(224, 300) == 224
    assert default_size(224, 128) == 160
    assert default_size(224, 100) == 128
