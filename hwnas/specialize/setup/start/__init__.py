"""The trained network that a run starts from."""
