"""Lists the image files of a folder, without auxiliary files of other programs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hwnas.errors import InvalidFile

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".webp", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".heic", ".heif", ".jp2", ".j2k", ".tga", ".mpo"),
)
"""Suffixes of images, in any case. Pillow cannot read HEIC, but such photos are reported, not
ignored."""

LITTER = {
    "__macosx",  # the macOS metadata in a zip archive
    "thumbs.db",  # Windows
    "desktop.ini",
    "ehthumbs.db",
    "$recycle.bin",
    "system volume information",
    "@eadir",  # Synology
    "lost+found",
    "#recycle",
    "@recycle",  # QNAP
    "__pycache__",
    "icon\r",  # macOS
}
"""Auxiliary files and folders of file managers and operating systems, which are ignored; so are
names that begin with a dot, such as ``.DS_Store``, ``.ipynb_checkpoints`` and ``._*``."""

MAX_NAMES = 6
"""Most names that a remark lists."""


class Entries(NamedTuple):
    """The images and folders directly in a folder, sorted by name."""

    images: list[str]
    folders: list[str]


class Remarks:
    """Counts ignored and unusual files of a data set, for its remarks."""

    def __init__(self) -> None:
        self.litter, self.others = Counter[str](), Counter[str]()
        self.nested = Counter[str]()
        self.loose = 0
        """Images outside class folders."""
        self.more: list[str] = []

    def texts(self) -> tuple[str, ...]:
        """Return the remarks."""
        texts = list(self.more)
        if self.nested:
            texts.append(
                f"{_images(self.nested.total())} in sub-folders of the classes "
                f"({_listed(self.nested)}) belong to these classes"
            )
        if self.loose:
            texts.append(f"{_images(self.loose)} outside class folders ignored")
        if self.litter:
            texts.append(f"passed over: {_listed(self.litter)}")
        if self.others:
            count = self.others.total()
            files = "1 file that is no image" if count == 1 else f"{count} files that are no images"
            texts.append(f"{files} ignored ({_listed(self.others)})")
        return tuple(texts)


def list_entries(folder: Path, remarks: Remarks | None = None) -> Entries:
    """Return the images and folders directly in a folder; note the others in ``remarks``."""
    images: list[str] = []
    folders: list[str] = []
    for entry in _scan(folder):
        name = entry.name
        if name.startswith(".") or name.lower() in LITTER:
            if remarks is not None:
                remarks.litter["._*" if name.startswith("._") else name] += 1
        elif _is_folder(entry):
            folders.append(name)
        elif name.lower().endswith(SUFFIXES):
            images.append(name)
        elif remarks is not None:
            remarks.others[os.path.splitext(name)[1].lower() or "no suffix"] += 1
    return Entries(sorted(images), sorted(folders))


def list_tree(folder: Path, remarks: Remarks | None = None) -> list[str]:
    """Return the images in a folder and all its sub-folders, relative to it and sorted."""
    return sorted(_walk(folder, "", remarks, _above(folder)))


def has_images(folder: Path) -> bool:
    """Return whether there is an image in a folder or its sub-folders."""
    return next(_walk(folder, "", None, _above(folder)), None) is not None


Places = frozenset[tuple[int, int]]
"""Folders by their devices and numbers, the same whatever link leads to them."""


def _above(folder: Path) -> Places:
    return frozenset(map(_place, folder.absolute().parents))


def _place(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _walk(folder: Path, prefix: str, remarks: Remarks | None, above: Places) -> Iterator[str]:
    """Yield the images below a folder; a link to a folder above is not followed."""
    here = _place(folder)
    if here in above:
        return
    entries = list_entries(folder, remarks)
    for name in entries.images:
        if prefix and remarks is not None:
            remarks.nested[f"{folder.name}/"] += 1
        yield f"{prefix}{name}"
    for name in entries.folders:
        yield from _walk(folder / name, f"{prefix}{name}/", remarks, above | {here})


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise InvalidFile(str(folder), f"cannot be listed ({error.strerror})") from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def _listed(counts: Counter[str]) -> str:
    """Return the names, with a number where it is more than one."""
    ordered = sorted(counts.items(), key=lambda item: item[0].lower())
    names = [f"{count} {name}" if count > 1 else name for name, count in ordered]
    more = f", … {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more
