"""From a specification to an open run: device, data, space, latency model, budget, plans."""
