"""Folders of photos that are noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def noise_image(seed: int, width: int = 20, height: int = 16) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def noise_folder(folder: Path, count: int = 60, size: int = 16) -> Path:
    """Write photos of ``size`` px height and up to 10 px more width in two classes, as PNG."""
    for row in range(count):
        file = folder / ("cat", "dog")[row % 2] / f"{row:03}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        noise_image(row, size + row % 11, size).save(file)
    return folder
