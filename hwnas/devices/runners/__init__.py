"""Runners: each measures model files on one kind of device."""
