"""Groups of photos that stay in one split: photos of one person, patient, place or recording.

If photos of a group are in two splits, the accuracy on the test images is too high.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from hwnas.data.splits import in_hash_order
from hwnas.errors import InvalidFile, UsageError


class Groups(NamedTuple):
    """The group of each photo."""

    by: str
    """The user's pattern or column."""
    of: Mapping[str, str]
    """Group by name of the photo."""


def pattern_groups(where: str, pattern: str, names: Iterable[str]) -> Groups | None:
    """Return the groups of names by a regular expression, None without one.

    A group is the text that the parentheses match, or the whole match without parentheses. Raises
    `UsageError` for an invalid regular expression, `InvalidFile` for names that do not match.
    """
    if not pattern:
        return None
    try:
        expression = re.compile(pattern)
    except re.error as error:
        expected = r"expected a regular expression such as 'person(\d+)'"
        raise UsageError(f"--group-by '{pattern}': {error}, {expected}") from None
    groups: dict[str, str] = {}
    others: list[str] = []
    for name in names:
        match = expression.search(name)
        if match is None:
            others.append(name)
        else:
            groups[name] = "/".join(each or "" for each in match.groups()) or match[0]
    if others:
        total = len(groups) + len(others)
        why = f"{len(others)} of {total} images do not match --group-by '{pattern}'"
        raise InvalidFile(where, f"{why}, e.g. {min(others)!r}")
    return Groups(pattern, groups)


def divide_groups(
    where: str, files: Mapping[str, Sequence[str]], groups: Groups, shares: Sequence[float]
) -> list[dict[str, list[str]]]:
    """Divide the images of all classes into a part for each share, group by group.

    ``files`` are the names of images by class; the first part is the training images. A hash orders
    the groups; each of the other parts takes groups up to its share, then the first has the rest.
    Groups are exchanged if a class would be missing in a part. Raises `InvalidFile` if a class has
    fewer groups than there are parts.
    """
    members: dict[str, Counter[str]] = defaultdict(Counter)
    for name, images in files.items():
        for image in images:
            members[groups.of[image]][name] += 1
    for name in files:
        count = sum(name in classes for classes in members.values())
        if count < len(shares):
            why = f"class {name!r} has {count} groups by '{groups.by}' for {len(shares)} splits"
            raise InvalidFile(where, f"{why}, expected at least {len(shares)}")
    parts = _by_share(members, shares)
    _cover(where, parts, members, groups.by)
    place = {group: part for part, names in enumerate(parts) for group in names}
    return [
        {
            name: [image for image in images if place[groups.of[image]] == part]
            for name, images in files.items()
        }
        for part in range(len(shares))
    ]


def group_remark(splits: Sequence[Mapping[str, Sequence[str]]], groups: Groups) -> str:
    """Return a remark on the number of groups, and on groups that are both in the test images and
    in others."""
    train, valid, test = (
        {groups.of[image] for images in files.values() for image in images} for files in splits
    )
    every, shared = train | valid | test, test & (train | valid)
    text = f"{len(every)} groups by '{groups.by}'"
    if shared:
        return f"{text}, {len(shared)} of them both in the test images and in others"
    return f"{text}, none both in the test images and in others"


def _by_share(members: Mapping[str, Counter[str]], shares: Sequence[float]) -> list[list[str]]:
    total = sum(classes.total() for classes in members.values())
    waiting = in_hash_order(list(members))
    parts: list[list[str]] = [[] for _ in shares]
    for part in range(len(shares) - 1, 0, -1):
        size = 0
        while waiting:
            next_size = members[waiting[0]].total()
            if parts[part] and size + next_size / 2 > shares[part] * total:
                break
            parts[part].append(waiting.pop(0))
            size += next_size
    parts[0] = waiting
    return parts


def _cover(
    where: str, parts: list[list[str]], members: Mapping[str, Counter[str]], by: str
) -> None:
    """Move groups until every class is in every part."""
    classes = sorted({name for counts in members.values() for name in counts})
    for _ in range(len(members) * len(parts)):
        missing = [
            (part, name)
            for part, names in enumerate(parts)
            for name in classes
            if not any(name in members[group] for group in names)
        ]
        if not missing:
            return
        part, name = missing[0]
        movable = [
            (members[group].total(), other, group)
            for other, names in enumerate(parts)
            if other != part
            for group in names
            if name in members[group] and _can_leave(group, names, members)
        ]
        if not movable:
            break
        _, other, group = min(movable)
        parts[other].remove(group)
        parts[part].append(group)
    why = f"the groups by '{by}' can't be divided so that every split has every class"
    raise InvalidFile(where, f"{why}: expected more groups, or splits in folders or a list")


def _can_leave(group: str, names: Sequence[str], members: Mapping[str, Counter[str]]) -> bool:
    """Return whether the other groups of a part have all classes of a group."""
    left = {name for other in names if other != group for name in members[other]}
    return members[group].keys() <= left
