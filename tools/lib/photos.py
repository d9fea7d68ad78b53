"""Photos of a folder as pixels, for programs that use no labels."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def read_photos(folder: Path, size: int, count: int) -> Tensor:
    """Return up to ``count`` random photos of a folder and its folders, uint8 ``[N, 3, H, W]``.

    Each is the centre of a photo whose shorter side is ``size``: small photos stay sharp.
    """
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    Random(0).shuffle(files)
    pixels = np.stack([_crop(Image.open(file), size) for file in files[:count]])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def _crop(photo: Image.Image, size: int) -> np.ndarray:
    scale = size / min(photo.size)
    width, height = (round(scale * side) for side in photo.size)
    resized = photo.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return np.asarray(resized.crop((left, top, left + size, top + size)), dtype=np.uint8)
