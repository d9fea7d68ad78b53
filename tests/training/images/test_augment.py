"""Random parameters of augmentations and their effect on training images, compared with
torchvision."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional as tv

from hwnas.training.images import augment
from hwnas.training.images.augment import (
    COLOUR,
    COLUMNS,
    CROP_PLACE,
    CROP_SHAPE,
    CROP_TRIES,
    CUTOUT,
    FLIP,
    NO_AUGMENTATION,
    SHIFT,
    Augmentation,
    Draws,
    crop_boxes,
    cut_out,
    draw,
    mirrored,
    mix,
    moved,
    recoloured,
)

CROP = Augmentation(min_crop_area=0.25)
COLOURS = ("brightness", "contrast", "saturation", "hue")


def noise(count: int, size: int, low: int = 0, high: int = 256) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(low, high, (count, 3, size, size), generator=generator, dtype=torch.uint8)


def changed(**fields: float) -> Augmentation:
    """Return an augmentation that does these things only."""
    return msgspec.structs.replace(NO_AUGMENTATION, **fields)


def drawn(augmentation: Augmentation, count: int, step: int = 0) -> Draws:
    return draw(augmentation, count, seed=0, epoch=0, step=step)


def by_hand(*columns: tuple[int, float]) -> Draws:
    """Return the draws of one image: one half, but in the given columns."""
    uniform = torch.full((1, COLUMNS), 0.5)
    for column, value in columns:
        uniform[0, column] = value
    return Draws(uniform)


def pixel_boxes(height: int, width: int, draws: Draws) -> np.ndarray:
    """Return the crop boxes of images of one size, in pixels, ``[N, 4]``."""
    sizes = np.tile(np.array([height, width], np.int32), (len(draws.uniform), 1))
    boxes = crop_boxes(CROP, draws, sizes)
    return boxes.astype(np.float64) * np.array([width, height, width, height])


def sides(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the heights and widths of boxes."""
    return boxes[:, 3] - boxes[:, 1], boxes[:, 2] - boxes[:, 0]


