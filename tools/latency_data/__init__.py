"""Published latencies as networks that are sums of items, for `evaluate_latency.py`."""
