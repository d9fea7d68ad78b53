"""Files of networks that are no classifiers."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from hwnas.export.compile import export_module


class Segmentation(nn.Module):
    """A class for each pixel, at the size of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 5, 1)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.head(torch.relu(self.features(images)))
        return nn.functional.interpolate(maps, size=images.shape[2:], mode="bilinear")


class Tracker(nn.Module):
    """An image, integers and a state to boxes and the next state."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.names = nn.Conv2d(3, 8, 3, 2, 1), nn.Embedding(7, 4)
        self.boxes = nn.Linear(12, 6)

    def forward(self, frame: Tensor, names: Tensor, state: Tensor) -> dict[str, Tensor]:
        seen = torch.relu(self.features(frame)).mean((2, 3))
        both = torch.cat([seen, self.names(names).sum(1) + state], 1)
        return {"boxes": self.boxes(both), "state_out": both[:, :4]}


def segmentation_file(path: Path) -> Path:
    """Compile a segmentation network for 3x16x24 images; return ``path``."""
    torch.manual_seed(0)
    export_module(Segmentation().eval(), (3, 16, 24), path)
    return path


def tracker_file(path: Path) -> Path:
    """Compile a tracker; return ``path``."""
    torch.manual_seed(0)
    shapes = {"frame": (3, 16, 16), "names": "3:int64", "state": (4,)}
    export_module(Tracker().eval(), shapes, path)
    return path
