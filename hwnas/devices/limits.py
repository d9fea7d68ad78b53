"""Checks against the ``[limits]`` of a device profile: file size and number types."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from random import Random

from hwnas.architecture.architecture import Architecture, Block
from hwnas.architecture.artifact import Artifact
from hwnas.devices.profile import DeviceProfile
from hwnas.errors import UsageError
from hwnas.spaces.space import SearchSpace

DTYPES = {
    "fp32": "float32",
    "fp16": "float32",
    "int8-weights": "float32",
    "int8-dynamic": "int8",
    "int8": "int8",
}
"""Number type of a file by its precision."""
SAMPLED_NETWORKS = 8
"""Random networks whose size must be the sum of their blocks' before the minimum is computed so."""


def check_precision(precision: str, profile: DeviceProfile) -> None:
    """Raise `UsageError` for a precision that the device does not support."""
    allowed = profile.limits.dtypes
    if DTYPES.get(precision, precision) not in allowed:
        raise UsageError(f"--precision {precision}: {profile.name} runs {', '.join(allowed)}")


def check_size(file: str, size_bytes: int, profile: DeviceProfile) -> None:
    """Raise `UsageError` for a file that is larger than the device allows."""
    if (problem := too_large(size_bytes, profile)) is not None:
        raise UsageError(f"{file}: {problem}")


def check_space_size(space: SearchSpace, profile: DeviceProfile) -> None:
    """Raise `UsageError` for a space whose smallest network has too many bytes of weights."""
    smallest = smallest_bytes(space)
    if smallest is not None and (problem := too_large(smallest, profile)) is not None:
        raise UsageError(
            f"the weights alone of the smallest network of the space {space.name!r} are too "
            f"large: {problem}; try a smaller space or --precision int8"
        )


def smallest_bytes(space: SearchSpace) -> int | None:
    """Return the bytes of weights of a space's smallest network.

    ``None`` if the size of a network is not the sum of the chosen blocks': then the minimum is
    known only after building all networks.
    """
    sites: dict[int, dict[int, list[Block]]] = {}
    for site in space.sites():
        row = sites.setdefault(site.decision, {})
        row.setdefault(site.candidate, []).extend([site.block] * site.multiplicity)
    rng = Random(0)
    for genotype in (space.default, *(space.random(rng) for _ in range(SAMPLED_NETWORKS))):
        chosen = [
            block
            for place, row in sites.items()
            if place < len(genotype.choices)
            for block in row.get(genotype.choices[place], ())
        ]
        if Counter((*space.fixed, *chosen)) != Counter(space.architecture(genotype).blocks):
            return None
    return weight_bytes(space.fixed) + sum(
        min(map(weight_bytes, row.values())) for row in sites.values()
    )


def weights_fit(architecture: Architecture, profile: DeviceProfile) -> bool:
    """Return whether the weights of a network alone are within the device's limit."""
    return too_large(weight_bytes(architecture.blocks), profile) is None


def weight_bytes(blocks: Iterable[Block]) -> int:
    """Return the size of the weights alone; a file is never smaller."""
    return sum(block.params * (1 if block.precision == "int8" else 4) for block in blocks)


def too_large(size_bytes: int, profile: DeviceProfile) -> str | None:
    """Return why the device rejects a file of that size, or ``None``."""
    limit = profile.limits.model_bytes
    if limit is None or size_bytes <= limit:
        return None
    return f"{size_bytes:,} bytes, {profile.name} takes {limit:,} at most"


def unfit(artifact: Artifact, profile: DeviceProfile) -> str | None:
    """Return why the device rejects a compiled file, or ``None``."""
    if artifact.float_layers and "float32" not in profile.limits.dtypes:
        return (
            f"{len(artifact.float_layers)} of its layers stayed in float32, {profile.name} runs "
            f"{', '.join(profile.limits.dtypes)}"
        )
    return too_large(artifact.size_bytes, profile)
