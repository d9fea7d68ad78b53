"""From a device and a space to a latency model: what to measure, when to stop, the journal."""