@pytest.mark.parametrize("mirror", [False, True])
def test_a_crop_and_its_mirror_image_are_torchvisions(
    mirror: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two pixels at the border excepted, where ours sees the pixels outside the box."""
    boxes = torch.tensor([[3, 5, 21, 29], [0, 0, 32, 32], [10, 2, 31, 19]])
    monkeypatch.setattr(augment, "crop_boxes", lambda *_: (boxes / 32).numpy())
    draws = Draws(torch.full((3, COLUMNS), 0.0 if mirror else 1.0))
    images = noise(3, 32)
    ours = moved(images, CROP, draws) / 255
    for image, (left, top, right, bottom), crop in zip(images, boxes.tolist(), ours, strict=True):
        box = top, left, bottom - top, right - left
        expected = tv.resized_crop(image / 255, *box, size=[32, 32], antialias=False)
        expected = tv.horizontal_flip(expected) if mirror else expected
        inner = slice(2, -2)
        torch.testing.assert_close(
            crop[:, inner, inner], expected[:, inner, inner], rtol=0, atol=6e-6
        )


def test_a_crop_of_the_whole_image_is_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.array([[0, 0, 1, 1]], np.float32)
    monkeypatch.setattr(augment, "crop_boxes", lambda *_: whole)
    images = noise(1, 12)
    torch.testing.assert_close(moved(images, CROP, by_hand()), images.float(), rtol=0, atol=1e-3)


def test_crop_boxes_have_the_areas_and_ratios_of_the_augmentation() -> None:
    boxes = pixel_boxes(100, 100, drawn(CROP, 4000))
    heights, widths = sides(boxes)
    areas, ratios = heights * widths / 100**2, widths / heights
    assert boxes.min() >= 0 and boxes.max() <= 100
    assert areas.min() == pytest.approx(0.25, abs=0.01) and areas.max() > 0.9
    assert areas.min() >= 0.25 - 1e-6
    assert ratios.min() == pytest.approx(3 / 4, abs=0.01) and ratios.min() >= 3 / 4 - 1e-5
    assert ratios.max() == pytest.approx(4 / 3, abs=0.01) and ratios.max() <= 4 / 3 + 1e-5


def kolmogorov_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the largest difference of the distribution functions of two samples."""
    values = np.sort(np.concatenate([first, second]))
    shares = [
        np.searchsorted(np.sort(part), values, side="right") / len(part) for part in (first, second)
    ]
    return float(np.abs(shares[0] - shares[1]).max())


def test_areas_of_crops_are_distributed_as_torchvisions() -> None:
    """With a photo in which many boxes don't fit; at a significance of 1 %."""
    height, width, count = 600, 1000, 1500
    heights, widths = sides(pixel_boxes(height, width, drawn(CROP, count)))
    torch.manual_seed(0)
    photo = torch.empty(3, height, width)
    theirs = [
        RandomResizedCrop.get_params(photo, [0.25, 1.0], [3 / 4, 4 / 3]) for _ in range(count)
    ]
    areas = [rows * columns for _, _, rows, columns in theirs]
    ratios = [columns / rows for _, _, rows, columns in theirs]
    for ours, expected in ((heights * widths, areas), (widths / heights, ratios)):
        assert kolmogorov_distance(ours, np.array(expected)) < 1.63 * math.sqrt(2 / count)


def test_the_first_box_that_fits_is_taken() -> None:
    height, width = 60, 100
    draws = drawn(CROP, 300)
    heights, widths = sides(pixel_boxes(height, width, draws))
    later = 0
    for uniform, box_height, box_width in zip(draws.uniform, heights, widths, strict=True):
        for number in range(CROP_TRIES):
            share, place = uniform[CROP_SHAPE + 2 * number : CROP_SHAPE + 2 * number + 2].tolist()
            area = height * width * (0.25 + 0.75 * share)
            ratio = math.exp(math.log(3 / 4) + math.log(16 / 9) * place)
            expected = math.sqrt(area * ratio), math.sqrt(area / ratio)
            if expected[0] <= width and expected[1] <= height:
                assert (box_width, box_height) == pytest.approx(expected, rel=1e-5)
                later += number > 0
                break
    assert later > 10


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(100, 1000, (500 - 200 / 3, 0, 500 + 200 / 3, 100)), (1000, 100, (0, 433.333, 100, 566.667))],
)
def test_where_no_box_fits_the_crop_is_central(
    height: int, width: int, expected: tuple[float, ...]
) -> None:
    """A quarter of such an image, at a ratio of at most 4 to 3, is larger than its short side."""
    boxes = pixel_boxes(height, width, drawn(CROP, 20))
    np.testing.assert_allclose(boxes, np.tile(expected, (20, 1)), atol=1e-2)


@pytest.mark.parametrize(("place", "left"), [(0.0, 0), (0.5, 25), (1.0, 50)])
def test_a_crop_lies_where_it_is_drawn(place: float, left: float) -> None:
    draws = by_hand((CROP_SHAPE, 0.0), (CROP_SHAPE + 1, 0.5), (CROP_PLACE, place))
    [box] = pixel_boxes(100, 100, draws)
    assert box.tolist() == pytest.approx([left, 25, left + 50, 75], abs=1e-3)


def test_images_are_mirrored_by_their_draw_cropped_here_or_before() -> None:
    flip = Augmentation(shift=0.0)
    images, draws = noise(40, 8), drawn(flip, 40)
    flips = draws.uniform[:, FLIP] < 0.5
    assert 10 < flips.sum() < 30
    for result in (moved(images, flip, draws), mirrored(images, flip, draws)):
        assert torch.equal(result[flips], images[flips].flip(3))
        assert torch.equal(result[~flips], images[~flips])
    assert torch.equal(mirrored(images, NO_AUGMENTATION, draws), images)


@pytest.mark.parametrize(
    ("reach", "tolerance"),
    [
        ({"brightness": 0.2}, 1e-6),
        ({"contrast": 0.4}, 1e-6),
        ({"saturation": 0.5}, 1e-6),
        ({"brightness": 0.2, "saturation": 0.5}, 1e-6),
        ({"brightness": 0.2, "contrast": 0.4}, 1e-6),
        # the weights of grey sum to 0.9999, and torchvision's saturation darkens grey by that
        ({"brightness": 0.2, "contrast": 0.4, "saturation": 0.4}, 5e-5),
    ],
)
def test_colours_are_torchvisions_calls_in_turn_while_nothing_clips(
    reach: dict[str, float], tolerance: float
) -> None:
    images, augmentation = noise(8, 10, 100, 140), changed(**reach)
    draws = drawn(augmentation, 8)
    ours = recoloured(images, augmentation, draws) / 255
    for image, uniform, result in zip(images, draws.uniform, ours, strict=True):
        expected = image / 255
        for place, name in enumerate(COLOURS[:3]):
            factor = 1 + reach.get(name, 0.0) * (2 * uniform[COLOUR + place].item() - 1)
            expected = getattr(tv, f"adjust_{name}")(expected, factor)
        torch.testing.assert_close(result, expected, rtol=0, atol=tolerance)
        assert not torch.allclose(result, image / 255, atol=1e-3)


