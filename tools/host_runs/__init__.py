"""`evaluate_host.py` in parts: runs of specialize, groups of equal latency, trainings."""
