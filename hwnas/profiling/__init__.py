"""From a device and a search space to a latency model: what to measure, and when to stop."""
