"""The default augmentation for images."""

from __future__ import annotations

from hwnas.training.images.augment import Augmentation

PHOTO_SIZE = 112
"""Height in pixels from which colour images are treated as photos."""
MANY_IMAGES = 100_000
"""Training images from which crops may be as small as in trainings on ImageNet."""


def default_augmentation(
    input_shape: tuple[int, int, int], images: int, flip: bool | None
) -> Augmentation:
    """Return the augmentation for training images of a shape ``(C, H, W)``.

    Photos are cropped, mirrored and a little recoloured (brightness and saturation as in
    ProxylessNAS's search on ImageNet); small colour images are shifted and mirrored; grey images
    are only shifted, as mirrored digits, letters and X-rays have another meaning. ``flip``
    overrides whether images are mirrored.
    """
    channels, size, _ = input_shape
    if channels == 1:
        return Augmentation(flip=bool(flip))
    mirrored = flip is not False
    if size < PHOTO_SIZE:
        return Augmentation(shift=1 / 8, flip=mirrored)
    return Augmentation(
        min_crop_area=0.08 if images >= MANY_IMAGES else 0.25,
        flip=mirrored,
        brightness=32 / 255,
        saturation=0.5,
    )
