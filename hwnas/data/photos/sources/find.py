"""Finds the photos that a name refers to: a folder, a list, tar shards or a Hugging Face data
set."""

from __future__ import annotations

from pathlib import Path

from hwnas.data.photos.labelled import LabelledPhotos
from hwnas.data.photos.sources.answers import SUFFIX, answered_photos
from hwnas.data.photos.sources.folder import folder_photos, undivided_photos
from hwnas.data.photos.sources.hub import HUB_PREFIX, hub_photos, is_saved
from hwnas.data.photos.sources.listing import has_images, list_entries
from hwnas.data.photos.sources.lists import LIST_SUFFIXES, list_photos
from hwnas.data.photos.sources.shards import BRACES, shard_photos


def find_undivided(name: str) -> LabelledPhotos | None:
    """Return all photos of a folder of class folders as test images, None for other sources."""
    path = Path(name).expanduser()
    if not name or not path.is_dir() or is_saved(path) or _has_shards(path):
        return None
    return undivided_photos(path)


def find_photos(name: str, valid_share: float, group_by: str = "") -> LabelledPhotos | None:
    """Return the photos that a name refers to, None if there are none. Raises `InvalidFile`.

    Photos of one group stay in one split; see `hwnas.data.photos.labelled.ReadingOptions`.
    """
    path = Path(name).expanduser()
    if name.startswith(HUB_PREFIX):
        return hub_photos(name, valid_share, group_by)
    if name.endswith(".tar") and (path.is_file() or BRACES.fullmatch(name)):
        return shard_photos(name, valid_share, group_by)
    if path.is_file() and path.suffix == SUFFIX:
        return answered_photos(path)
    if path.is_file() and path.suffix.lower() in LIST_SUFFIXES:
        return list_photos(path, valid_share, group_by)
    if not name or not path.is_dir():
        return None
    if is_saved(path):
        return hub_photos(str(path), valid_share, group_by)
    if _has_shards(path):
        return shard_photos(str(path), valid_share, group_by)
    return folder_photos(path, valid_share, group_by)


def _has_shards(folder: Path) -> bool:
    """Whether there are tar files in a folder, and no folders that were unpacked from them."""
    if not any(folder.glob("*.tar")):
        return False
    return not any(has_images(folder / name) for name in list_entries(folder).folders)
