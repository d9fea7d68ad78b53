"""Images divided by their names."""

from __future__ import annotations

import pytest

from hwnas.data import splits
from hwnas.data.photos.sources.dividing import complete_splits, cut_valid, numbered
from hwnas.errors import InvalidFile


def files(prefix: str, **counts: int) -> dict[str, list[str]]:
    return {name: [f"{prefix}/{name}/{i}" for i in range(count)] for name, count in counts.items()}


def test_many_validation_images_are_equally_many_of_each_class(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(splits, "MAX_HELD_OUT", 1)
    train = files("train", cat=300, dog=500)
    rest, valid = cut_valid(train, 0.5, str)
    assert {name: len(images) for name, images in valid.items()} == {"cat": 50, "dog": 50}
    assert {*rest["cat"], *valid["cat"]} == {*train["cat"]} and len(rest["cat"]) == 250


def test_imagenet_has_50_000_validation_images() -> None:
    share = splits.capped_share(0.2, 1_281_167, 1000)
    assert share * 1_281_167 == pytest.approx(50_000)
    assert splits.capped_share(0.2, 1_000_000, 10) * 1_000_000 == pytest.approx(10_000)


def test_a_single_split_is_divided_whatever_its_name() -> None:
    for name in ("", "train"):
        parts = complete_splits("here", {name: files("all", cat=40, dog=40)}, 0.2)
        assert [sum(map(len, part.values())) > 4 for part in parts] == [True] * 3
        assert sum(sum(map(len, part.values())) for part in parts) == 80


def test_validation_images_are_the_test_images_where_these_are_missing() -> None:
    given = {"train": files("train", cat=9, dog=9), "valid": files("val", cat=2, dog=2)}
    train, valid, test = complete_splits("here", given, 0.2)
    assert test == given["valid"]
    assert all(name.startswith("train/") for name in [*train["cat"], *valid["cat"]])


def test_splits_must_have_the_same_classes() -> None:
    given = {"train": files("train", cat=9, dog=9), "test": files("test", cat=2)}
    with pytest.raises(InvalidFile, match="here: class 'dog' has no test image"):
        complete_splits("here", given, 0.2)
    with pytest.raises(InvalidFile, match="here: has no training images"):
        complete_splits("here", {"test": files("t", cat=2), "valid": files("v", cat=2)}, 0.2)
    with pytest.raises(InvalidFile, match=r"here: one class \('cat'\)"):
        complete_splits("here", {"train": files("train", cat=9)}, 0.2)


def test_numbers_are_in_their_order_and_names_in_that_of_letters() -> None:
    assert numbered({"10", "9", "2"}) == ["2", "9", "10"]
    assert numbered({"10", "9", "b"}) == ["10", "9", "b"]
