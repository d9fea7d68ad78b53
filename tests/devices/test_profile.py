"""Device profiles: shipped ones are valid, and errors name the wrong field."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwnas.devices.profile import find_profile, read_profile
from hwnas.errors import InvalidFile, UnknownName, UsageError
from hwnas.shipped import shipped


def changed(folder: Path, name: str, old: str, new: str) -> Path:
    """Write a shipped profile with one change, under its own name."""
    text = (shipped("devices") / f"{name}.toml").read_text()
    assert old in text
    file = folder / f"{name}.toml"
    file.write_text(text.replace(old, new))
    return file


def test_every_shipped_profile_is_valid_and_named_after_its_file() -> None:
    files = [file for file in shipped("devices").iterdir() if file.name.endswith(".toml")]
    assert {"host-cpu.toml", "host-cpu-litert.toml", "pixel1.toml"} <= {file.name for file in files}
    for file in files:
        assert read_profile(file).name == file.name.removesuffix(".toml")


def test_every_field_is_in_the_readme() -> None:
    readme = (shipped("devices") / "README.md").read_text()
    profile = find_profile("simulated-phone")
    gpu = find_profile("host-gpu").gpu
    parts = (profile, profile.hardware, profile.limits, profile.measure, profile.simulation, gpu)
    for part in parts:
        assert part is not None
        for field in part.__struct_fields__:
            assert f"`{field}`" in readme or f"[{field}]" in readme, field


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("threads = 1", 'threads = "one"', r"Expected `int`, got `str` - at `\$.measure.threads`"),
        ("threads = 1", "threads = 0", r"`int` >= 1 - at `\$.measure.threads`"),
        ("threads = 1", "thread = 1", r"unknown field `thread` - at `\$.measure`"),
        ("threads = 1", "max_rounds = 3", r"at least min_rounds = 10, got 3"),
        ('"litert"', '"litret"', r"Invalid enum value 'litret' - at `\$.runtime`"),
        ('"simulated-phone"', '"phone"', r"Expected name 'simulated-phone' as the file's"),
        ('transport = "simulated"', 'transport = "local"', r"\[simulation\] table exactly where"),
        ("noise                 = 0.01", "noise = -1.0", r">= 0.0 - at `\$.simulation.noise`"),
        ("[simulation]", "[simulation", r"simulated-phone.toml: "),
    ],
)
def test_a_wrong_field_is_named_with_its_path(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    with pytest.raises(InvalidFile, match=message):
        read_profile(changed(tmp_path, "simulated-phone", old, new))


def test_a_missing_file_is_one_clear_error() -> None:
    with pytest.raises(InvalidFile, match=r"nowhere.toml: No such file"):
        find_profile("./nowhere.toml")


def test_an_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(UnknownName, match=r"no device named 'pixel', did you mean 'pixel[1-4]'\?"):
        find_profile("pixel")


def test_the_users_profile_takes_precedence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed(tmp_path, "host-cpu", "threads = 1", "threads = 2")
    monkeypatch.setenv("HWNAS_DEVICES", str(tmp_path))
    assert find_profile("host-cpu").measure.threads == 2


def test_a_missing_folder_of_user_profiles_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWNAS_DEVICES", "/nowhere")
    with pytest.raises(UsageError, match="HWNAS_DEVICES: /nowhere is not a folder"):
        find_profile("host-cpu")
