"""Other people's latency tables as observations; each dialect's module says what it reads."""

from hwnas.latency_models.importers.read import DIALECTS, Dialect, Imported, read_observations

__all__ = ["DIALECTS", "Dialect", "Imported", "read_observations"]
