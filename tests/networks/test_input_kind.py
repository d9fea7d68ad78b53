"""A network that normalises its input itself is told from one that takes normalised images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hwnas.errors import UsageError
from hwnas.networks.input_kind import BothKinds, check_accuracy, check_scale, input_scale

SHAPE = (3, 8, 8)


class First(nn.Module):
    """Does something with the image before a convolution."""

    def __init__(self, step: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.step, self.conv = step, nn.Conv2d(3, 4, 3)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(self.step(images)).mean((2, 3))


def normed() -> nn.Module:
    norm = nn.BatchNorm2d(3)
    assert norm.running_var is not None
    norm.running_var.fill_(4000.0)
    return nn.Sequential(norm, nn.Conv2d(3, 4, 3)).eval()


@pytest.mark.parametrize(
    ("network", "scale"),
    [
        (First(lambda x: x / 255), 1 / 255),
        (First(lambda x: (x.float() / 255 - torch.ones(3, 1, 1)) / 0.25), 4 / 255),
        (First(lambda x: x * (2 / 255) - 1), 2 / 255),
        (First(lambda x: x.clone().sub_(128).div_(torch.full((1, 3, 1, 1), 64.0))), 1 / 64),
        (normed(), 4000**-0.5),
    ],
)
def test_a_network_that_scales_its_input_down_takes_pixels(
    network: nn.Module, scale: float
) -> None:
    assert input_scale(network, SHAPE) == pytest.approx(scale, rel=1e-3)
    with pytest.raises(UsageError, match=r"nets:net multiplies its input by 0\.0\d+ .*--pixels"):
        check_scale("nets:net", network, SHAPE)


@pytest.mark.parametrize(
    "step", [lambda x: x, lambda x: 2 * x - 1, lambda x: (x - 0.5) / 0.25, lambda x: 1 / (x + 300)]
)
def test_a_network_that_does_not_takes_normalised_images(
    step: Callable[[Tensor], Tensor],
) -> None:
    assert input_scale(First(step), SHAPE) >= 1
    check_scale("nets:net", First(step), SHAPE)  # raises nothing


class Brightness(nn.Module):
    """Tells bright from dark images at a threshold."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, images: Tensor) -> Tensor:
        bright = images.mean((1, 2, 3))[:, None] - self.threshold
        return torch.cat([-bright, bright], 1)


def test_the_kind_with_which_a_network_is_accurate_is_named() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(40) % 2
    pixels = (rng.uniform(80, 120, (40, *SHAPE)) + 40 * labels[:, None, None, None]).astype("f4")
    images = BothKinds((pixels / 255 - 0.47) / 0.25, pixels, labels)
    check_accuracy("net", Brightness(120), images, takes_pixels=True)
    check_accuracy("net", Brightness(0), images, takes_pixels=False)
    with pytest.raises(UsageError, match=r"net classifies 50% of 40 .* 100% as pixels.*: --pix"):
        check_accuracy("net", Brightness(120), images, takes_pixels=False)
    with pytest.raises(UsageError, match=r"100% of 40 .* 50% as pixels.*: without --pixels"):
        check_accuracy("net", Brightness(0), images, takes_pixels=True)
