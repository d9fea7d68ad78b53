"""Opens a run from its specification: device, data, space, latency model, budget, plans."""
