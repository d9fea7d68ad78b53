"""Finds the network that a file of weights belongs to, by its keys and shapes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hwnas.errors import InvalidFile
from hwnas.pretrained.load import load_weights
from hwnas.pretrained.network import PretrainedNetwork
from hwnas.pretrained.sources import Source, sources
from hwnas.pretrained.weights import WrongKeys, read_weights


def load_file(path: Path) -> PretrainedNetwork:
    """Load weights of a network that hwnas knows, e.g. a MobileNetV2 fine-tuned on own photos.

    The network is the one whose keys and shapes the file has; the classifier may have another
    number of classes. Images are expected as for the published weights. Raises `InvalidFile` that
    names the nearest network and the first key that differs.
    """
    weights = read_weights(path)
    errors: dict[str, WrongKeys] = {}
    for source in _distinct():
        try:
            return load_weights(source, path, weights)
        except WrongKeys as error:
            errors[source.name] = error
    nearest = max(errors, key=lambda name: errors[name].fitting)
    if errors[nearest].fitting > len(weights) / 2:
        raise InvalidFile(str(path), f"is nearest to {nearest}, but {errors[nearest].why}")
    raise InvalidFile(
        str(path),
        "has the keys of no network in `hwnas networks list`; give the network that it belongs to "
        "as module:factory",
    )


def _distinct() -> Iterator[Source]:
    """Yield each network once: other weights of the same network have the same keys."""
    factories: set[str] = set()
    for source in sources():
        if source.factory not in factories:
            yield source
        factories |= {source.factory} - {""}