def test_a_hue_keeps_grey_and_a_third_of_a_turn_permutes_the_channels() -> None:
    images, augmentation = noise(6, 5), changed(hue=1 / 3)
    grey = images[:, :1].expand(-1, 3, -1, -1)
    still_grey = recoloured(grey, augmentation, drawn(augmentation, 6))
    torch.testing.assert_close(still_grey, grey.float(), rtol=0, atol=1e-3)
    turned = recoloured(images[:1], augmentation, by_hand((COLOUR + 3, 1.0)))
    torch.testing.assert_close(turned, images[:1].roll(1, 1).float(), rtol=0, atol=1e-3)


def test_pixels_stay_between_0_and_255() -> None:
    augmentation = changed(brightness=0.9, contrast=0.9, saturation=0.9, hue=0.5)
    result = recoloured(noise(30, 6), augmentation, drawn(augmentation, 30))
    assert (result.min(), result.max()) == (0, 255)


def test_a_grey_image_has_brightness_and_contrast_only() -> None:
    images, augmentation = noise(4, 6)[:, :1], changed(saturation=0.9, hue=0.5)
    result = recoloured(images, augmentation, drawn(augmentation, 4))
    torch.testing.assert_close(result, images.float())
    augmentation = changed(brightness=0.5)
    brighter = recoloured(images[:1], augmentation, by_hand((COLOUR, 1.0)))
    torch.testing.assert_close(brighter, (1.5 * images[:1].float()).clamp(max=255))


@pytest.mark.parametrize(
    ("row", "column", "rows", "columns"),
    [(7, 5, (5, 9), (3, 7)), (0, 11, (0, 2), (9, 12)), (11, 0, (9, 12), (0, 2))],
)
def test_cutout_sets_a_square_about_its_centre_to_the_mean_colour(
    row: int, column: int, rows: tuple[int, int], columns: tuple[int, int]
) -> None:
    """The side is a third of 12 pixels; beyond the border there is nothing to cut."""
    draws = by_hand((CUTOUT, (row + 0.5) / 12), (CUTOUT + 1, (column + 0.5) / 12))
    images = torch.ones(1, 3, 12, 12)
    expected = images.clone()
    expected[:, :, slice(*rows), slice(*columns)] = 0.0
    assert torch.equal(cut_out(images, changed(cutout=1 / 3), draws), expected)


def test_mixup_is_the_weighted_mean_of_neighbours_and_of_their_labels() -> None:
    augmentation, images, labels = changed(mixup=0.2), torch.randn(4, 3, 4, 4), torch.arange(4)
    draws = drawn(augmentation, 4)
    mixed, targets = mix(images, labels, draws, classes=6)
    share = draws.share
    assert 0 < share < 1 and draws.cut_centre is None
    for row, partner in enumerate((1, 0, 3, 2)):
        torch.testing.assert_close(mixed[row], share * images[row] + (1 - share) * images[partner])
        expected = torch.zeros(6)
        expected[row] += share
        expected[partner] += 1 - share
        torch.testing.assert_close(targets[row], expected)


def test_cutmix_gives_a_label_the_share_of_the_pixels_that_are_its_images() -> None:
    augmentation, labels = changed(cutmix=1.0), torch.arange(4)
    images = labels.float().view(4, 1, 1, 1).expand(4, 1, 16, 16)
    shares: set[float] = set()
    for step in range(30):
        mixed, targets = mix(images, labels, drawn(augmentation, 4, step), classes=4)
        torch.testing.assert_close(targets.sum(1), torch.ones(4))
        for row, partner in enumerate((1, 0, 3, 2)):
            assert targets[row, row].item() == pytest.approx((mixed[row] == row).float().mean())
            others = mixed[row][mixed[row] != row]
            assert (others == partner).all()
        shares.add(targets[0, 0].item())
    assert len(shares) > 20


