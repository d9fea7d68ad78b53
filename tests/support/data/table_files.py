"""Latency tables as text, and the observations read from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hwnas.architecture.architecture import Block
from hwnas.latency_models.importers import Dialect, Imported, read_observations
from hwnas.latency_models.observation import Observation

V3: dict[str, dict[str, float]] = {
    "Conv-input:224x224x3-output:112x112x24": {"count": 100, "mean": 1.0, "std": 0.1},
    "expanded_conv-input:56x56x20-output:28x28x48-expand:64-kernel:3-stride:2-idskip:0-se:1-hs:0": {
        "count": 100,
        "mean": 2.0,
        "std": 0.2,
    },
    "expanded_conv-input:7x7x48-output:7x7x48-expand:144-kernel:7-stride:1-idskip:1-se:0-hs:1": {
        "count": 100,
        "mean": 3.0,
        "std": 0.3,
    },
    "Conv_1-input:7x7x192-output:7x7x1152": {"count": 100, "mean": 4.0, "std": 0.4},
    "AvgPool2D-input:7x7x1152-output:1x1x1152": {"count": 100, "mean": 0.25, "std": 0.3},
    "Conv_2-input:1x1x1152-output:1x1x1536": {"count": 100, "mean": 0.75, "std": 0.4},
    "Logits-input:1x1x1536-output:1000": {"count": 100, "mean": 0.5, "std": 0.1},
}
KERNELS = """\
model_path,HW,CIN,COUT,KERNEL_SIZE,STRIDES,feature_0,feature_1,latency
conv-bn-relu_prior_AAAAAA,14,96,160,1,1,1.5,0.1,37.53 +- 0.314
conv-bn-relu6_prior_AAAAAB,28,24,48,3,2,1.5,0.1,0.5
dwconv-bn-relu_prior_AAAAAC,28,24,24,3,1,1.5,0.1,0.2
"""


def read(
    folder: Path,
    name: str,
    text: str,
    dialect: Dialect | None = None,
    resolution: int | None = None,
) -> Imported:
    path = folder / name
    path.write_text(text)
    return read_observations(path, dialect, resolution)


def yaml_of(rows: dict[str, Any]) -> str:
    return "".join(
        f"{name}:\n" + "".join(f"  {field}: {value}\n" for field, value in fields.items())
        for name, fields in rows.items()
    )


def by_key(imported: Imported) -> dict[str, Observation]:
    """Return the observations of single blocks by the keys of their blocks."""
    assert all(len(observation.blocks) == 1 for observation in imported.observations)
    return {observation.blocks[0].key: observation for observation in imported.observations}


def blocks_of(*keys: str) -> tuple[Block, ...]:
    return tuple(map(Block.from_key, keys))
