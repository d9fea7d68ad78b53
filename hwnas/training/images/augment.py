"""Augmentation of training images: random numbers for each image, and their application to a batch.

All numbers of a step are drawn on the host from the seed, the epoch and the step, for the whole
batch, so that they depend neither on the device nor on workers or ranks.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from hwnas.training.compute import put_on
from hwnas.training.seeds import derived_seed, seeded

CROP_TRIES = 10
"""Boxes that are tried before a crop becomes the central one, as in torchvision."""
CROP_RATIO = (3 / 4, 4 / 3)
LUMA = (0.2989, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R 601-2), as torchvision rounds them."""


class Augmentation(msgspec.Struct, frozen=True, kw_only=True):
    """Transformations of training images; a field of zero has no effect."""

    shift: float = 1 / 14
    """Largest shift as a share of the height and of the width, at least a pixel; edges repeat the
    border."""
    min_crop_area: float = 0.0
    """Crop boxes of random area from this share of the image to all of it, and of aspect ratio 3/4
    to 4/3, resized to the network's size (Szegedy et al., arXiv:1409.4842). Replaces shifts."""
    flip: bool = True
    """Mirror with probability 1/2."""
    brightness: float = 0.0
    """Factor from ``1 - brightness`` to ``1 + brightness``."""
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    """Rotation of colours about grey by up to this share of a full turn."""
    cutout: float = 0.0
    """Side of a square that is set to the mean colour, as a share of the shorter side (DeVries and
    Taylor, arXiv:1708.04552); it may reach beyond the border."""
    mixup: float = 0.0
    """Parameter alpha of mixup with a neighbour in the batch (Zhang et al., arXiv:1710.09412)."""
    cutmix: float = 0.0
    """Parameter alpha of CutMix (Yun et al., arXiv:1905.04899). With mixup, each batch has one of
    the two."""

    @property
    def mixes(self) -> bool:
        return self.mixup > 0 or self.cutmix > 0

    @property
    def colours(self) -> bool:
        return max(self.brightness, self.contrast, self.saturation, self.hue) > 0


NO_AUGMENTATION = Augmentation(shift=0.0, flip=False)


class Draws(NamedTuple):
    """The random numbers of a batch of ``N`` images, on the host."""

    uniform: Tensor
    """``[N, COLUMNS]``, from 0 to 1."""
    share: float = 1.0
    """Share of an image that remains after mixing."""
    cut_centre: tuple[float, float] | None = None
    """Centre of CutMix's box, as shares of the size; ``None``: mixup."""

    def part(self, rows: slice) -> Draws:
        """Return the draws of some of the images."""
        return self._replace(uniform=self.uniform[rows])


FLIP, SHIFT, CROP_PLACE, COLOUR, CUTOUT, CROP_SHAPE = 0, 1, 3, 5, 9, 11
"""First column of each kind of random number in `Draws.uniform`."""
COLUMNS = CROP_SHAPE + 2 * CROP_TRIES


def draw(augmentation: Augmentation, count: int, seed: int, epoch: int, step: int) -> Draws:
    """Draw the numbers of a step for a batch of ``count`` images."""
    uniform = torch.rand(count, COLUMNS, generator=seeded(seed, "augment", epoch, step))
    if not augmentation.mixes:
        return Draws(uniform)
    rng = np.random.default_rng(derived_seed(seed, "mix", epoch, step))
    cuts = augmentation.mixup == 0 or (augmentation.cutmix > 0 and rng.random() < 0.5)
    alpha = augmentation.cutmix if cuts else augmentation.mixup
    row, column = rng.random(2)
    return Draws(uniform, float(rng.beta(alpha, alpha)), (row, column) if cuts else None)


