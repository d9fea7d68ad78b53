"""What a device takes, by its profile's ``[limits]``: size of a file, types of its numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from random import Random

from hwnas.architecture.architecture import Architecture, Block
from hwnas.architecture.artifact import Artifact
from hwnas.devices.profile import DeviceProfile
from hwnas.errors import UsageError
from hwnas.spaces.space import SearchSpace

DTYPES = {"fp32": "float32", "int8": "int8"}
"""The type of a file's numbers by its precision."""
TRIED = 8
"""Random networks by which it is seen whether all are a sum of what is chosen."""


def check_precision(precision: str, profile: DeviceProfile) -> None:
    """Raise `UsageError` for a precision whose numbers the device does not compute with."""
    allowed = profile.limits.dtypes
    if DTYPES.get(precision, precision) not in allowed:
        raise UsageError(f"--precision {precision}: {profile.name} runs {', '.join(allowed)}")


def check_size(file: str, size_bytes: int, profile: DeviceProfile) -> None:
    """Raise `UsageError` for a file that is larger than the device takes."""
    if (problem := too_large(size_bytes, profile)) is not None:
        raise UsageError(f"{file}: {problem}")


def check_space_size(space: SearchSpace, profile: DeviceProfile) -> None:
    """Raise `UsageError` for a space whose smallest network is too large by its weights alone."""
    least = smallest_bytes(space)
    if least is not None and (problem := too_large(least, profile)) is not None:
        raise UsageError(
            f"the smallest network of the space {space.name!r} is too large by its weights alone: "
            f"{problem}; a smaller space or --precision int8 may fit"
        )


def smallest_bytes(space: SearchSpace) -> int | None:
    """Return the weights of a space's smallest network; ``None`` where networks are no sum of what
    is chosen, so that it is not known without building all."""
    sites: dict[int, dict[int, list[Block]]] = {}
    for site in space.sites():
        row = sites.setdefault(site.decision, {})
        row.setdefault(site.candidate, []).extend([site.block] * site.multiplicity)
    rng = Random(0)
    for genotype in (space.usual, *(space.random(rng) for _ in range(TRIED))):
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
    """Whether a network's weights alone are within the device's limit."""
    return too_large(weight_bytes(architecture.blocks), profile) is None


def weight_bytes(blocks: Iterable[Block]) -> int:
    """Return the size of weights alone: a file is never smaller."""
    return sum(block.params * (1 if block.precision == "int8" else 4) for block in blocks)


def too_large(size_bytes: int, profile: DeviceProfile) -> str | None:
    """Return why a file of that size is none for the device, or ``None``."""
    limit = profile.limits.model_bytes
    if limit is None or size_bytes <= limit:
        return None
    return f"{size_bytes:,} bytes, {profile.name} takes {limit:,} at most"


def unfit(artifact: Artifact, profile: DeviceProfile) -> str | None:
    """Return why a compiled file is none for the device, or ``None``."""
    if artifact.float_layers and "float32" not in profile.limits.dtypes:
        return (
            f"{len(artifact.float_layers)} of its layers stayed in float32, {profile.name} runs "
            f"{', '.join(profile.limits.dtypes)}"
        )
    return too_large(artifact.size_bytes, profile)
