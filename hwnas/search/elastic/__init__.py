"""Cuts a trained network to a latency budget, by the effect of each cut on its predictions."""
