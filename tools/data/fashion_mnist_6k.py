"""Make the embedded data set: 5,000 + 1,000 images of Fashion-MNIST.

    python -m tools.data.fashion_mnist_6k [--source DIR] [--out FILE]

The source is the folder of the four gzipped IDX files; Debian's package ``dataset-fashion-mnist``
installs it. The same files always give the same arrays, and the same bytes with the same zlib.
"""

from __future__ import annotations

import io
import zipfile
from hashlib import blake2b, sha256
from pathlib import Path

import click
import numpy as np

from hwnas.data.array_sources import DEBIAN_FASHION_MNIST, FASHION_MNIST_CLASSES, read_idx
from hwnas.files import write_atomic
from tools.lib.options import PATH, out_option
from tools.lib.results import ROOT

SEED = 0
PER_CLASS = {"train": 500, "t10k": 100}
MAX_BYTES = 3_000_000
OUT = ROOT / "hwnas" / "data" / "embedded" / "fashion-mnist-6k.npz"
SOURCE_SHA256 = {
    "train-images-idx3-ubyte": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "train-labels-idx1-ubyte": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    "t10k-images-idx3-ubyte": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    "t10k-labels-idx1-ubyte": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
}
"""Checksums of the gzipped files as Debian and Zalando distribute them."""


@click.command()
@click.option(
    "--source",
    type=PATH,
    default=DEBIAN_FASHION_MNIST,
    show_default=True,
    help="Folder of the four gzipped IDX files.",
)
@out_option(OUT, "File to write.")
def main(source: Path, out: Path) -> None:
    """Make the embedded data set of 5,000 + 1,000 images."""
    check_source(source)
    content = to_npz(subset_arrays(source))
    if len(content) > MAX_BYTES:
        raise SystemExit(f"{len(content)} bytes, expected at most {MAX_BYTES}")
    write_atomic(out, content)
    click.echo(f"{out}: {len(content)} bytes, sha256 {sha256(content).hexdigest()}")


def check_source(folder: Path) -> None:
    """Exit if a source file differs from the official file."""
    for name, expected in SOURCE_SHA256.items():
        digest = sha256((folder / f"{name}.gz").read_bytes()).hexdigest()
        if digest != expected:
            raise SystemExit(f"{folder / name}.gz: sha256 {digest}, expected {expected}")


def subset_arrays(folder: Path) -> dict[str, np.ndarray]:
    """Return the arrays of the file; ``index_*`` are positions in the official sets."""
    arrays: dict[str, np.ndarray] = {}
    for source, part in (("train", "train"), ("t10k", "test")):
        images = read_idx(folder / f"{source}-images-idx3-ubyte.gz", 3)
        labels = read_idx(folder / f"{source}-labels-idx1-ubyte.gz", 1)
        index = subset_index(source, labels)
        arrays[f"x_{part}"] = images[index]
        arrays[f"y_{part}"] = labels[index]
        arrays[f"index_{part}"] = index
    arrays["classes"] = np.array(FASHION_MNIST_CLASSES)
    sums = [f"{sha}  {name}.gz" for name, sha in SOURCE_SHA256.items()]
    arrays["source_sha256"] = np.array(sums)
    return arrays


def subset_index(source: str, labels: np.ndarray) -> np.ndarray:
    """Return the positions of the images in the subset, int32 ``[N]``.

    A hash of seed, source and position puts each class in a fixed random order. The subset takes
    one image of each class at a time, shuffled, so that every prefix of whole tens is balanced.
    """
    key = {index: random_key(source, index) for index in range(len(labels))}
    classes = [
        sorted(np.flatnonzero(labels == label).tolist(), key=key.__getitem__)[: PER_CLASS[source]]
        for label in range(len(FASHION_MNIST_CLASSES))
    ]
    # New keys order the ten images: the keys of the first images of the classes are all small.
    tens = zip(*classes, strict=True)
    order = [
        index for ten in tens for index in sorted(ten, key=lambda i: random_key(f"{source} ten", i))
    ]
    return np.array(order, dtype=np.int32)


def random_key(source: str, index: int) -> bytes:
    return blake2b(f"{SEED} {source} {index}".encode(), digest_size=8).digest()


def to_npz(arrays: dict[str, np.ndarray]) -> bytes:
    """Return an ``.npz`` file without the time stamps that `numpy.savez_compressed` may write."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.external_attr = 0o644 << 16
            archive.writestr(info, member.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=9)
    return content.getvalue()


if __name__ == "__main__":
    main()
