"""Seeds: all randomness follows from the seed of a run, names and numbers."""

from __future__ import annotations

import hashlib

import torch


def seeded(seed: int, *words: str | int) -> torch.Generator:
    """Return a generator that depends on ``seed`` and ``words`` only."""
    return torch.Generator().manual_seed(derived_seed(seed, *words))


def derived_seed(seed: int, *words: str | int) -> int:
    """Return 63 bits from ``seed`` and ``words``, the same on every machine."""
    text = "/".join(map(str, (seed, *words))).encode()
    return int.from_bytes(hashlib.sha256(text).digest()[:8], "big") >> 1
