"""Trained networks as users name them: published ones, files of weights, modules of their code."""

from __future__ import annotations

from pathlib import Path

from hwnas.errors import InvalidFile, UsageError
from hwnas.networks.user_module import Shape, load_network
from hwnas.pretrained.hub import is_timm, load_timm
from hwnas.pretrained.identify import SUFFIXES, load_file
from hwnas.pretrained.load import load_source
from hwnas.pretrained.modules import from_module
from hwnas.pretrained.network import PretrainedNetwork


def load_pretrained(name: str, input_shape: Shape | None = None) -> PretrainedNetwork:
    """Return the trained network that ``name`` means, rebuilt from blocks; nothing is downloaded.

    ``name`` is one of `hwnas networks list`; ``timm:NAME`` or ``local-dir:FOLDER`` of timm; a file
    of weights of such a network; or ``module:factory``, which runs the user's code and needs an
    ``input_shape``. Raises `HwnasError` that says how to get weights that are not on this machine,
    and `UsageError` for what is no trained network or no chain of blocks.
    """
    path = Path(name)
    if is_timm(name):
        return load_timm(name)
    if path.suffix in SUFFIXES:
        if not path.is_file():
            raise InvalidFile(name, "no such file")
        return load_file(path)
    if ":" in name:
        if input_shape is None:
            raise UsageError(f"{name}: a module of your own needs an input shape, e.g. 3x224x224")
        return from_module(load_network(name, input_shape).module, input_shape, name)
    return load_source(name)
