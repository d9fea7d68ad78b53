"""Latency models: from measurements of blocks and networks to a table of costs. Free of torch."""
