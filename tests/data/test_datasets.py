"""Data sets by name or path: their splits, digests and fitting."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hwnas.data.datasets import DEFAULT, Dataset, Split, load_dataset, normalise
from hwnas.data.images import fit_images
from hwnas.data.splits import MAX_HELD_OUT, capped_share, cut_classes, divide
from hwnas.errors import HwnasError, UsageError


@pytest.fixture(scope="module")
def embedded() -> Dataset:
    return load_dataset(DEFAULT)


def random_split(count: int, classes: int, seed: int = 0) -> Split:
    """Return ``count`` random 4 x 4 grey images with labels 0, 1, … in turn."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 1, 4, 4), dtype=np.uint8)
    return Split(images, np.arange(count, dtype=np.int64) % classes)


def contents(split: Split) -> set[bytes]:
    return {image.tobytes() for image in split.images[:]}


def grey(*rows: list[int]) -> np.ndarray:
    return np.array([[rows]], dtype=np.uint8)


def test_the_embedded_set_has_4000_training_and_1000_validation_and_test_images(
    embedded: Dataset,
) -> None:
    assert embedded.input_shape == (1, 28, 28)
    assert embedded.num_classes == 10
    assert embedded.classes[9] == "Ankle boot"
    for split, count in ((embedded.train, 4000), (embedded.valid, 1000), (embedded.test, 1000)):
        assert split.images.shape == (count, 1, 28, 28)
        assert split.images[:].dtype == np.uint8
        assert split.labels.dtype == np.int64


