"""Rows of the report: the chosen network's blocks and files, and what it was compared with."""

from __future__ import annotations

import os
from typing import Literal

import msgspec

from hwnas.architecture.architecture import Architecture
from hwnas.architecture.artifact import Artifact
from hwnas.latency_models.model import LatencyModel
from hwnas.measurement.measurement import Kind
from hwnas.report.architecture import BlockRow, CandidateShare, CellRow, EdgeRow
from hwnas.report.latency import OtherRuntime
from hwnas.report.schema import ArtifactRow, CandidateRow, FamilyRow
from hwnas.search.eas.model_pool import best_member, read_family
from hwnas.spaces.cells.genotype import Cell
from hwnas.spaces.cells.space import CellSpace
from hwnas.spaces.int8 import in_float
from hwnas.spaces.space import Decision, SearchSpace
from hwnas.specialize.context import Candidate, RunContext
from hwnas.specialize.steps.deliver import Delivered, Trained
from hwnas.specialize.steps.screening import Probabilities, Screened


def block_rows(
    space: SearchSpace, architecture: Architecture, model: LatencyModel, found: Probabilities | None
) -> list[BlockRow]:
    """Return a row for each block; where several come from one decision the first has the shares.

    ``found`` is what the search preferred, where it has preferences.
    """
    decided, cells = space.decided(architecture), _cell_of(space, architecture)
    rows: list[BlockRow] = []
    for place, block in enumerate(architecture.blocks):
        cost_ms, number = model.block_ms(block), decided[place]
        if number is None:
            rows.append(BlockRow.from_block(block, predicted_ms=cost_ms, cell=cells[place]))
            continue
        decision = space.decisions[number]
        shares = [] if found is None else _shares(decision, number, found)
        row = BlockRow.from_block(
            block,
            predicted_ms=cost_ms,
            decision=decision.name,
            chosen=decision.candidates[architecture.genotype.choices[number]],
            candidates=shares,
            cell=cells[place],
        )
        told = number in decided[:place]
        rows.append(msgspec.structs.replace(row, candidates=()) if told else row)
    return rows


def cell_rows(
    space: SearchSpace, architecture: Architecture, model: LatencyModel, found: Probabilities | None
) -> list[CellRow]:
    """Return the two kinds of cells of a network that stacks them, nothing for another one."""
    inner = in_float(space)
    if not isinstance(inner, CellSpace) or architecture.genotype.space != inner.name:
        return []
    cells = inner.cells(architecture.genotype)
    cost_ms = [0.0] * len(architecture.genotype.choices)
    for block, number in zip(architecture.blocks, inner.decided(architecture), strict=True):
        if number is not None:
            cost_ms[number] += model.block_ms(block)
    rows: list[CellRow] = []
    edges = iter(enumerate(architecture.genotype.choices))
    kinds: tuple[tuple[Literal["normal", "reduction"], Cell], ...] = (
        ("normal", cells.normal),
        ("reduction", cells.reduction),
    )
    for kind, cell in kinds:
        nodes: list[tuple[EdgeRow, ...]] = []
        for node in cell.nodes:
            numbered = [(edge, *next(edges)) for edge in node]
            nodes.append(
                tuple(
                    EdgeRow(
                        edge.op,
                        edge.source,
                        None if found is None else found.probs[number][choice],
                        cost_ms[number],
                    )
                    for edge, number, choice in numbered
                )
            )
        copies = sum(place.reduction == (kind == "reduction") for place in inner.places)
        rows.append(CellRow(kind, copies, tuple(nodes), cell.concat))
    return [row for row in rows if row.copies]


def _cell_of(space: SearchSpace, architecture: Architecture) -> tuple[int | None, ...]:
    inner = in_float(space)
    if isinstance(inner, CellSpace):
        return inner.cell_of(architecture)
    return (None,) * len(architecture.blocks)


def _shares(decision: Decision, number: int, found: Probabilities) -> list[CandidateShare]:
    rows = zip(decision.candidates, found.probs[number], found.cost_ms[number], strict=True)
    return [CandidateShare(*row) for row in rows]


