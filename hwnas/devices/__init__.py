"""Devices: their profiles, and the runners that measure model files on them."""

from hwnas.callable_package import make_callable

make_callable(__name__)  # `hwnas.devices(...)`
