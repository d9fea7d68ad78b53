"""Rows of the report: blocks and files of the delivered network, and the other candidates."""

from __future__ import annotations

import os
from typing import Any, Literal

import msgspec

from hwnas.architecture.architecture import Architecture
from hwnas.architecture.artifact import Artifact
from hwnas.latency_models.model import LatencyModel
from hwnas.measurement.measurement import Kind
from hwnas.report.architecture import BlockRow, CandidateShare, CellRow, EdgeRow
from hwnas.report.candidate_rows import (
    CandidateRow,
    FamilyRow,
)
from hwnas.report.latency import OtherRuntime
from hwnas.report.schema import ArtifactRow
from hwnas.search.eas.model_pool import best_member, read_family
from hwnas.search.elastic.state import TunedFiles, TunedNetwork
from hwnas.search.plan import SearchFiles
from hwnas.spaces.cells.genotype import Cell
from hwnas.spaces.cells.space import CellSpace
from hwnas.spaces.elastic.space import ElasticSpace
from hwnas.spaces.int8 import in_float
from hwnas.spaces.space import Decision, SearchSpace
from hwnas.specialize.context import Candidate, RunContext
from hwnas.specialize.steps.deliver import DeliveryResult, TrainedCandidate
from hwnas.specialize.steps.screening import Probabilities, ScreeningResult


def block_rows(
    space: SearchSpace,
    architecture: Architecture,
    model: LatencyModel,
    probabilities: Probabilities | None,
) -> list[BlockRow]:
    """Return a row for each block; of several blocks from one decision the first has the shares."""
    decided, cells = space.block_decisions(architecture), _cell_of(space, architecture)
    rows: list[BlockRow] = []
    for place, block in enumerate(architecture.blocks):
        cost_ms, number = model.block_ms(block), decided[place]
        if number is None:
            rows.append(BlockRow.from_block(block, predicted_ms=cost_ms, cell=cells[place]))
            continue
        decision = space.decisions[number]
        shares = [] if probabilities is None else _shares(decision, number, probabilities)
        row = BlockRow.from_block(
            block,
            predicted_ms=cost_ms,
            decision=decision.name,
            chosen=decision.candidates[architecture.genotype.choices[number]],
            candidates=shares,
            cell=cells[place],
        )
        repeated = number in decided[:place]
        rows.append(msgspec.structs.replace(row, candidates=()) if repeated else row)
    return rows


def cell_rows(
    space: SearchSpace,
    architecture: Architecture,
    model: LatencyModel,
    probabilities: Probabilities | None,
) -> list[CellRow]:
    """Return the two kinds of cells of a network that stacks cells, nothing for any other."""
    inner = in_float(space)
    if not isinstance(inner, CellSpace) or architecture.genotype.space != inner.name:
        return []
    cells = inner.cells(architecture.genotype)
    cost_ms = [0.0] * len(architecture.genotype.choices)
    for block, number in zip(architecture.blocks, inner.block_decisions(architecture), strict=True):
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
                        None if probabilities is None else probabilities.probs[number][choice],
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


def _shares(decision: Decision, number: int, search: Probabilities) -> list[CandidateShare]:
    rows = zip(decision.candidates, search.probs[number], search.cost_ms[number], strict=True)
    return [CandidateShare(*row) for row in rows]


def candidate_rows(
    run: RunContext, screened: ScreeningResult, delivered: DeliveryResult
) -> tuple[CandidateRow, ...]:
    """Return the trained networks, then those that were only screened.

    Of the latter, those that may be delivered are listed, the whole tuned network, and baselines
    without a latency because other programs disturbed it.
    """
    rows = [_trained_row(each, run, delivered, screened.model) for each in delivered.trained]
    trained = {each.digest for each in delivered.trained}
    original = _original(run)
    whole = "" if original is None else original.architecture.digest
    for candidate in screened.candidates:
        digest = candidate.architecture.digest
        listed = candidate.may_be_delivered or _is_disturbed(run, candidate.measured_ms)
        if digest in trained or not (listed or digest == whole):
            continue
        row = _screened_row(candidate, run, screened.model)
        if original is not None and digest == whole:
            row = msgspec.structs.replace(row, validation_accuracy=original.accuracy)
        rows.append(row)
    return tuple(rows)


def _is_disturbed(run: RunContext, measured_ms: float | None) -> bool:
    """Return whether a network has no latency because other programs disturbed it."""
    return run.target.runner is not None and measured_ms is None


