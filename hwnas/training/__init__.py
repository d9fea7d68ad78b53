"""Training a network: batches, the loop, checkpoints, several processes."""
