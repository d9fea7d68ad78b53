"""The state of a finished elastic search: everything from which its members are made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Self

import msgspec
from torch import Tensor

from hwnas.architecture.architecture import Architecture
from hwnas.files import read_json
from hwnas.nn.elastic.slices import NO_SLICES, TrainedSlices, packed, unpacked
from hwnas.nn.elastic.statistics import BlockStatistics, InputStatistics
from hwnas.search.plan import SearchFiles
from hwnas.training.checkpoint import load_checkpoint, save_checkpoint, strip_prefix

NETWORK, STATISTICS, SLICES = "network", "statistics", "slices"
GATE_MEANS = ("squeeze_mean", "excite_mean")
"""Fields of `BlockStatistics` that only blocks with squeeze-excite have."""


class ElasticState(NamedTuple):
    """A tuned network, with the statistics and increments of its cuts."""

    weights: dict[str, Tensor]
    """State dict of the whole network."""
    accuracy: float
    """Accuracy of the whole network on the validation images."""
    statistics: dict[int, BlockStatistics]
    """Statistics by the index of the block."""
    increments: list[list[float]]
    """``[decision][candidate]``, see `hwnas.search.elastic.divergence.Divergence.increments`."""
    slices: TrainedSlices = NO_SLICES
    """The blocks that were trained to be cut, with matrices for their kernels before and after the
    tuning."""


class TunedNetwork(msgspec.Struct, frozen=True):
    """The whole network after its training on the data, beside its weights."""

    architecture: Architecture
    accuracy: float
    """Accuracy on the validation images."""


class TunedFiles(NamedTuple):
    """Files of the tuned network, the teacher of every member."""

    weights: Path
    description: Path
    """JSON of a `TunedNetwork`."""

    @classmethod
    def of(cls, files: SearchFiles) -> Self:
        return cls(files.log.with_name("tuned.safetensors"), files.log.with_name("tuned.json"))

    def read(self) -> TunedNetwork:
        return read_json(self.description, TunedNetwork)


def write_state(path: Path, state: ElasticState) -> None:
    tensors = {f"{NETWORK}/{name}": value for name, value in state.weights.items()}
    for place, block in state.statistics.items():
        tensors |= {f"{STATISTICS}/{place}/{name}": each for name, each in _tensors(block)}
    tensors |= {f"{SLICES}/{name}": each for name, each in packed(state.slices).items()}
    notes = {"increments": state.increments, "accuracy": state.accuracy}
    encoded = {name: msgspec.json.encode(value).decode() for name, value in notes.items()}
    save_checkpoint(path, tensors, encoded)


def read_state(path: Path) -> ElasticState:
    tensors, notes = load_checkpoint(path)
    weights: dict[str, Tensor] = {}
    blocks: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        group, rest = name.split("/", 1)
        if group == NETWORK:
            weights[rest] = value
        elif group == STATISTICS:
            place, part = rest.split("/", 1)
            blocks.setdefault(int(place), {})[part] = value
    statistics = {place: _statistics(parts) for place, parts in sorted(blocks.items())}
    increments = msgspec.json.decode(notes["increments"], type=list[list[float]])
    slices = unpacked(strip_prefix(f"{SLICES}/", tensors))
    return ElasticState(weights, float(notes["accuracy"]), statistics, increments, slices)


def _tensors(block: BlockStatistics) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a block's statistics by name, as `_statistics` takes them."""
    for layer, (mean, covariance) in block.inputs.items():
        yield f"mean/{layer}", mean
        yield f"covariance/{layer}", covariance
    for layer, gram in block.grams.items():
        yield f"gram/{layer}", gram
    for name in GATE_MEANS:
        if (value := getattr(block, name)) is not None:
            yield name, value


def _statistics(parts: Mapping[str, Tensor]) -> BlockStatistics:
    def of_layers(prefix: str) -> dict[str, Tensor]:
        names = [name for name in parts if name.startswith(prefix)]
        return {name.removeprefix(prefix): parts[name] for name in names}

    inputs = {
        layer: InputStatistics(mean, parts[f"covariance/{layer}"])
        for layer, mean in of_layers("mean/").items()
    }
    means = (parts.get(name) for name in GATE_MEANS)
    return BlockStatistics(inputs, of_layers("gram/"), *means)
