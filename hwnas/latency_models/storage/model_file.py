"""Latency models as JSON files: blocks are written as their keys, and a hash guards the content."""

from __future__ import annotations

import hashlib
from importlib.resources.abc import Traversable
from pathlib import Path

import msgspec

from hwnas.architecture.architecture import Block
from hwnas.errors import InvalidFile, UsageError
from hwnas.files import decode, read_bytes, write_json
from hwnas.latency_models.fitting.block_prior import BlockPrior
from hwnas.latency_models.fitting.network_correction import Correction
from hwnas.latency_models.model import Conditions, HeldOut, LatencyModel, ModelKind
from hwnas.latency_models.observation import Observation, Scope

SCHEMA = 3


class ObservationRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An `Observation`, with the keys of its blocks."""

    scope: Scope
    keys: tuple[str, ...]
    ms: float
    standard_error: float = 0.0
    session: int = 0
    process: int = 0


class ModelFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of a file: the fields of a `LatencyModel`, with the keys of its blocks."""

    schema: int
    device: str
    kind: ModelKind
    source: str
    made: str
    rows_ms: dict[str, float]
    overhead_ms: float
    observations: tuple[ObservationRow, ...]
    prior: BlockPrior
    correction: Correction | None = None
    sources: tuple[ModelFile, ...] = ()
    held_out: HeldOut | None = None
    conditions: Conditions | None = None
    sha256: str = ""
    """Hash of all other fields, so that a file that was edited by hand is refused."""


def read_model(path: Path | Traversable) -> LatencyModel:
    """Read a model from a file, shipped or not. Raises `InvalidFile`."""
    return decode_model(read_bytes(path), str(path))


def write_model(model: LatencyModel, path: Path) -> None:
    """Write a model to a file, atomically."""
    write_json(path, file_of(model))


def encode_model(model: LatencyModel) -> bytes:
    """Return a model as JSON."""
    return msgspec.json.encode(file_of(model))


def decode_model(content: bytes, file: str) -> LatencyModel:
    """Return the model that ``content`` describes.

    Raises an `InvalidFile` that names ``file`` for another schema, a wrong field or an edited
    number.
    """
    version = decode(content, _Version, file)
    if version.schema != SCHEMA:
        raise InvalidFile(
            file,
            f"has schema {version.schema}, this version reads schema {SCHEMA}; make the model "
            "again with `hwnas latency measure` or `hwnas latency fit`",
        )
    stored = decode(content, ModelFile, file)
    if stored.sha256 != _sha256(stored):
        raise InvalidFile(
            file,
            "its numbers do not match its sha256: it was edited or truncated; change the "
            "observations and fit again with `hwnas latency fit`",
        )
    try:
        return model_of(stored)
    except UsageError as error:
        raise InvalidFile(file, str(error)) from None


def file_of(model: LatencyModel) -> ModelFile:
    """Return the content of a file for ``model``."""
    stored = ModelFile(
        schema=SCHEMA,
        device=model.device,
        kind=model.kind,
        source=model.source,
        made=model.made,
        rows_ms={block.key: ms for block, ms in model.rows_ms.items()},
        overhead_ms=model.overhead_ms,
        observations=tuple(map(row_of, model.observations)),
        prior=model.prior,
        correction=model.correction,
        sources=tuple(map(file_of, model.sources)),
        held_out=model.held_out,
        conditions=model.conditions,
    )
    return msgspec.structs.replace(stored, sha256=_sha256(stored))


def row_of(seen: Observation) -> ObservationRow:
    """Return the row of a file for an observation."""
    keys = tuple(block.key for block in seen.blocks)
    return ObservationRow(
        seen.scope, keys, seen.ms, seen.standard_error, seen.session, seen.process
    )


def model_of(stored: ModelFile) -> LatencyModel:
    """Return the model of a file's content. Raises `UsageError` for a wrong block key."""
    return _model_of(stored, {})


class _Version(msgspec.Struct):
    schema: int


def _model_of(stored: ModelFile, blocks: dict[str, Block]) -> LatencyModel:
    """Return the model; ``blocks`` has the blocks of the keys that were read before."""

    def block(key: str) -> Block:
        if key not in blocks:
            blocks[key] = Block.from_key(key)
        return blocks[key]

    return LatencyModel(
        device=stored.device,
        kind=stored.kind,
        source=stored.source,
        made=stored.made,
        rows_ms={block(key): ms for key, ms in stored.rows_ms.items()},
        overhead_ms=stored.overhead_ms,
        observations=tuple(
            Observation(
                row.scope,
                tuple(map(block, row.keys)),
                row.ms,
                row.standard_error,
                row.session,
                row.process,
            )
            for row in stored.observations
        ),
        prior=stored.prior,
        correction=stored.correction,
        sources=tuple(_model_of(source, blocks) for source in stored.sources),
        held_out=stored.held_out,
        conditions=stored.conditions,
    )


def _sha256(stored: ModelFile) -> str:
    content = msgspec.structs.replace(stored, sha256="")
    return hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()
