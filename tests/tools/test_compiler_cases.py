"""Networks of Python files, as the compiler is tried on them."""

from __future__ import annotations

import numbers
import sys
from pathlib import Path

import click
import pytest
import torch

from tools.bench.compiler.cases import modules
from tools.bench.compiler.habits.registry import Networks

CASES = "CASES = {NAME: (None, (3, 8, 8)) for NAME in ('first', 'second')}\n"


def test_the_cases_of_a_folder_are_those_of_its_files_that_have_some(tmp_path: Path) -> None:
    (tmp_path / "numbers.py").write_text(CASES)
    (tmp_path / "helper.py").write_text("SIZE = 3\n")
    folder, file = modules([tmp_path, tmp_path / "numbers.py"])
    assert (folder[0], file[0]) == (f"{tmp_path.name}/numbers.py", "numbers.py")
    assert list(folder[1].CASES) == list(file[1].CASES) == ["first", "second"]
    assert sys.modules["numbers"] is numbers
    with pytest.raises(click.UsageError, match=r"helper\.py defines no CASES, expected a dict"):
        list(modules([tmp_path / "helper.py"]))


def test_the_weights_of_a_network_depend_on_its_name_alone() -> None:
    networks = Networks()
    for name in ("small", "large"):
        networks.add(name, (4,))(lambda: torch.nn.Linear(4, 2))
        networks.add(f"{name} as an array")(lambda: torch.randn(3).numpy())
    weights = [networks[name][0]().weight for name in ("small", "large", "small")]
    assert torch.equal(weights[0], weights[2]) and not torch.equal(weights[0], weights[1])
    arrays = [networks["small as an array"][0]() for _ in range(2)]
    assert arrays[0].tolist() == arrays[1].tolist()
