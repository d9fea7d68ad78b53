"""Searches that see accuracy and latency only: random, evolution, NSGA-II, Bayesian."""
