"""Published block tables with blocks hidden, and published networks predicted from tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hwnas.latency_models.fitting.fit import fit_model
from hwnas.latency_models.importers import read_observations
from hwnas.latency_models.model import Predictions
from hwnas.latency_models.observation import Observation
from hwnas.latency_models.storage.registry import find_model
from hwnas.spaces.json_networks import DescribedNetwork, read_once_for_all
from tools.evaluate.latency_published.forests import BlockForests
from tools.lib.latency.bench import Floats
from tools.lib.latency.learn import has_sklearn
from tools.lib.latency.score import Cache, figures, scores, without_interval
from tools.lib.results import table

HIDDEN_SHARES = (0.2, 0.5, 0.8)
RESOLUTIONS = (160, 192, 224)
"""Known resolutions of the Note10's table; all others are predicted."""
MODEL, FORESTS = "model", "random forests of blocks"
METHODS = (MODEL, FORESTS)
FIGURES = ("±5 %", "±10 %", "RMSPE", "Spearman", "cover 90")


def hidden_blocks_section(data: Path, cache: Cache, seeds: int) -> tuple[str, str]:
    """Hide blocks of a table at random and predict them from the rest.

    Only searchable blocks are hidden: nothing else in the table is similar to the stem, the last
    convolution and the classifier.
    """
    pixel1 = read_observations(data / "proxylessnas" / "pixel1_mobile_trim.yaml").observations
    path = data / "ofa" / "lut_note10_17res.json"
    tables = {"pixel1": pixel1, **{f"note10 @{n}": _note10(path, n) for n in (192, 224)}}
    shown: list[list[str]] = []
    for share in HIDDEN_SHARES:
        for name, rows in tables.items():
            for method in METHODS:
                splits = {seed: _split(rows, share, seed) for seed in range(seeds)}
                scores_by_seed = [
                    _cached(cache, f"hidden/mbconv/{name}/{share}/{seed}", split, method)
                    for seed, split in splits.items()
                ]
                mean = np.mean(scores_by_seed, axis=0).tolist()
                count = len(_searchable(rows))
                shown.append([f"{share:.0%}", name, str(count), str(seeds), method, *_cells(mean)])
    titles = ["hidden", "table", "blocks", "seeds", "method", *FIGURES]
    return "Blocks hidden at random", table(titles, shown)


def resolutions_section(data: Path, cache: Cache) -> tuple[str, str]:
    """Predict whole tables at resolutions between or beyond the known ones."""
    path = data / "ofa" / "lut_note10_17res.json"
    every = {size: _note10(path, size) for size in range(160, 225, 4)}
    rows: list[list[str]] = []
    for known in ((224,), (160, 224), RESOLUTIONS):
        fresh = [size for size in every if size not in known]
        observations = _unique([observation for size in known for observation in every[size]])
        known_blocks = {observation.blocks for observation in observations}
        hidden_blocks = _unique(
            [
                observation
                for n in fresh
                for observation in every[n]
                if observation.blocks not in known_blocks
            ]
        )
        known_px = ", ".join(map(str, known))
        for method in METHODS:
            row = _cached(cache, f"resolutions/{known}", (observations, hidden_blocks), method)
            counts = [str(len(fresh)), str(len(hidden_blocks))]
            rows.append([known_px, *counts, method, *_cells(row)])
    titles = ["known, px", "resolutions predicted", "blocks predicted", "method", *FIGURES]
    return "Note10: resolutions that are not in the table", table(titles, rows)


