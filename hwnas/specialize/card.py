"""The data card of a data set: counts, sizes, balance, duplicates across splits, sample images."""

from __future__ import annotations

import numpy as np

from hwnas.data.datasets import Dataset
from hwnas.data.duplicates import PARTS, Duplicates, find_duplicates
from hwnas.data.splits import in_hash_order
from hwnas.data.thumbnails import thumbnail
from hwnas.measurement.classification import UNBALANCED_RATIO
from hwnas.report.images import ClassCount, DataCard, SampleImage

SAMPLES = 24

SAMPLE_PX = 64
"""Longer side of a sample image: 24 of them take about 60 kB."""

FLAT_STD = 2 / 255
"""Standard deviation of all pixels, from 0 to 1, below which images show hardly any contrast."""

FEW_TEST_IMAGES = 5
"""Number of test images of a class below which its accuracy is unreliable."""


def data_card(dataset: Dataset) -> DataCard:
    """Return the card. Photos with equal numbers of bytes are read to find duplicates."""
    duplicates = find_duplicates(dataset)
    classes = _class_counts(dataset)
    labelled = not dataset.answers_of
    return DataCard(
        classes=classes,
        split=dataset.split,
        sizes=_sizes(dataset),
        input_shape=dataset.input_shape,
        balance=_balance(classes) if labelled else "",
        duplicates=_duplicates(duplicates),
        leaks=_leaks(duplicates),
        warnings=tuple(_warnings(dataset, classes if labelled else (), duplicates)),
        samples=tuple(_samples(dataset)),
    )


def data_warnings(dataset: Dataset) -> tuple[str, ...]:
    """Return the warnings about the data before a run begins: unbalanced classes, test images that
    are also training images, classes with hardly any test images."""
    if dataset.answers_of:
        return tuple(_warnings(dataset, (), find_duplicates(dataset)))
    classes = _class_counts(dataset)
    balance = filter(None, [_balance(classes)])
    return (*balance, *_warnings(dataset, classes, find_duplicates(dataset)))


def card_text(dataset: Dataset, card: DataCard) -> str:
    """Return the card for a terminal."""
    counts = " + ".join(
        f"{len(split.labels):,} {name}"
        for name, split in zip(PARTS, (dataset.train, dataset.valid, dataset.test), strict=True)
    )
    width = max(*(len(each.name) for each in card.classes), len("class"))
    lines = [
        f"{dataset.name}: {counts} images of {dataset.num_classes} classes",
        f"images: {card.sizes}; a network takes {'x'.join(map(str, card.input_shape))}",
        f"split: {card.split}",
        card.duplicates,
        *filter(None, [card.balance]),
        *(f"warning: {warning}" for warning in card.warnings),
        *(f"note: {note}" for note in dataset.notes),
        f"{'class':{width}}  training  validation  test",
        *(
            f"{each.name:{width}}  {each.train:8}  {each.valid:10}  {each.test:4}"
            for each in card.classes
        ),
    ]
    return "\n".join(lines)


def _class_counts(dataset: Dataset) -> tuple[ClassCount, ...]:
    splits = dataset.train, dataset.valid, dataset.test
    counts = [np.bincount(split.labels, minlength=dataset.num_classes) for split in splits]
    rows = np.stack(counts, axis=1).tolist()
    return tuple(ClassCount(name, *row) for name, row in zip(dataset.classes, rows, strict=True))


def _sizes(dataset: Dataset) -> str:
    """Return the sizes of the originals as text."""
    if dataset.origin is None:
        return "x".join(map(str, dataset.input_shape[1:])) + " pixels"
    sizes = dataset.origin.sizes
    distinct, counts = np.unique(sizes[sizes[:, 0] > 0], axis=0, return_counts=True)
    if len(distinct) == 1:
        return "{}x{} pixels".format(*distinct[0])
    areas = distinct.prod(axis=1)
    least, most, common = distinct[areas.argmin()], distinct[areas.argmax()], counts.argmax()
    text = "{} sizes from {}x{} to {}x{} pixels".format(len(distinct), *least, *most)
    share = counts[common] / counts.sum()
    return f"{text}; {share:.0%} have {{}}x{{}}".format(*distinct[common])


