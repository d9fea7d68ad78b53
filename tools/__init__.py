"""Programs for maintainers: evaluation, benchmarks, shipped data. `python -m tools` lists them."""
