"""Data sets of numpy arrays: ``x_train, y_train, x_test, y_test`` and their checks.

Images are uint8 ``[N, H, W]``, ``[N, H, W, C]`` or ``[N, C, H, W]`` with 1 or 3 channels; in the
packed form ``z_*`` takes the place of ``x_*`` (see `unpack`). ``x_valid, y_valid`` and ``classes``
are optional.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from hwnas.data.splits import Source, Split
from hwnas.errors import InvalidFile

PREFIXES = ("x_", "y_", "z_")
"""Prefixes of names that must be known; arrays with other names are ignored."""


def source_of_arrays(where: str, arrays: Mapping[str, np.ndarray], name: str) -> Source:
    """Return the data set of the arrays. Raises `InvalidFile`, which names ``where``."""
    packed = "z_train" in arrays
    parts = ["train", "test"] + ["valid"] * ("x_valid" in arrays or "z_valid" in arrays)
    images = {part: _images(where, arrays, part, packed) for part in parts}
    _check_one_shape(where, images)
    labels = {part: _labels(where, arrays, part, len(images[part])) for part in parts}
    classes = _classes(where, arrays, labels)
    splits = {part: Split(images[part], labels[part]) for part in parts}
    return Source(name, classes, splits["train"], splits["test"], splits.get("valid"))


def check_keys(where: str, names: Collection[str]) -> None:
    kind = "z" if "z_train" in names else "x"
    needed = [f"{kind}_train", "y_train", f"{kind}_test", "y_test"]
    known = {*needed, f"{kind}_valid", "y_valid"}
    unknown = sorted(name for name in names if name[:2] in PREFIXES and name not in known)
    missing = [name for name in needed if name not in names]
    if (f"{kind}_valid" in names) != ("y_valid" in names):
        missing.append("y_valid" if "y_valid" not in names else f"{kind}_valid")
    if missing or unknown:
        what = f"no array {missing[0]!r}" if missing else f"unknown array {unknown[0]!r}"
        expected = f"expected {', '.join(needed)} and optionally {kind}_valid, y_valid, classes"
        raise InvalidFile(where, f"{what} (found {', '.join(sorted(names))}), {expected}")


def unpack(planes: np.ndarray) -> np.ndarray:
    """Return the RGB images ``[N, 3, H, W]`` of packed ones.

    The packed form has green and the differences red - green and blue - green, each as the
    difference to the pixel on its left, all modulo 256.
    """
    images = np.cumsum(planes, axis=3, dtype=np.uint8)
    images[:, 0] += images[:, 1]
    images[:, 2] += images[:, 1]
    return images


def _images(where: str, arrays: Mapping[str, np.ndarray], part: str, packed: bool) -> np.ndarray:
    """Return the images of one part as uint8 ``[N, C, H, W]``."""
    key = f"{'z' if packed else 'x'}_{part}"
    images = arrays[key]
    if images.dtype != np.uint8:
        raise InvalidFile(where, f"{key} is {images.dtype}, expected uint8 (0 to 255)")
    if images.ndim not in (3, 4) or 0 in images.shape:
        shapes = "[N, H, W], [N, H, W, C] or [N, C, H, W] without a zero"
        raise InvalidFile(where, f"{key} is {listed(images.shape)}, expected {shapes}")
    if packed:
        if images.ndim != 4 or images.shape[1] != 3:
            raise InvalidFile(where, f"{key} is {listed(images.shape)}, expected [N, 3, H, W]")
        return unpack(images)
    return channels_first(where, key, images)


def channels_first(where: str, key: str, images: np.ndarray) -> np.ndarray:
    if images.ndim == 3:
        return images[:, None]
    first, last = (images.shape[axis] in (1, 3) for axis in (1, 3))
    if first and last:
        why = "either axis may be the channels, expected [N, H, W] or an image size other than 1, 3"
        raise InvalidFile(where, f"{key} is {listed(images.shape)}: {why}")
    if not first and not last:
        why = "expected 1 or 3 channels on axis 1 or on the last axis"
        raise InvalidFile(where, f"{key} is {listed(images.shape)}, {why}")
    return images if first else np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def _check_one_shape(where: str, images: Mapping[str, np.ndarray]) -> None:
    expected = images["train"].shape[1:]
    for part, array in images.items():
        if array.shape[1:] != expected:
            why = f"{part} images are {listed(array.shape[1:])}, training images"
            raise InvalidFile(where, f"{why} {listed(expected)}; expected one shape")


def _labels(where: str, arrays: Mapping[str, np.ndarray], part: str, count: int) -> np.ndarray:
    """Return the labels of one part as int64 ``[N]``."""
    key = f"y_{part}"
    labels = arrays[key]
    if labels.dtype.kind not in "iu":
        raise InvalidFile(where, f"{key} is {labels.dtype}, expected integer class numbers")
    if labels.shape not in ((count,), (count, 1)):
        expected = f"expected [{count}], one for each image"
        raise InvalidFile(where, f"{key} is {listed(labels.shape)}, {expected}")
    return labels.reshape(-1).astype(np.int64)


def _classes(
    where: str, arrays: Mapping[str, np.ndarray], labels: Mapping[str, np.ndarray]
) -> tuple[str, ...]:
    """Check all labels and return the names of the classes; without ``classes``, their numbers."""
    names = arrays.get("classes", np.arange(labels["train"].max() + 1).astype(str))
    if names.ndim != 1 or names.dtype.kind != "U" or len(names) < 2:
        array = f"{names.dtype} {listed(names.shape)}"
        raise InvalidFile(where, f"classes is {array}, expected 2 or more names [K]")
    for part, array in labels.items():
        if array.min() < 0 or array.max() >= len(names):
            span = f"{array.min()} to {array.max()}"
            raise InvalidFile(where, f"y_{part} is {span}, expected 0 to {len(names) - 1}")
    absent = np.setdiff1d(np.arange(len(names)), labels["train"])
    if absent.size:
        raise InvalidFile(where, f"y_train has no {absent[0]}, expected images of every class")
    return tuple(names.tolist())


def listed(shape: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, shape))}]"
