"""Built-in extensions are declared as anybody's are, and each can be had by its name."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hwnas.cli.devices import devices
from hwnas.cli.plugins import plugins as command
from hwnas.devices.profile import find_profile
from hwnas.errors import HwnasError, UnknownName
from hwnas.plugins import GROUPS, load, names
from hwnas.shipped import shipped
from hwnas.testing import ContractBroken, check_interface


@pytest.mark.parametrize("kind", [kind for kind in GROUPS if kind != "device"])
def test_every_declared_extension_loads(kind: str) -> None:
    assert names(kind)
    for name in names(kind):
        assert callable(load(kind, name))


def test_an_unknown_name_gives_the_nearest() -> None:
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
    for module in ("acme", "acme.old"):  # another test's package of that name
        monkeypatch.delitem(sys.modules, module, raising=False)


def test_a_package_brings_devices(acme: None) -> None:
    assert find_profile("acme-board").name == "acme-board"


def test_a_broken_package_hides_no_device(acme: None, tmp_path: Path) -> None:
    (tmp_path / "acme" / "__init__.py").write_text("1 / 0\n")
    assert find_profile("host-cpu").name == "host-cpu"


def test_a_broken_extension_is_one_line_with_its_package(acme: None) -> None:
    with pytest.raises(
        HwnasError, match=r"strategy 'old' of package acme: acme\.old:Old cannot be "
    ):
        load("strategy", "old")


def test_hwnas_own_extension_takes_precedence(acme: None) -> None:
    assert load("strategy", "proxyless").__module__ == "hwnas.search.proxyless.gradient"


def rows_of(output: str) -> dict[tuple[str, str, str], dict[str, str]]:
    return {(row["kind"], row["name"], row["package"]): row for row in json.loads(output)}


def test_the_command_lists_extensions_with_their_state(acme: None) -> None:
    result = CliRunner().invoke(command, ["--json"])
    assert result.exit_code == 1
    rows = rows_of(result.stdout)
    assert {row["state"] for row in rows.values() if row["package"] == "hwnas"} == {"ok"}
    assert rows["device", "boards", "acme"] == {
        "kind": "device",
        "name": "boards",
        "package": "acme",
        "version": "1.2",
        "value": "acme:devices",
        "state": "ok",
        "note": "acme-board",
    }
    assert "No module named 'no_such_module'" in rows["strategy", "old", "acme"]["note"]
    assert "has no attribute 'Gone'" in rows["strategy", "gone", "acme"]["note"]
    assert rows["strategy", "proxyless", "acme"]["state"] == "hidden"
    table = CliRunner().invoke(command, [])
    assert "acme 1.2" in table.stdout and "no_such_module" in table.stdout


def test_a_hidden_name_is_reported_and_is_not_an_error(acme: None, tmp_path: Path) -> None:
    (tmp_path / "acme-1.2.dist-info" / "entry_points.txt").write_text(
        "[hwnas.devices]\nboards = acme:devices\n\n[hwnas.strategies]\nproxyless = acme:Mine\n"
    )
    text = (shipped("devices") / "host-cpu.toml").read_text()
    (tmp_path / "acme" / "host-cpu.toml").write_text(text)
    result = CliRunner().invoke(command, ["--json"])
    rows = rows_of(result.stdout)
    hidden = rows["strategy", "proxyless", "acme"]
    assert (hidden["state"], hidden["note"]) == (
        "hidden",
        "by the extension of the same name in hwnas",
    )
    note = rows["device", "boards", "acme"]["note"]
    assert note.startswith("acme-board, host-cpu; hidden by ")
    assert note.endswith("devices/host-cpu.toml") and "acme/host-cpu" not in note
    assert result.exit_code == 0


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("def devices():\n    return '/tmp'\n", "returns a folder of profiles, .* returns str"),
        ("def devices():\n    return 1 / 0\n", "it raises ZeroDivisionError: division by zero"),
        ("def devices(where):\n    return where\n", "it raises TypeError: .*'where'"),
        ("devices = 'boards'\n", "a device is callable; this is str"),
        ("from pathlib import Path\ndef devices():\n    return Path('/gone')\n", "/gone"),
    ],
)
def test_a_function_that_gives_no_devices_is_broken(
    acme: None, tmp_path: Path, code: str, why: str
) -> None:
    (tmp_path / "acme" / "__init__.py").write_text(code)
    result = CliRunner().invoke(command, ["--json"])
    row = rows_of(result.stdout)["device", "boards", "acme"]
    assert row["state"] == "broken" and re.search(why, row["note"]), row
    assert find_profile("host-cpu").name == "host-cpu", "a broken package hides nothing"


def test_an_invalid_profile_of_a_package_is_skipped_in_the_list(acme: None, tmp_path: Path) -> None:
    (tmp_path / "acme" / "acme-board.toml").write_text("nmae = 'acme-board'\n")
    row = rows_of(CliRunner().invoke(command, ["--json"]).stdout)["device", "boards", "acme"]
    assert row["state"] == "broken" and "acme-board.toml" in row["note"]
    result = CliRunner().invoke(devices, ["list", "--json"])
    assert result.exit_code == 0 and "host-cpu" in result.stdout
    assert "skipped: " in result.stderr and "acme-board.toml" in result.stderr


class Careless:
    """A runner whose measure() takes no seed, and a strategy that has two methods."""

    def __init__(self, profile: Any) -> None: ...

    def probe(self) -> None: ...

    def measure(self, subjects: Any, *, calibrated_reference_ms: Any, progress: Any) -> None: ...

    def close(self) -> None: ...

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...

    def begin(self) -> None: ...


class Shapeless:
    input_shape, num_classes = (3, 32, 32), 10

    def random(self, rng: object) -> str:
        return "genotype"

    def architecture(self, genotype: str) -> str:
        return "architecture"


@pytest.mark.parametrize(
    ("kind", "extension", "why"),
    [
        (
            "runner",
            Careless,
            r"measure\(subjects, .*seed=\.\.\..* can be called; got an unexpected",
        ),
        ("runner", lambda: None, "a runner is made from a profile; too many positional"),
        ("runner", Shapeless, "a runner is made from a profile"),
        ("strategy", Careless, "it has no attribute 'traits'; expected traits = StrategyTraits"),
        ("space", lambda shape, classes: Shapeless(), "is an Architecture"),
        ("space", lambda shape: Shapeless(), "it raises TypeError"),
        ("strategy", "random", "a strategy is callable; this is str"),
    ],
)
def test_a_broken_interface_is_reported_in_one_sentence(
    kind: str, extension: Any, why: str
) -> None:
    with pytest.raises(ContractBroken, match=why) as broken:
        check_interface(kind, extension)
    assert "\n" not in str(broken.value)
