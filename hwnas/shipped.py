"""Locates the data files that come with hwnas."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable


def shipped(folder: str) -> Traversable:
    """Return the shipped ``devices``, ``latency_models`` or ``export`` folder.

    A wheel carries these folders inside the package; a checkout keeps them beside it.
    """
    package = files("hwnas")
    packed = package / "_shipped" / folder
    return packed if packed.is_dir() else package / ".." / folder
