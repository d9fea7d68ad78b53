"""Delivery of a model: a bundle of files, and its test on the device."""
