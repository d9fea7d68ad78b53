"""The networks that can be cut from a trained network."""
