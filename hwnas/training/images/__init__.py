"""Images of a training: where they are, how they are augmented, and batches of them."""