def test_with_mixup_and_cutmix_a_batch_has_either() -> None:
    both = changed(mixup=0.2, cutmix=1.0)
    kinds = [drawn(both, 2, step).cut_centre is None for step in range(60)]
    assert 15 < sum(kinds) < 45


def test_draws_follow_from_seed_epoch_and_step_alone() -> None:
    augmentation = changed(mixup=0.2, cutmix=1.0)
    first = draw(augmentation, 6, seed=3, epoch=4, step=5)
    torch.rand(7)
    np.random.default_rng().random()
    again = draw(augmentation, 6, seed=3, epoch=4, step=5)
    assert torch.equal(again.uniform, first.uniform) and again[1:] == first[1:]
    for place in ((5, 4, 3), (3, 5, 4), (3, 4, 6), (2, 4, 5)):
        other = draw(augmentation, 6, *place)
        assert not torch.equal(other.uniform, first.uniform) and other[1:] != first[1:]


@pytest.mark.parametrize("crop", [0.0, 0.25])
def test_a_part_of_a_batch_is_augmented_as_in_the_whole(crop: float) -> None:
    augmentation = Augmentation(
        min_crop_area=crop, brightness=0.2, contrast=0.3, saturation=0.4, hue=0.1, cutout=0.3,
        mixup=0.2, cutmix=1.0,
    )  # fmt: skip
    images, labels = noise(8, 12), torch.arange(8)

    def augmented(images: Tensor, labels: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
        images = recoloured(moved(images, augmentation, draws), augmentation, draws)
        images = cut_out(images / 255, augmentation, draws)
        return mix(images, labels, draws, classes=8)

    draws, rows = drawn(augmentation, 8), slice(2, 6)
    whole = augmented(images, labels, draws)
    part = augmented(images[rows], labels[rows], draws.part(rows))
    for ours, expected in zip(part, whole, strict=True):
        torch.testing.assert_close(ours, expected[rows], rtol=0, atol=1e-6)


def ramp(height: int, width: int) -> Tensor:
    """Return one image whose two channels are the row and the column of each pixel."""
    rows, columns = torch.arange(height).view(-1, 1), torch.arange(width).view(1, -1)
    planes = [rows.expand(height, width), columns.expand(height, width)]
    return torch.stack(planes)[None].to(torch.uint8)


@pytest.mark.parametrize(("height", "width"), [(24, 40), (40, 24)])
def test_a_shift_is_a_share_of_each_axis_and_keeps_the_shape(height: int, width: int) -> None:
    draws = by_hand((SHIFT, 0.999), (SHIFT + 1, 0.0), (FLIP, 1.0))
    image = moved(ramp(height, width), changed(shift=0.25), draws)
    assert image.shape == (1, 2, height, width)
    down, right = height // 4, -(width // 4)
    assert image[0, 0, :, 0].tolist() == [min(row + down, height - 1) for row in range(height)]
    assert image[0, 1, 0, :].tolist() == [max(column + right, 0) for column in range(width)]


def test_a_mirrored_wide_image_reaches_to_its_right_edge() -> None:
    image = moved(ramp(4, 10), changed(flip=True), by_hand((FLIP, 0.0)))
    assert image[0, 1, 0].tolist() == list(range(9, -1, -1))


@pytest.mark.parametrize(("height", "width"), [(24, 40), (40, 24)])
def test_cutout_and_cutmix_reach_every_part_of_an_image_that_is_not_square(
    height: int, width: int
) -> None:
    ones = torch.ones(1, 3, height, width)
    holed = cut_out(ones, changed(cutout=0.5), by_hand((CUTOUT, 0.999), (CUTOUT + 1, 0.999)))
    hole = (holed[0, 0] == 0).nonzero()
    assert hole.amax(0).tolist() == [height - 1, width - 1] and holed[0, 0, 0, 0] == 1
    pair = torch.stack([torch.zeros(3, height, width), torch.ones(3, height, width)])
    draws = Draws(torch.zeros(2, COLUMNS), share=0.75, cut_centre=(0.5, 0.5))
    mixed, targets = mix(pair, torch.tensor([0, 1]), draws, 2)
    inside = (mixed[0, 0] == 1).nonzero()
    box = inside.amax(0) - inside.amin(0) + 1
    assert box.tolist() == [height // 2, width // 2]
    assert targets[0].tolist() == [0.75, 0.25]
