"""Reads an image file as hwnas does in training: turned, cropped and resized. Needs Pillow.

An .npy file has uint8 pixels [C, H, W] of the right size.
"""

import sys

import numpy as np

ORIENTATION = 0x0112  # the EXIF tag; the turns make its values upright
TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
GREY = ("1", "L", "I;16", "I")


def read_pixels(path, channels, height, width):
    """Return the image as uint8 [C, H, W]."""
    if str(path).endswith(".npy"):
        return np.load(path, allow_pickle=False)
    from PIL import Image

    try:
        with Image.open(path) as image:
            picture = upright(image)
    except (OSError, Image.DecompressionBombError) as error:
        sys.exit(f"{path}: not a readable image ({error})")
    if channels == 1:
        picture = picture.convert("L")
    elif picture.mode != "RGB":
        picture = picture.convert("RGB")
    if picture.size != (width, height):
        box = centre_box(picture.width, picture.height, width / height)
        picture = picture.resize((width, height), Image.Resampling.BILINEAR, box=box)
    pixels = np.asarray(picture)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def upright(image):
    """Return an image as grey or RGB, turned as its orientation tag says."""
    from PIL import Image

    if image.format == "TIFF":  # Pillow turns it when it reads the pixels, and drops the tag
        image.load()
    tagged = image.format != "PNG" or "exif" in image.info
    turn = TURNS.get(image.getexif().get(ORIENTATION, 1)) if tagged else None
    if image.mode.startswith("I"):  # 16 bits
        picture = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    else:
        picture = image.convert("L" if image.mode in GREY else "RGB")
    return picture if turn is None else picture.transpose(Image.Transpose[turn])


def centre_box(width, height, aspect):
    """Return the largest centred box with width = aspect * height."""
    box_width = min(float(width), height * aspect)
    box_height = min(float(height), width / aspect)
    left, upper = (width - box_width) / 2, (height - box_height) / 2
    return left, upper, min(left + box_width, width), min(upper + box_height, height)
