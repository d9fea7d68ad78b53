"""Built-in extensions are declared as anybody's are, and each can be had by its name."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from hwnas.cli.plugins import plugins as command
from hwnas.devices.profile import find_profile
from hwnas.errors import HwnasError, UnknownName
from hwnas.plugins import GROUPS, load, names
from hwnas.shipped import shipped


@pytest.mark.parametrize("kind", [kind for kind in GROUPS if kind != "device"])
def test_every_declared_extension_is_there(kind: str) -> None:
    assert names(kind)
    for name in names(kind):
        assert callable(load(kind, name))


def test_an_unknown_name_says_the_nearest() -> None:
    with pytest.raises(UnknownName, match="no strategy named 'proxyles', did you mean 'proxyless'"):
        load("strategy", "proxyles")


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a package with a folder of devices, and with three strategies that are no use."""
    (tmp_path / "acme").mkdir()
    (tmp_path / "acme" / "__init__.py").write_text(
        "from pathlib import Path\n\n\ndef devices():\n    return Path(__file__).parent\n"
    )
    text = (shipped("devices") / "host-cpu.toml").read_text()
    (tmp_path / "acme" / "acme-board.toml").write_text(text.replace('"host-cpu"', '"acme-board"'))
    (tmp_path / "acme" / "old.py").write_text("import no_such_module\n")
    info = tmp_path / "acme-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(
        "[hwnas.devices]\nboards = acme:devices\n\n[hwnas.strategies]\nold = acme.old:Old\n"
        "gone = acme:Gone\nproxyless = acme:devices\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


def test_a_package_brings_devices(acme: None) -> None:
    assert find_profile("acme-board").name == "acme-board"


def test_a_broken_package_hides_no_device(
    acme: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme" / "__init__.py").write_text("1 / 0\n")
    monkeypatch.delitem(sys.modules, "acme", raising=False)
    assert find_profile("host-cpu").name == "host-cpu"


def test_a_broken_extension_is_told_in_one_line_with_its_package(acme: None) -> None:
    with pytest.raises(
        HwnasError, match=r"strategy 'old' of package acme: acme\.old:Old cannot be "
    ):
        load("strategy", "old")


def test_hwnas_own_extension_wins_over_one_of_the_same_name(acme: None) -> None:
    assert load("strategy", "proxyless").__module__ == "hwnas.search.proxyless"


def test_the_command_lists_what_is_there_and_why_what_is_not_is_not(acme: None) -> None:
    said = CliRunner().invoke(command, ["--json"])
    assert said.exit_code == 1
    rows = {(row["kind"], row["name"], row["package"]): row for row in json.loads(said.stdout)}
    assert rows["runner", "local", "hwnas"]["problem"] == ""
    assert rows["device", "boards", "acme"] == {
        "kind": "device", "name": "boards", "package": "acme", "version": "1.2",
        "value": "acme:devices", "problem": "",
    }  # fmt: skip
    assert "No module named 'no_such_module'" in rows["strategy", "old", "acme"]["problem"]
    assert "has no attribute 'Gone'" in rows["strategy", "gone", "acme"]["problem"]
    assert (
        (rows["strategy", "proxyless", "acme"]["problem"])
        == "hidden by the one of the same name in hwnas"
    )
    table = CliRunner().invoke(command, [])
    assert "acme 1.2" in table.stdout and "no_such_module" in table.stdout