def crop_boxes(
    augmentation: Augmentation, draws: Draws, sizes: NDArray[np.int32]
) -> NDArray[np.float32]:
    """Return ``[N, 4]``: left, top, right and bottom of each crop, as shares of width and height.

    ``sizes [N, 2]`` are heights and widths. The first of `CROP_TRIES` boxes that fits is taken,
    else the central box of the nearest allowed aspect ratio, as torchvision does.
    """
    uniform = draws.uniform.double().numpy()
    height, width = (sizes[:, axis, None].astype(np.float64) for axis in (0, 1))
    tries = uniform[:, CROP_SHAPE:].reshape(len(sizes), CROP_TRIES, 2)
    area = (
        height
        * width
        * (augmentation.min_crop_area + (1 - augmentation.min_crop_area) * tries[..., 0])
    )
    low, high = (math.log(ratio) for ratio in CROP_RATIO)
    ratio = np.exp(low + (high - low) * tries[..., 1])
    widths, heights = np.sqrt(area * ratio), np.sqrt(area / ratio)
    fits = (widths <= width) & (heights <= height)
    first = fits.argmax(1)
    rows = np.arange(len(sizes))
    central_width = np.minimum(width, height * CROP_RATIO[1])[:, 0]
    central_height = np.minimum(height, width / CROP_RATIO[0])[:, 0]
    fitting = fits[rows, first]
    box_width = np.where(fitting, widths[rows, first], central_width) / width[:, 0]
    box_height = np.where(fitting, heights[rows, first], central_height) / height[:, 0]
    place = np.where(fitting[:, None], uniform[:, CROP_PLACE : CROP_PLACE + 2], 0.5)
    left, top = place[:, 0] * (1 - box_width), place[:, 1] * (1 - box_height)
    boxes = np.stack([left, top, left + box_width, top + box_height], 1)
    return boxes.clip(0, 1).astype(np.float32)


def moved(images: Tensor, augmentation: Augmentation, draws: Draws) -> Tensor:
    """Shift or crop, and mirror uint8 images ``[N, C, H, W]``, each on its own.

    Shifts keep the type; crops are resized by bilinear interpolation to float32 of 0 to 255.
    """
    if augmentation.min_crop_area > 0:
        sizes = np.tile(np.array(images.shape[2:], np.int32), (len(images), 1))
        boxes = torch.from_numpy(crop_boxes(augmentation, draws, sizes))
        return _resample(images, boxes, _flips(augmentation, draws))
    if augmentation.shift > 0 or augmentation.flip:
        return _shift(images, augmentation, draws)
    return images


def mirrored(images: Tensor, augmentation: Augmentation, draws: Draws) -> Tensor:
    """Mirror images that are already cropped."""
    flips = put_on(images.device, _flips(augmentation, draws))
    return torch.where(flips.view(-1, 1, 1, 1), images.flip(3), images)


def recoloured(images: Tensor, augmentation: Augmentation, draws: Draws) -> Tensor:
    """Change brightness, contrast, saturation and hue of pixels of 0 to 255, in this order.

    The four are one matrix per image: ``y = M x + offset``, clipped at the end, in float32.
    """
    if not augmentation.colours:
        return images
    images = images.float()
    device, channels = images.device, images.shape[1]
    factors = put_on(device, _colour_factors(augmentation, draws))
    brightness, contrast, saturation, turn = factors
    luma = put_on(device, torch.tensor(LUMA if channels == 3 else (1.0,)))
    mean_grey = torch.einsum("nchw,c->n", images, luma) / images[0, 0].numel()
    matrix = (brightness * contrast).view(-1, 1, 1) * torch.eye(channels, device=device)
    if channels == 3:
        matrix = _hue_matrix(turn) @ _saturation_matrix(saturation, luma) @ matrix
    offset = (1 - contrast) * brightness * mean_grey
    changed = torch.einsum("nij,njhw->nihw", matrix, images) + offset.view(-1, 1, 1, 1)
    return changed.clamp_(0, 255).contiguous(memory_format=torch.channels_last)