def _original(run: RunContext) -> TunedNetwork | None:
    """Return the tuned network from which the others are cut, if there is one."""
    if run.weights is None:
        return None
    return TunedFiles.of(SearchFiles.of_run(run.folder.path)).read()


def _trained_row(
    trained: TrainedCandidate, run: RunContext, delivered: DeliveryResult, model: LatencyModel
) -> CandidateRow:
    candidate, measurement = trained.candidate, trained.measurement
    parity = trained.artifact.parity
    is_disturbed = _is_disturbed(run, None if measurement is None else measurement.median_ms)
    keeps_budget = None
    if trained.latency_ms is not None and not is_disturbed:
        keeps_budget = trained.latency_ms <= run.budget_ms
    return CandidateRow(
        name=candidate.name,
        origin=candidate.origin,
        digest=trained.digest,
        params=candidate.architecture.params,
        macs=candidate.architecture.macs,
        predicted_ms=candidate.predicted_ms,
        predicted_std_ms=candidate.predicted_std_ms,
        measured_ms=None if measurement is None else measurement.median_ms,
        ci95_ms=None if measurement is None else measurement.ci95_ms,
        kind=_kind(model) if measurement is None else measurement.kind,
        validation_accuracy=trained.result.validation_accuracy,
        label_probability=trained.result.label_probability,
        test_accuracy=None if parity is None else parity.accuracy_artifact,
        keeps_budget=keeps_budget,
        disturbed=is_disturbed,
        chosen=trained is delivered.chosen,
        **_cut(run, candidate),
    )


def _screened_row(candidate: Candidate, run: RunContext, model: LatencyModel) -> CandidateRow:
    is_disturbed = _is_disturbed(run, candidate.measured_ms)
    unknown = candidate.measured_ms is None and candidate.predicted_ms is None
    return CandidateRow(
        name=candidate.name,
        origin=candidate.origin,
        digest=candidate.architecture.digest,
        params=candidate.architecture.params,
        macs=candidate.architecture.macs,
        predicted_ms=candidate.predicted_ms,
        predicted_std_ms=candidate.predicted_std_ms,
        measured_ms=candidate.measured_ms,
        kind=_kind(model) if candidate.measured_ms is None else candidate.measured_kind,
        keeps_budget=None if unknown or is_disturbed else candidate.latency_ms <= run.budget_ms,
        disturbed=is_disturbed,
        **_cut(run, candidate),
    )


def _cut(run: RunContext, candidate: Candidate) -> dict[str, Any]:
    """Return the fields of a member of a trained network; none for any other candidate."""
    space, genotype = in_float(run.space), candidate.architecture.genotype
    if not isinstance(space, ElasticSpace) or genotype.space != space.name:
        return {}
    return {
        "size_px": candidate.architecture.input_shape[1],
        "cuts": space.cut_names(genotype),
        "divergence": candidate.divergence,
        "untrained_accuracy": candidate.supernet_accuracy,
    }


def family_rows(
    run: RunContext, screened: ScreeningResult, delivered: DeliveryResult
) -> tuple[FamilyRow, ...]:
    """Return the networks of a search that grows them, with the latencies measured since.

    They are matched by their choices: the delivered network may be of another precision.
    """
    measured_ms = {c.architecture.genotype.choices: c.measured_ms for c in screened.candidates}
    measured_ms |= {
        each.candidate.architecture.genotype.choices: each.measurement.median_ms
        for each in delivered.trained
        if each.measurement is not None
    }
    chosen = delivered.chosen.candidate.architecture.genotype.choices
    members = read_family(run.folder.path / "search" / "children")
    is_member = any(member.choices == chosen for member in members)
    delivered_name = best_member(members, chosen).name if is_member else ""
    return tuple(
        FamilyRow(
            name=member.name,
            parent=member.parent,
            steps=member.steps,
            digest=member.digest,
            params=member.params,
            macs=member.macs,
            state=member.state,
            latency_ms=member.latency_ms,
            measured_ms=measured_ms.get(member.choices),
            accuracy=member.accuracy,
            chosen=member.name == delivered_name,
        )
        for member in members
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
    """Return the network's latency and accuracy in another format than the target's."""
    measurement = run.folder.measured(f"other-{artifact.runtime}").get(artifact.format)
    return OtherRuntime(
        runtime=artifact.runtime,
        format=artifact.format,
        precision=artifact.precision,
        kind="predicted" if measurement is None else measurement.kind,
        median_ms=None if measurement is None else measurement.median_ms,
        ci95_ms=None if measurement is None else measurement.ci95_ms,
        accuracy=None if artifact.parity is None else artifact.parity.accuracy_artifact,
    )
