"""A trained network, cut to a latency budget by what each cut changes in its answers."""
