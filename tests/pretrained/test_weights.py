"""Files of weights that others wrote: what is read, and what is refused by name."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from hwnas.errors import InvalidFile
from hwnas.pretrained.weights import check_keys, read_weights

WEIGHTS = {"conv.weight": torch.ones(2, 1, 1, 1), "fc.bias": torch.arange(3.0)}


def written(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        {"state_dict": WEIGHTS, "epoch": 3, "optimizer": {"lr": 0.1}},
        {"model": {"state_dict": WEIGHTS}},
        {f"module.{key}": value for key, value in WEIGHTS.items()},
        {f"_orig_mod.{key}": value.half() for key, value in WEIGHTS.items()},
        {**WEIGHTS, "bn.num_batches_tracked": torch.tensor(7)},
    ],
)
def test_wrappers_prefixes_precisions_and_counters_make_no_difference(
    tmp_path: Path, content: Any
) -> None:
    weights = read_weights(written(tmp_path / "weights.pt", content))
    assert weights.keys() == WEIGHTS.keys()
    assert all(torch.equal(weights[key], value) for key, value in WEIGHTS.items())
    assert {value.dtype for value in weights.values()} == {torch.float32}


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file({key: value.bfloat16() for key, value in WEIGHTS.items()}, tmp_path / "w.safetensors")
    weights = read_weights(tmp_path / "w.safetensors")
    assert torch.equal(weights["fc.bias"], WEIGHTS["fc.bias"])


class Attack:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_would_run_code_is_refused_and_runs_none(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    file = written(tmp_path / "evil.pt", {**WEIGHTS, "extra": Attack(trap)})
    with pytest.raises(InvalidFile, match=r"evil.pt: would run code .*\(posix.mkdir\); expected"):
        read_weights(file)
    assert not trap.exists()
    torch.load(file, weights_only=False)
    assert trap.exists(), "the attack works where code may run"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.nn.Linear(2, 2), r"would run code when it is loaded \(torch.nn"),
        ([1, 2], "holds a list; expected a .safetensors file"),
        ({**WEIGHTS, "epoch": 3}, "epoch is of type int, expected a tensor of weights"),
        (
            {**WEIGHTS, "module.fc.bias": torch.zeros(3)},
            "has the weights of fc.bias more than once",
        ),
    ],
)
def test_other_content_is_named(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(InvalidFile, match=f"weights.pt: {message}"):
        read_weights(written(tmp_path / "weights.pt", content))


@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x04}."])
def test_files_of_other_kinds_are_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "weights.pt"
    file.write_bytes(content)
    with pytest.raises(InvalidFile, match=r"weights.pt: (damaged|is no file of weights)"):
        read_weights(file)
    half = written(tmp_path / "half.pt", WEIGHTS)
    half.write_bytes(half.read_bytes()[:500])
    with pytest.raises(InvalidFile, match=r"half.pt: damaged or of another kind"):
        read_weights(half)
    with pytest.raises(InvalidFile, match=r"none.pt: No such file"):
        read_weights(tmp_path / "none.pt")


def test_the_hash_is_checked(tmp_path: Path) -> None:
    file = written(tmp_path / "weights.pt", WEIGHTS)
    digest = sha256(file.read_bytes()).hexdigest()
    assert read_weights(file, digest[:8])
    with pytest.raises(InvalidFile, match=f"has the SHA-256 {digest[:8]}…, expected 01234567…"):
        read_weights(file, "01234567")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fc.bias": None}, "has no fc.bias; expected 2 tensors"),
        ({"fc.bias": None, "conv.weight": None}, "has no conv.weight and 1 more"),
        ({"fc.scale": torch.ones(3)}, "has fc.scale, which the network does not have"),
        ({"fc.bias": torch.ones(5)}, r"fc.bias has shape \[5\], expected \[3\]"),
    ],
)
def test_keys_are_those_of_the_network(change: dict[str, Any], message: str) -> None:
    expected = {**WEIGHTS, "bn.num_batches_tracked": torch.tensor(0)}
    check_keys(Path("w.pt"), WEIGHTS, expected)
    weights = {key: value for key, value in (WEIGHTS | change).items() if value is not None}
    with pytest.raises(InvalidFile, match=f"w.pt: {message}"):
        check_keys(Path("w.pt"), weights, expected)
