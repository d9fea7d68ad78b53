"""The fields of ``report.json`` that other programs may rely on."""

from __future__ import annotations

CONTRACT = {
    "document": "schema command results stages_s environment",
    "result": "target runtime precision budget_ms verdict architecture latency accuracy artifacts "
    "rounds candidates",
    "architecture": "digest params macs",
    "latency": "kind median_ms ci95_ms p90_ms p99_ms cv predicted_ms predicted_std_ms",
    "accuracy": "test_images torch artifact",
    "artifact": "path format sha256 size_bytes max_relative_error",
}
"""Names of the fields of the document and of each part of a result."""
