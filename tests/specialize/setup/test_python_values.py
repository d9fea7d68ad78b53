"""Objects of a run that are stored in its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwnas.data.datasets import load_dataset
from hwnas.data.photos import packing, tiers
from hwnas.errors import UsageError
from hwnas.specialize.setup.python_values import with_files
from hwnas.specialize.spec import RunSpec
from tests.support.data.photos import noise_folder


def test_a_packed_data_set_is_named_and_not_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tiers, "MEMORY_SHARE", 0)
    folder = noise_folder(tmp_path / "pets")
    dataset = load_dataset(str(folder), input_shape=(3, 7, 7))
    spec = with_files(RunSpec(), tmp_path / "run", dataset, [])
    assert load_dataset(spec.data).digest == dataset.digest
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr(packing, "SPARE_BYTES", 1 << 60)
    decoded = load_dataset(str(folder), input_shape=(3, 8, 8))
    with pytest.raises(UsageError, match="no room for a packed file"):
        with_files(RunSpec(), tmp_path / "run", decoded, [])