def test_every_split_of_the_embedded_set_is_balanced(embedded: Dataset) -> None:
    for split in (embedded.train, embedded.valid, embedded.test):
        assert set(np.bincount(split.labels)) == {len(split.labels) // 10}


def test_a_prefix_of_the_embedded_set_is_close_to_balanced(embedded: Dataset) -> None:
    assert set(np.bincount(embedded.test.labels[:250])) == {25}
    assert np.ptp(np.bincount(embedded.train.labels[:400])) <= 20


def test_no_image_of_the_embedded_set_is_in_two_splits_or_twice_in_one(embedded: Dataset) -> None:
    train, valid, test = map(contents, (embedded.train, embedded.valid, embedded.test))
    assert len(train | valid | test) == 4000 + 1000 + 1000


def test_mean_and_std_are_those_of_the_training_pixels(embedded: Dataset) -> None:
    pixels = embedded.train.images[:] / 255
    assert embedded.mean == pytest.approx((pixels.mean(),))
    assert embedded.std == pytest.approx((pixels.std(),))


def test_normalised_training_images_have_mean_0_and_std_1(embedded: Dataset) -> None:
    images = normalise(embedded.train.images[:], embedded)
    assert images.dtype == np.float32
    assert images.mean(dtype=np.float64) == pytest.approx(0, abs=1e-4)
    assert images.std(dtype=np.float64) == pytest.approx(1, abs=1e-4)


def test_each_channel_is_normalised_by_its_own_mean_and_std() -> None:
    images = np.zeros((2, 3, 1, 1), dtype=np.uint8)
    images[1] = [[[100]], [[200]], [[0]]]
    split = Split(images, np.array([0, 1]))
    dataset = Dataset("hand-made", ("a", "b"), split, split, split)
    assert dataset.mean == pytest.approx((50 / 255, 100 / 255, 0))
    assert dataset.std == pytest.approx((50 / 255, 100 / 255, 1 / 255))
    expected = [[-1, -1, 0], [1, 1, 0]]
    np.testing.assert_allclose(normalise(images, dataset)[..., 0, 0], expected, atol=1e-6)


def test_the_digest_is_the_same_each_time_and_names_the_data_and_the_split(
    embedded: Dataset,
) -> None:
    assert load_dataset(DEFAULT).digest == embedded.digest
    assert len(embedded.digest) == 16
    others = {
        load_dataset(DEFAULT, valid_share=0.1).digest,
        load_dataset(DEFAULT, input_shape=(3, 28, 28)).digest,
        load_dataset(DEFAULT, input_shape=(1, 14, 14)).digest,
    }
    assert len(others - {embedded.digest}) == 3


def test_validation_is_the_same_share_of_every_class() -> None:
    rest, valid = cut_classes(random_split(100, 5), "abcde", 0.2, "here")
    assert np.bincount(valid.labels).tolist() == [4] * 5
    assert np.bincount(rest.labels).tolist() == [16] * 5


def test_training_and_validation_are_disjoint_and_together_everything() -> None:
    train = random_split(100, 5)
    rest, valid = cut_classes(train, "abcde", 0.2, "here")
    assert not contents(rest) & contents(valid)
    assert contents(rest) | contents(valid) == contents(train)


def test_the_cut_does_not_depend_on_the_order_of_the_images() -> None:
    train = random_split(100, 5)
    backwards = Split(train.images[::-1], train.labels[::-1])
    cut = cut_classes(train, "abcde", 0.2, "here")
    other = cut_classes(backwards, "abcde", 0.2, "here")
    assert contents(cut[1]) == contents(other[1])


def test_images_stay_with_their_labels_when_validation_is_cut() -> None:
    train = random_split(100, 5)
    label = {image.tobytes(): y for image, y in zip(train.images[:], train.labels, strict=True)}
    for part in cut_classes(train, "abcde", 0.2, "here"):
        assert all(
            label[image.tobytes()] == y
            for image, y in zip(part.images[:], part.labels, strict=True)
        )


def test_a_class_of_one_training_image_cannot_be_cut() -> None:
    train = random_split(5, 3)._replace(labels=np.array([0, 0, 1, 1, 2]))
    with pytest.raises(HwnasError, match=r"here: class 'c' has 1 image .* expected at least 2"):
        cut_classes(train, "abc", 0.2, "here")


def test_at_most_10000_images_become_validation() -> None:
    assert capped_share(0.2, 50_000) == 0.2
    assert capped_share(0.2, 100_000) * 100_000 == MAX_HELD_OUT


def test_divided_names_have_about_their_shares_and_each_name_has_one_place() -> None:
    names = [f"{index}.png" for index in range(2000)]
    parts = divide(names, (0.70, 0.15, 0.15))
    assert [len(part) for part in parts] == pytest.approx([1400, 300, 300], abs=60)
    assert sorted(name for part in parts for name in part) == sorted(names)


def test_three_names_go_to_three_different_parts() -> None:
    for trial in range(50):
        parts = divide([f"{trial}/{name}" for name in "abc"], (0.70, 0.15, 0.15))
        assert [len(part) for part in parts] == [1, 1, 1]


def test_images_of_the_wanted_shape_are_left_alone() -> None:
    images = random_split(2, 2).images[:]
    assert fit_images(images, (1, 4, 4)) is images


def test_half_the_size_is_an_antialiased_mean_not_a_pick() -> None:
    board = np.indices((8, 8)).sum(axis=0) % 2 * 200
    halved = fit_images(board[None, None].astype(np.uint8), (1, 4, 4))
    assert halved.min() >= 95
    assert halved.max() <= 105


def test_a_wide_image_keeps_its_centre() -> None:
    wide = grey([9, 50, 60, 9], [9, 70, 80, 9])
    assert fit_images(wide, (1, 2, 2)).tolist() == [[[[50, 60], [70, 80]]]]


def test_a_tall_image_keeps_its_centre() -> None:
    tall = grey([9], [50], [9])
    assert fit_images(tall, (1, 1, 1)).tolist() == [[[[50]]]]


def test_grey_becomes_rgb_by_repetition() -> None:
    images = random_split(2, 2).images[:]
    assert (fit_images(images, (3, 4, 4)) == images).all()


def test_rgb_becomes_grey_by_luma() -> None:
    red_green_blue_white = np.array(
        [[255, 0, 0, 255], [0, 255, 0, 255], [0, 0, 255, 255]], dtype=np.uint8
    )[None, :, None]
    luma = [round(0.299 * 255), round(0.587 * 255), round(0.114 * 255), 255]
    assert fit_images(red_green_blue_white, (1, 1, 4))[0, 0, 0].tolist() == luma


def test_channels_stay_in_order_when_an_image_is_resized() -> None:
    image = np.empty((1, 3, 8, 6), dtype=np.uint8)
    image[0] = np.array([10, 20, 30])[:, None, None]
    assert fit_images(image, (3, 5, 5))[0, :, 2, 2].tolist() == [10, 20, 30]


def test_an_unknown_name_is_answered_with_the_nearest_and_with_the_other_ways() -> None:
    with pytest.raises(UsageError, match=r"did you mean 'fashion-mnist'\?.*folder.*\.npz"):
        load_dataset("fashon-mnist")
    with pytest.raises(UsageError, match=r"no data set named ''.*folder.*\.npz"):
        load_dataset("")


@pytest.mark.parametrize("name", ["missing.npz", "./missing", "some/where"])
def test_a_path_that_does_not_exist_is_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=rf"^{name}: does not exist, expected a folder"):
        load_dataset(name)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.zip").write_bytes(b"PK")
    with pytest.raises(UsageError, match=r"data\.zip: is a file of another kind, expected"):
        load_dataset(str(tmp_path / "data.zip"))
    with pytest.raises(UsageError, match=r"file; unpack the archive$"):
        load_dataset(str(tmp_path / "data.zip"))
    (tmp_path / "DATA.NPZ").write_bytes(b"PK")
    with pytest.raises(UsageError, match=r"in small letters here; rename it to DATA\.npz$"):
        load_dataset(str(tmp_path / "DATA.NPZ"))


@pytest.mark.parametrize("shape", [(2, 8, 8), (1, 0, 8), (8, 8)])
def test_an_impossible_input_shape_is_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(UsageError, match=r"expected \(C, H, W\) with 1 or 3 channels"):
        load_dataset(DEFAULT, input_shape=shape)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.2])
def test_an_impossible_validation_share_is_refused(share: float) -> None:
    with pytest.raises(UsageError, match="expected between 0 and 1"):
        load_dataset(DEFAULT, valid_share=share)


def test_a_size_that_memory_does_not_hold_is_refused_with_the_number() -> None:
    with pytest.raises(UsageError, match=r"6000 images of 3x1000x1000 are 18\.0 GB .* most 8 GB"):
        load_dataset(DEFAULT, input_shape=(3, 1000, 1000))


def test_importing_data_sets_imports_neither_torch_nor_pillow() -> None:
    code = (
        "import sys, hwnas.data.datasets; print({'torch', 'torchvision', 'PIL'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
