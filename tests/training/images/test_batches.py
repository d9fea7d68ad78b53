"""The batches of a training are the same wherever images are and whoever reads them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from functools import partial
from itertools import islice

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from hwnas.data.datasets import load_dataset
from hwnas.data.photos import packing, tiers
from hwnas.data.stored import Rows
from hwnas.errors import InvalidFile, UsageError
from hwnas.nn.build import build
from hwnas.training import distributed
from hwnas.training.images import batches as module
from hwnas.training.images.augment import NO_AUGMENTATION, Augmentation
from hwnas.training.images.batches import Batches
from hwnas.training.images.loader import Batch, Data, ReadAhead, as_data
from hwnas.training.loop import train
from hwnas.training.plan import TrainingPlan
from tests.support.data.photos import noise_folder
from tests.support.tiny import tiny_data, tiny_space

SHIFT = Augmentation(brightness=0.2, cutout=0.3)
CROP = Augmentation(min_crop_area=0.25, saturation=0.5, cutmix=1.0)
augmented = pytest.mark.parametrize("augmentation", [SHIFT, CROP], ids=["shift", "crop"])


class ReadImages:
    """Images of `tiny_data` that are read as those in files are; ``on_read`` sees the rows."""

    def __init__(
        self, images: Tensor, on_read: Callable[[NDArray[np.int64]], None] = lambda _: None
    ) -> None:
        self.images, self.on_read = images.numpy(), on_read

    @property
    def shape(self) -> tuple[int, int, int, int]:
        count, channels, height, width = self.images.shape
        return count, channels, height, width

    @property
    def sizes(self) -> NDArray[np.int32]:
        return np.tile(np.array(self.shape[2:], np.int32), (len(self), 1))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: Rows) -> NDArray[np.uint8]:
        assert not isinstance(rows, slice)
        self.on_read(rows)
        return self.images[rows]

    def crops(self, rows: NDArray[np.int64], boxes: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Brighten images by the area of their boxes, so that a test can read the area."""
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        return (self[rows] * areas[:, None, None, None]).astype(np.uint8)

    def subset(self, rows: NDArray[np.int64]) -> ReadImages:
        return ReadImages(torch.from_numpy(self.images[rows]), self.on_read)


def tiny(on_read: Callable[[NDArray[np.int64]], None] = lambda _: None) -> Data:
    data = tiny_data(42)
    return data._replace(images=ReadImages(data.tensors()[0], on_read), classes=3)


def first(data: Data, augmentation: Augmentation, count: int, step: int = 0) -> list[Batch]:
    """Return some batches of 8 images from a step on."""
    with closing(Batches(data, 8, augmentation, seed=0).from_step(step)) as batches:
        return list(islice(batches, count))


