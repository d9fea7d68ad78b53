"""Networks that are cut from a trained network."""
