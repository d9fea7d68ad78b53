"""Fitting latency models: Gaussian processes over blocks and whole networks."""
