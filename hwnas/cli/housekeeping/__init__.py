"""`hwnas runs`: the runs on this disk."""
