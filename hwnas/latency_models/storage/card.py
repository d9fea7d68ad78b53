"""The card of a latency model, in Markdown: sources, conditions, held-out error, outliers."""

from __future__ import annotations

from collections.abc import Iterator

from hwnas.latency_models.fitting.design_matrix import common_bias_std, null_latency_ms
from hwnas.latency_models.model import Conditions, HeldOut, LatencyModel


def card(model: LatencyModel) -> str:
    """Return the card: where a model comes from and how accurate it is."""
    counts = [
        (sum(seen.scope == scope and bool(seen.blocks) for seen in model.observations), words)
        for scope, words in (
            ("isolated", "blocks alone"),
            ("in_network", "blocks inside networks"),
            ("network", "whole networks"),
        )
    ]
    summary = ", ".join(f"{count} {words}" for count, words in counts if count)
    lines = [
        f"# Latency model of {model.device}",
        "",
        f"- source: {model.source}",
        f"- made: {model.made}",
        f"- kind: {model.kind}",
        f"- observations: {summary}; rows: {len(model.rows_ms)} blocks",
        *(f"- adapted from: {source.device} ({source.source})" for source in model.sources),
        *_fit_lines(model),
        *_error_lines(model),
        *_outlier_lines(model),
        *_condition_lines(model.conditions),
    ]
    return "\n".join(lines) + "\n"


def error_words(held_out: HeldOut) -> str:
    """Return a held-out error in one line."""
    how = f"{held_out.folds}-fold" if held_out.folds else "never fitted"
    return (
        f"{held_out.networks} networks ({how}): within 5 % {held_out.within_5:.0%}, within 10 % "
        f"{held_out.within_10:.0%}, RMSPE {held_out.rmspe:.1%}, Spearman {held_out.spearman:.3f}, "
        f"inside the 90 % interval {held_out.covered_90:.0%}"
    )


def _fit_lines(model: LatencyModel) -> Iterator[str]:
    null_ms = null_latency_ms(model.observations)
    if null_ms is not None:
        call = f"{null_ms:.4f} ms"
        yield f"- a call that computes nothing: {call}, subtracted from every isolated block"
    alone = model.isolated_ms()
    if model.correction is not None and alone:
        inside = sum(model.rows_ms[block] for block in alone)
        ratio = inside / sum(alone.values())
        yield f"- inside networks blocks cost {ratio:.3f} times as much as in isolation"
    overhead = f"{model.overhead_ms:.4f} ms"
    yield f"- added to every network: {overhead} (fitted, without a physical meaning)"


def _error_lines(model: LatencyModel) -> Iterator[str]:
    if model.held_out is not None:
        yield f"- held-out error over {error_words(model.held_out)}"
    elif model.correction is None:
        bias = common_bias_std(model.observations)
        yield (
            "- held-out error: unknown, no whole network was measured; all rows together are "
            f"assumed to be off by {bias:.0%} (standard deviation)"
        )
    else:
        yield "- held-out error: unknown, too few whole networks were measured"


def _outlier_lines(model: LatencyModel) -> Iterator[str]:
    if model.prior.outliers:
        keys = _some(model.prior.outliers)
        yield f"- block timings that disagree with all others (their variance is widened): {keys}"
    correction = model.correction
    if correction is None:
        return
    if correction.outliers:
        yield (
            f"- {len(correction.outliers)} of {len(model.networks)} networks disagree with all "
            "others by more than four standard deviations (their variance is widened)"
        )
    if correction.inflation > 1:
        yield f"- variances are widened by {correction.inflation:.2f} (leave-one-out errors)"
    if correction.jitter > 0:
        yield f"- numerical stability: {correction.jitter:.0e} of its mean added to the diagonal"


def _some(keys: tuple[str, ...]) -> str:
    listed = "; ".join(keys[:3])
    return listed + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


def _condition_lines(conditions: Conditions | None) -> list[str]:
    if conditions is None:
        return []
    return [
        f"- device: {conditions.hardware} (fingerprint {conditions.fingerprint})",
        f"- runtime: {conditions.runtime} {conditions.runtime_version}, "
        f"{conditions.threads} thread(s)",
        f"- reference model: {conditions.reference_ms:.4f} ms, interquartile range "
        f"{conditions.reference_spread:.1%} of it, sha256 {conditions.reference_sha256[:12]}",
    ]
