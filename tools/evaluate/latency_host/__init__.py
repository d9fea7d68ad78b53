"""Predicted latency against measured latency on this machine."""
