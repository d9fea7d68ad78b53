"""Time of each operator of a model file, measured here or on a device."""
