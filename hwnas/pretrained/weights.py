"""State dicts from files of other programs: read without running code, checked key by key."""

from __future__ import annotations

import hashlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hwnas.errors import InvalidFile, first_line
from hwnas.training.checkpoint import load_checkpoint

WRAPPERS = ("state_dict", "model_state_dict", "model", "ema", "state_dict_ema", "model_ema")
"""Keys under which training programs store the weights beside other things."""
PREFIXES = ("module.", "_orig_mod.")
"""Prefixes of keys by `torch.nn.DataParallel` and `torch.compile`."""
COUNTER = "num_batches_tracked"
"""Suffix of the batch counter of a batch norm, which does not affect its outputs."""
WEIGHTS_ONLY = "expected a .safetensors file, or one of torch.save(network.state_dict(), FILE)"


def read_weights(path: Path, sha256: str = "") -> dict[str, Tensor]:
    """Read the weights of a ``.safetensors`` file or of one that `torch.save` wrote.

    Tensors become float32 on the CPU; the counters of batch norms are left out. ``sha256`` is the
    expected hash or its first digits. Raises `InvalidFile` that names the file and what is wrong,
    also for a pickle that would run code when it is loaded: none of it runs.
    """
    check_hash(path, sha256)
    content = load_checkpoint(path)[0] if path.suffix == ".safetensors" else _load(path)
    weights: dict[str, Tensor] = {}
    for key, value in _unwrapped(path, content).items():
        name = _without_prefixes(str(key))
        if name.rpartition(".")[2] == COUNTER:
            continue
        if not isinstance(value, Tensor):
            kind = type(value).__name__
            raise InvalidFile(str(path), f"{key} is of type {kind}, expected a tensor of weights")
        if name in weights:
            raise InvalidFile(str(path), f"has the weights of {name} more than once")
        weights[name] = value.float() if value.is_floating_point() else value
    return weights


def without_counters(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict without the batch counters of batch norms."""
    return {key: value for key, value in weights.items() if not key.endswith(COUNTER)}


class WrongKeys(InvalidFile):
    """Weights whose keys or shapes are not those of a network."""

    def __init__(self, file: str, why: str, fitting: int) -> None:
        super().__init__(file, why)
        self.fitting = fitting
        """Number of tensors that also belong to the network."""


def check_keys(path: Path, weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise `WrongKeys` if ``weights`` lack a key of ``expected``, or have an additional key or
    another shape.

    Counters of batch norms are not expected.
    """
    shapes = {key: tuple(value.shape) for key, value in expected.items() if COUNTER not in key}
    if (problem := _first_difference(weights, shapes)) is not None:
        fitting = [key for key, value in weights.items() if shapes.get(key) == tuple(value.shape)]
        raise WrongKeys(str(path), problem, len(fitting))


def _first_difference(
    weights: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]
) -> str | None:
    if missing := [key for key in shapes if key not in weights]:
        return f"has no {_listed(missing)}; expected {len(shapes)} tensors"
    if extra := [key for key in weights if key not in shapes]:
        return f"has {_listed(extra)}, which the network does not have"
    for key, shape in shapes.items():
        if tuple(weights[key].shape) != shape:
            return f"{key} has shape {list(weights[key].shape)}, expected {list(shape)}"
    return None


def check_hash(path: Path, sha256: str) -> None:
    """Raise `InvalidFile` if the SHA-256 of a file does not begin with these digits."""
    if not sha256:
        return
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidFile(str(path), error.strerror or str(error)) from None
    if not digest.startswith(sha256):
        raise InvalidFile(
            str(path), f"has the SHA-256 {digest[: len(sha256)]}…, expected {sha256}…: damaged?"
        )


def _load(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a pickle protocol that torch.save does not write
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InvalidFile(str(path), f"{_refused(str(error))}; {WEIGHTS_ONLY}") from None
    except OSError as error:
        raise InvalidFile(str(path), error.strerror or first_line(error)) from None
    except (RuntimeError, EOFError, ValueError, LookupError, zipfile.BadZipFile):
        raise InvalidFile(str(path), f"damaged or of another kind; {WEIGHTS_ONLY}") from None


def _refused(message: str) -> str:
    """Return why torch refuses to unpickle, with the name of the function that the file would
    call."""
    name = re.search(r"GLOBAL ([\w.]+)", message)
    return f"would run code when it is loaded ({name[1]})" if name else "is no file of weights"


def _unwrapped(path: Path, content: Any) -> Mapping[Any, Any]:
    """Return the innermost state dict of a training program's file."""
    while isinstance(content, Mapping):
        inner = (content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping))
        wrapped = next(inner, None)
        if wrapped is None:
            return content
        content = wrapped
    raise InvalidFile(str(path), f"holds a {type(content).__name__}; {WEIGHTS_ONLY}")


def _without_prefixes(key: str) -> str:
    for prefix in PREFIXES:
        key = key.removeprefix(prefix)
    return key


def _listed(keys: list[str]) -> str:
    more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
    return f"{keys[0]}{more}"
