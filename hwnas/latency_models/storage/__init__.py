"""Storage of latency models and measurements, and finding models by name."""
