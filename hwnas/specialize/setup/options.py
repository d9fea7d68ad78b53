"""The options of a run's strategy, from its configuration."""

from __future__ import annotations

import msgspec

from hwnas.search.registry import load_strategy, parse_options
from hwnas.specialize.run_folder import Config


def strategy_options(config: Config) -> msgspec.Struct:
    """Return the options of a run's strategy."""
    fields = load_strategy(config.strategy).Options.__struct_fields__
    values = {name: str(getattr(config, name)) for name in fields if hasattr(config, name)}
    return parse_options(config.strategy, values)
