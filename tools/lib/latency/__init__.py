"""Fits, scores and choices of networks that the latency evaluations share."""