def candidate_rows(
    run: RunContext, screened: Screened, delivered: Delivered
) -> tuple[CandidateRow, ...]:
    """Return the trained networks, then those that were only derived and measured."""
    rows = [_trained_row(one, run, delivered, screened.model) for one in delivered.trained]
    trained = {one.candidate.architecture.digest for one in delivered.trained}
    rows += [
        _found_row(one, run, screened.model)
        for one in screened.candidates
        if one.architecture.digest not in trained and one.origin == "search"
    ]
    return tuple(rows)


def _trained_row(
    one: Trained, run: RunContext, delivered: Delivered, model: LatencyModel
) -> CandidateRow:
    measurement, architecture = one.measurement, one.candidate.architecture
    return CandidateRow(
        name=one.candidate.name,
        origin=one.candidate.origin,
        digest=architecture.digest,
        params=architecture.params,
        macs=architecture.macs,
        predicted_ms=one.candidate.predicted_ms,
        predicted_std_ms=one.candidate.predicted_std_ms,
        measured_ms=None if measurement is None else measurement.median_ms,
        ci95_ms=None if measurement is None else measurement.ci95_ms,
        kind=_kind(model) if measurement is None else measurement.kind,
        validation_accuracy=one.result.validation_accuracy,
        keeps_budget=None if one.latency_ms is None else one.latency_ms <= run.budget_ms,
        chosen=one is delivered.chosen,
    )


def _found_row(one: Candidate, run: RunContext, model: LatencyModel) -> CandidateRow:
    architecture: Architecture = one.architecture
    known = one.predicted_ms if one.measured_ms is None else one.measured_ms
    answered: Kind = model.kind if model.kind in ("simulated", "emulated") else "measured"
    return CandidateRow(
        name=one.name,
        origin=one.origin,
        digest=architecture.digest,
        params=architecture.params,
        macs=architecture.macs,
        predicted_ms=one.predicted_ms,
        predicted_std_ms=one.predicted_std_ms,
        measured_ms=one.measured_ms,
        kind=_kind(model) if one.measured_ms is None else answered,
        keeps_budget=None if known is None else known <= run.budget_ms,
    )


def family_rows(run: RunContext, screened: Screened, delivered: Delivered) -> tuple[FamilyRow, ...]:
    """Return the networks of a search that grows them, with what was measured since.

    They are told apart by their choices: what is delivered may be of another precision.
    """
    measured = {one.architecture.genotype.choices: one.measured_ms for one in screened.candidates}
    measured |= {
        one.candidate.architecture.genotype.choices: one.measurement.median_ms
        for one in delivered.trained
        if one.measurement is not None
    }
    chosen = delivered.chosen.candidate.architecture.genotype.choices
    members = read_family(run.folder.path / "search" / "children")
    known = any(one.choices == chosen for one in members)
    trained_on = best_member(members, chosen).name if known else ""
    return tuple(
        FamilyRow(
            name=one.name,
            parent=one.parent,
            steps=one.steps,
            digest=one.digest,
            params=one.params,
            macs=one.macs,
            state=one.state,
            latency_ms=one.latency_ms,
            measured_ms=measured.get(one.choices),
            accuracy=one.accuracy,
            chosen=one.name == trained_on,
        )
        for one in members
    )


def _kind(model: LatencyModel) -> Kind:
    return "table" if model.kind == "table" else "predicted"


def artifact_row(run: RunContext, artifact: Artifact) -> ArtifactRow:
    parity = artifact.parity
    return ArtifactRow(
        path=os.path.relpath(artifact.path, run.folder.path),
        format=artifact.format,
        precision=artifact.precision,
        sha256=artifact.sha256,
        size_bytes=artifact.size_bytes,
        max_relative_error=None if parity is None else parity.max_relative_error,
        accuracy=None if parity is None else parity.accuracy_artifact,
    )


def other_row(run: RunContext, artifact: Artifact) -> OtherRuntime:
    """Return what is known of the network in a format that the target does not take."""
    measured = run.folder.measured(f"other-{artifact.runtime}").get(artifact.format)
    return OtherRuntime(
        runtime=artifact.runtime,
        format=artifact.format,
        precision=artifact.precision,
        kind="predicted" if measured is None else measured.kind,
        median_ms=None if measured is None else measured.median_ms,
        ci95_ms=None if measured is None else measured.ci95_ms,
        accuracy=None if artifact.parity is None else artifact.parity.accuracy_artifact,
    )
