"""Devices: their profiles, and the runners that measure model files on them."""
