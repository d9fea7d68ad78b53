"""Importers of published latency tables; the module of each dialect documents its format."""

from hwnas.latency_models.importers.read import DIALECTS, Dialect, Imported, read_observations

__all__ = ["DIALECTS", "Dialect", "Imported", "read_observations"]