def cut_out(images: Tensor, augmentation: Augmentation, draws: Draws) -> Tensor:
    """Set a square of each normalised image to zero, which is the mean colour."""
    if augmentation.cutout <= 0:
        return images
    sizes = images.shape[2:]
    side = max(1, round(augmentation.cutout * min(sizes)))
    centres = (draws.uniform[:, CUTOUT : CUTOUT + 2] * torch.tensor(sizes)).floor().T
    rows, columns = (
        put_on(images.device, _between(centre - side // 2, side, size))
        for centre, size in zip(centres, sizes, strict=True)
    )
    hole = (rows[:, :, None] & columns[:, None, :])[:, None]
    return images.masked_fill(hole, 0.0)


def mix(images: Tensor, labels: Tensor, draws: Draws, classes: int) -> tuple[Tensor, Tensor]:
    """Mix each normalised image with its neighbour in the batch: 0 with 1, 2 with 3, ...

    ``images`` are an even number. Returns images and probabilities of the classes, ``[N,
    classes]``. CutMix takes a box of the same place and size for the whole batch.
    """
    partner = torch.arange(len(images), device=images.device) ^ 1
    targets = F.one_hot(labels, classes).float()
    share = draws.share
    if draws.cut_centre is not None:
        images, share = _cut_mix(images, partner, draws.share, draws.cut_centre)
    else:
        images = share * images + (1 - share) * images[partner]
    return images, share * targets + (1 - share) * targets[partner]


def _cut_mix(
    images: Tensor, partner: Tensor, share: float, centre: tuple[float, float]
) -> tuple[Tensor, float]:
    """Return images with their partners' box, and the share that is left of each image."""
    sizes = images.shape[2:]
    half = math.sqrt(1 - share) / 2
    rows, columns = (
        slice(max(0, round((at - half) * size)), min(size, round((at + half) * size)))
        for at, size in zip(centre, sizes, strict=True)
    )
    mixed = images.clone()
    mixed[:, :, rows, columns] = images[partner][:, :, rows, columns]
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    return mixed, 1 - area / math.prod(sizes)


def _between(start: Tensor, length: int, size: int) -> Tensor:
    """Return ``[N, size]``: whether each pixel is one of ``length`` from ``start [N]`` on."""
    pixels = torch.arange(size)
    return (pixels >= start[:, None]) & (pixels < start[:, None] + length)


def _flips(augmentation: Augmentation, draws: Draws) -> Tensor:
    flips = draws.uniform[:, FLIP] < 0.5
    return flips if augmentation.flip else torch.zeros_like(flips)


def _shift(images: Tensor, augmentation: Augmentation, draws: Draws) -> Tensor:
    count = len(images)
    rows, columns = (
        _shifted(draws.uniform[:, SHIFT + axis], size, augmentation.shift)
        for axis, size in enumerate(images.shape[2:])
    )
    flips = _flips(augmentation, draws)
    columns[flips] = columns[flips].flip(1)
    device = images.device
    picked = images.permute(0, 2, 3, 1)[
        torch.arange(count, device=device)[:, None, None],
        put_on(device, rows)[:, :, None],
        put_on(device, columns)[:, None, :],
    ]
    return picked.permute(0, 3, 1, 2)


def _shifted(uniform: Tensor, size: int, shift: float) -> Tensor:
    """Return the pixels ``[N, size]`` of an axis that a shift brings to each place."""
    reach = max(1, int(size * shift)) if shift > 0 else 0
    steps = (uniform * (2 * reach + 1)).long() - reach
    return (torch.arange(size) + steps[:, None]).clamp_(0, size - 1)


def _resample(images: Tensor, boxes: Tensor, flips: Tensor) -> Tensor:
    """Return the boxes ``[N, 4]`` of the images, resized to their size: one affine grid."""
    scale = boxes[:, 2:] - boxes[:, :2]
    centre = boxes[:, 2:] + boxes[:, :2] - 1
    affine = torch.zeros(len(images), 2, 3)
    affine[:, 0, 0] = torch.where(flips, -scale[:, 0], scale[:, 0])
    affine[:, 1, 1] = scale[:, 1]
    affine[:, :, 2] = centre
    size = [len(images), *images.shape[1:]]
    grid = F.affine_grid(put_on(images.device, affine), size, align_corners=False)
    return F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)


def _colour_factors(augmentation: Augmentation, draws: Draws) -> Tensor:
    """Return ``[4, N]``: factors of brightness, contrast and saturation, the angle of the hue."""
    reach = torch.tensor(
        [
            augmentation.brightness,
            augmentation.contrast,
            augmentation.saturation,
            2 * math.pi * augmentation.hue,
        ]
    )
    middle = torch.tensor([1.0, 1.0, 1.0, 0.0])
    spread = (2 * draws.uniform[:, COLOUR : COLOUR + 4].T - 1) * reach[:, None]
    return middle[:, None] + spread


def _saturation_matrix(saturation: Tensor, luma: Tensor) -> Tensor:
    """Return ``s I + (1 - s) 1 luma'`` for each image, ``[N, 3, 3]``."""
    eye = torch.eye(3, device=luma.device)
    return saturation.view(-1, 1, 1) * eye + (1 - saturation).view(-1, 1, 1) * luma.expand(3, 3)


def _hue_matrix(turn: Tensor) -> Tensor:
    """Return the rotation about the grey axis by an angle, ``[N, 3, 3]`` (Rodrigues)."""
    eye, ones = torch.eye(3, device=turn.device), torch.ones(3, 3, device=turn.device)
    axis = 1 / math.sqrt(3)
    cross = axis * put_on(
        turn.device, torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]])
    )
    cos, sin = turn.cos().view(-1, 1, 1), turn.sin().view(-1, 1, 1)
    return cos * eye + sin * cross + (1 - cos) * ones / 3