def _balance(classes: tuple[ClassCount, ...]) -> str:
    least = min(classes, key=lambda each: each.total)
    most = max(classes, key=lambda each: each.total)
    if most.total < UNBALANCED_RATIO * least.total:
        return ""
    share = most.total / sum(each.total for each in classes)
    return (
        f"The classes are unbalanced: {most.name!r} has {most.total:,} images, {least.name!r} "
        f"{least.total:,}. A network that always predicts {most.name!r} is right for {share:.0%} "
        "of all images; the balanced accuracy gives all classes equal weight."
    )


def _leaks(duplicates: Duplicates) -> int:
    return sum(number for pair, number in duplicates.across.items() if "test" in pair)


def _duplicates(duplicates: Duplicates) -> str:
    if not duplicates.checked:
        return "Not searched for duplicates: the data is too large to be read again."
    parts = [f"{number:,} are in {pair}" for pair, number in duplicates.across.items()]
    if duplicates.within:
        parts.append(f"{duplicates.within:,} repeat an image of their own split")
    if duplicates.other_class:
        parts.append(f"{duplicates.other_class:,} are in two classes")
    if not parts:
        return "There are no duplicate images."
    return f"Identical images: {', '.join(parts)}."


def _warnings(
    dataset: Dataset, classes: tuple[ClassCount, ...], duplicates: Duplicates
) -> list[str]:
    warnings: list[str] = []
    if max(dataset.std) < FLAT_STD:
        mean = sum(dataset.mean) / len(dataset.mean)
        warnings.append(
            f"the training images are hardly more than one colour (mean {255 * mean:.0f}, standard "
            f"deviation {255 * max(dataset.std):.1f} of 255): black, or of 16 bits of which only "
            "the lower are used."
        )
    if leaks := _leaks(duplicates):
        first, second = duplicates.examples[0]
        images = "1 test image is" if leaks == 1 else f"{leaks:,} test images are"
        warnings.append(
            f"{images} among the training or validation images too, which makes the accuracy "
            f"too high; for example {first} and {second}."
        )
    few = [each for each in classes if each.test < FEW_TEST_IMAGES]
    if few:
        some = f"{len(few)} of {len(classes)} classes have"
        names = f"{few[0].name!r} has" if len(few) == 1 else some
        warnings.append(
            f"{names} fewer than {FEW_TEST_IMAGES} test images, so the accuracy of a single class "
            "is uncertain."
        )
    return warnings


def _samples(dataset: Dataset) -> list[SampleImage]:
    """Return training images of as many classes as possible, in the order of the classes."""
    from PIL import Image

    labels = dataset.train.labels
    per_class = [np.flatnonzero(labels == label).tolist() for label in range(dataset.num_classes)]
    turns = max(map(len, per_class))
    rows = [rows[turn] for turn in range(turns) for rows in per_class if turn < len(rows)]
    if dataset.num_classes > SAMPLES:
        order = [int(label) for label in in_hash_order(list(map(str, range(len(per_class)))))]
        rows = [per_class[label][0] for label in sorted(order[:SAMPLES])]
    samples: list[SampleImage] = []
    for row in sorted(rows[:SAMPLES], key=lambda row: (int(labels[row]), row)):
        planes = dataset.train.images[row : row + 1][0]
        pixels = planes[0] if len(planes) == 1 else np.ascontiguousarray(planes.transpose(1, 2, 0))
        picture = thumbnail(Image.fromarray(pixels), SAMPLE_PX)
        samples.append(SampleImage(dataset.classes[int(labels[row])], picture))
    return samples
