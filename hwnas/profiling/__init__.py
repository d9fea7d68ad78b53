"""Measures the latency model of a device for a search space: what to measure, and when to stop."""