def assert_same(ours: list[Batch], expected: list[Batch]) -> None:
    assert len(ours) == len(expected)
    for batch, other in zip(ours, expected, strict=True):
        for part, same in zip(batch, other, strict=True):
            assert torch.equal(part, same)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Data]:
    """The same photos in each tier, normalised alike."""
    root = tmp_path_factory.mktemp("photos")
    folder = noise_folder(root / "pets")
    result: dict[str, Data] = {}
    for tier in ("memory", "files", "packed"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HWNAS_HOME", str(root / "home"))
            if tier != "memory":
                patch.setattr(tiers, "MEMORY_SHARE", 0)
            if tier == "files":
                patch.setattr(packing, "SPARE_BYTES", 1 << 60)
            dataset = load_dataset(str(folder), input_shape=(3, 8, 8))
        data = as_data(dataset.train, dataset)
        mean, std = torch.full((3, 1, 1), 0.4), torch.full((3, 1, 1), 0.3)
        result[tier] = data._replace(mean=mean, std=std)
    return result


@augmented
@pytest.mark.parametrize("tier", ["packed", "files"])
def test_batches_do_not_depend_on_the_tier(
    tier: str, augmentation: Augmentation, photos: dict[str, Data]
) -> None:
    expected = first(photos["memory"], augmentation, 7)
    assert_same(first(photos[tier], augmentation, 7), expected)


def test_shorter_epochs_have_the_same_batches() -> None:
    whole, parts = (
        Batches(tiny(), 8, SHIFT, seed=1, epoch_images=images) for images in (0, 2 * 8 + 3)
    )
    assert (whole.steps, parts.steps) == (5, 2)
    for step in range(12):  # of three passes, the last two begin in the middle of an epoch
        assert_same([parts.batch(step)], [whole.batch(step)])


def test_images_in_files_are_whole_from_the_step_given(photos: dict[str, Data]) -> None:
    """Photos in files are cropped while they are read, photos in memory afterwards."""
    crops = Augmentation(min_crop_area=0.25, flip=False)
    files, memory = (
        Batches(photos[tier], 8, crops, seed=0, whole_from=3) for tier in ("files", "memory")
    )
    assert_same(
        [files.batch(step) for step in range(2, 5)],
        [memory.batch(2), memory.batch(3), memory.batch(4)],
    )
    cropped, whole = (first(photos["files"], each, 4) for each in (crops, NO_AUGMENTATION))
    assert_same([files.batch(2), files.batch(3)], [cropped[2], whole[3]])


def test_stored_images_give_the_batches_of_a_tensor(photos: dict[str, Data]) -> None:
    stored = photos["packed"]
    tensor = stored._replace(images=stored.tensors()[0])
    assert_same(first(stored, SHIFT, 7), first(tensor, SHIFT, 7))
    labels = [batch[1] for batch in first(stored, CROP, 7)]
    assert all(map(torch.equal, labels, [batch[1] for batch in first(tensor, CROP, 7)]))


@augmented
@pytest.mark.parametrize("readers", [1, 2, 3])
def test_batches_do_not_depend_on_the_threads_that_read(
    readers: int, augmentation: Augmentation, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Batches(tiny(), 24, augmentation, seed=0)
    expected = [whole.batch(step) for step in range(4)]
    late = threading.Event()

    def read(rows: NDArray[np.int64]) -> None:
        """With several threads, the first part of each batch comes after the second."""
        if len(rows) == 16 and readers > 1:
            late.wait(timeout=10)
        elif len(rows) < 16:
            late.set()

    monkeypatch.setattr(module, "ReadAhead", partial(ReadAhead, readers))
    with closing(Batches(tiny(read), 24, augmentation, seed=0).from_step(0)) as batches:
        assert_same(list(islice(batches, 4)), expected)


@augmented
@pytest.mark.parametrize("kind", ["tensor", "read"])
@pytest.mark.parametrize("step", [1, 5, 8])
def test_a_training_that_continues_gets_the_batches_from_there(
    step: int, kind: str, augmentation: Augmentation
) -> None:
    """Five steps are an epoch."""
    data = tiny() if kind == "read" else tiny_data(42)._replace(classes=3)
    expected = first(data, augmentation, 12)
    assert_same(first(data, augmentation, 12 - step, step), expected[step:])
    single = Batches(data, 8, augmentation, seed=0)
    assert_same([single.batch(step)], [expected[step]])
    assert not torch.equal(expected[step][0], expected[step - 1][0])


@augmented
@pytest.mark.parametrize("kind", ["tensor", "read"])
def test_two_ranks_have_the_halves_of_each_batch(
    kind: str, augmentation: Augmentation, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tiny() if kind == "read" else tiny_data(42)._replace(classes=3)
    expected = first(data, augmentation, 6)
    halves: list[list[Batch]] = []
    monkeypatch.setattr(distributed, "ranks", lambda: 2)
    monkeypatch.setattr(module, "ranks", lambda: 2)
    for number in range(2):
        monkeypatch.setattr(distributed, "rank", lambda number=number: number)
        halves.append(first(data, augmentation, 6))
    for half, other_half, (images, labels) in zip(*halves, expected, strict=True):
        assert len(half[0]) == len(other_half[0]) == 4
        together = torch.cat([half[0], other_half[0]])
        torch.testing.assert_close(together, images, rtol=0, atol=1e-6)
        assert torch.equal(torch.cat([half[1], other_half[1]]), labels)


@pytest.mark.parametrize(
    ("batch_size", "count", "message"),
    [
        (7, 1, "a batch of 7 images is 7 for each of 1 rank; .* with batches of 8 images$"),
        (6, 2, "a batch of 6 images is 3 for each of 2 ranks; .* with batches of 8 images$"),
    ],
)
def test_no_image_of_a_batch_stays_unmixed(
    batch_size: int, count: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in (distributed, module):
        monkeypatch.setattr(place, "ranks", lambda: count)
    monkeypatch.setattr(distributed, "rank", lambda: 0)
    data = tiny()
    with pytest.raises(UsageError, match=message):
        Batches(data, batch_size, CROP, seed=0)
    assert Batches(data, batch_size, SHIFT, seed=0).batch_size == batch_size
    whole = Batches(data._replace(labels=data.labels[:39]), 64, CROP, seed=0)
    assert whole.batch_size == {1: 38, 2: 36}[count]


def test_the_training_waits_for_images_that_are_read_slowly(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock_s = [0.0]

    def read(_: NDArray[np.int64], s: float) -> None:
        clock_s[0] += s

    monkeypatch.setattr(module.time, "perf_counter", lambda: clock_s[0])
    for each_s in (0.0, 5.0):
        batches = Batches(tiny(partial(read, s=each_s)), 8, SHIFT, seed=0)
        with closing(batches.from_step(0)) as source:
            next(source)
        assert batches.waited_s >= each_s
        assert (batches.waited_s > 0) == (each_s > 0)


def test_images_are_read_ahead_of_their_use_but_not_far() -> None:
    rows: list[int] = []
    with closing(Batches(tiny(rows.extend), 8, SHIFT, seed=0).from_step(0)) as batches:
        list(islice(batches, 4))
    assert 4 * 8 <= len(rows) <= (4 + 3) * 8


def test_reading_threads_end_with_the_batches() -> None:
    before = threading.active_count()
    batches = Batches(tiny(), 8, SHIFT, seed=0).from_step(0)
    next(batches)
    assert threading.active_count() > before
    batches.close()
    assert threading.active_count() == before


def test_an_image_that_cannot_be_read_stops_the_training_in_one_line() -> None:
    def read(rows: NDArray[np.int64]) -> None:
        if 13 in rows:
            raise InvalidFile("cat/013.png", "not a readable image (truncated)")

    before, space = threading.active_count(), tiny_space()
    network = build(space.architecture(space.default))
    with pytest.raises(InvalidFile) as caught:
        train(network, tiny(read), TrainingPlan(epochs=2, batch_size=8), seed=0)
    assert str(caught.value) == "cat/013.png: not a readable image (truncated)"
    assert threading.active_count() == before