def networks_sections(data: Path) -> list[tuple[str, str]]:
    """Predict published networks: Note10's by its table, each of Pixel 1's from the other six."""
    every = read_once_for_all(data / "ofa" / "ofa_specialized.json")
    note10, pixel1 = find_model("note10/table")[1], find_model("pixel1/adapted")[1]
    mine = _published(every, "note10")
    direct = note10.predict([network.architecture.blocks for network in mine])
    forests = BlockForests.fitted(note10.observations) if has_sklearn() else None
    theirs = _published(every, "pixel1")
    own = {observation.blocks: observation for observation in pixel1.networks}
    scaled = note10.predict([network.architecture.blocks for network in theirs]).mean_ms
    measured = np.array([network.published_ms for network in theirs], dtype=float)
    factors = [float(np.median(np.delete(measured / scaled, n))) for n in range(len(theirs))]
    adapted: list[Predictions] = []
    for network in theirs:
        own_observation = own[network.architecture.compute_blocks]
        rest = [other for other in pixel1.observations if other is not own_observation]
        model = fit_model(
            "pixel1", rest, kind="adapted", source="", sources=pixel1.sources, validate=False
        )
        adapted.append(model.predict([network.architecture.blocks]))
    rows = [
        [
            network.name,
            f"{measured[n]:g}",
            f"{scaled[n] * factors[n]:.1f} ({scaled[n] * factors[n] / measured[n] - 1:+.1%})",
            _prediction_cell(adapted[n], 0, measured[n]),
        ]
        for n, network in enumerate(theirs)
    ]
    titles = ["network", "published, ms", "Note10's table x scale of the others"]
    titles += ["adapted model without it"]
    first = [
        [
            network.name,
            f"{network.published_ms:g}",
            _prediction_cell(direct, n, float(network.published_ms or 0)),
            _forests_cell(forests, network),
        ]
        for n, network in enumerate(mine)
    ]
    direct_titles = [*titles[:2], MODEL, FORESTS]
    return [
        ("Note10's published networks, from its table alone", table(direct_titles, first)),
        ("Pixel 1's published networks, each from the other six", table(titles, rows)),
    ]


def _note10(path: Path, size: int) -> Sequence[Observation]:
    return read_observations(path, resolution=size).observations


def _unique(observations: Sequence[Observation]) -> list[Observation]:
    """Return one observation per block: some blocks have the same shape at two resolutions."""
    unique = {observation.blocks: observation for observation in reversed(observations)}
    return list(unique.values())[::-1]


def _searchable(observations: Sequence[Observation]) -> list[int]:
    return [n for n, observation in enumerate(observations) if observation.blocks[0].op == "mbconv"]


def _split(
    observations: Sequence[Observation], share: float, seed: int
) -> tuple[list[Observation], list[Observation]]:
    order = np.random.default_rng(seed).permutation(_searchable(observations)).tolist()
    out = set(order[: round(share * len(order))])
    rest = [observation for number, observation in enumerate(observations) if number not in out]
    return rest, [observations[number] for number in sorted(out)]


def _cached(
    cache: Cache,
    key: str,
    split: tuple[Sequence[Observation], Sequence[Observation]],
    method: str,
) -> list[float]:
    """Return the figures of hidden blocks that are predicted from known ones; NaN where the method
    needs a library that is missing."""
    key = key if method == MODEL else f"{key}/{method}"
    if key in cache.rows:
        return cache.rows[key]
    known, hidden_blocks = split
    blocks = [observation.blocks[0] for observation in hidden_blocks]
    measured: Floats = np.array([observation.ms for observation in hidden_blocks])
    if method == MODEL:
        model = fit_model("here", known, kind="measured", source="", validate=False)
        posterior = model.posterior_over(blocks)
        std = np.sqrt(np.diag(posterior.covariance)[:-1])
        return cache.add(key, scores(Predictions(posterior.ms, std), measured))
    if not has_sklearn():
        return [np.nan] * len(FIGURES)
    predicted_ms = BlockForests.fitted(known).blocks_ms(blocks)
    return cache.add(key, without_interval(predicted_ms, measured))


def _published(every: Sequence[DescribedNetwork], device: str) -> list[DescribedNetwork]:
    return [
        network
        for network in every
        if network.device == device and network.published_ms is not None
    ]


def _prediction_cell(predictions: Predictions, number: int, measured_ms: float) -> str:
    mean, std = predictions.mean_ms[number], predictions.std_ms[number]
    return f"{mean:.1f} ± {std:.1f} ({mean / measured_ms - 1:+.1%})"


def _forests_cell(forests: BlockForests | None, network: DescribedNetwork) -> str:
    if forests is None:
        return "-"
    mean_ms, measured_ms = (
        forests.network_ms(network.architecture.compute_blocks),
        float(network.published_ms or 0),
    )
    return f"{mean_ms:.1f} ({mean_ms / measured_ms - 1:+.1%})"


def _cells(values: Sequence[float]) -> list[str]:
    return figures(values)[: len(FIGURES)]
