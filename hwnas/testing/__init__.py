"""Conformance tests for devices, runners, spaces and strategies of your own.

This is a stable public interface. `simulated_device` and `write_model` need no hardware. Each
``check_...`` function checks an extension and raises `ContractBroken`, an `AssertionError`, with
the first requirement that the extension violates.
"""

from hwnas.testing.contract import ContractBroken
from hwnas.testing.device import simulated_device, write_model
from hwnas.testing.interface import check_interface
from hwnas.testing.runner import check_runner
from hwnas.testing.space import check_space
from hwnas.testing.strategy import check_strategy
from hwnas.testing.transport import check_transport

__all__ = [
    "ContractBroken",
    "check_interface",
    "check_runner",
    "check_space",
    "check_strategy",
    "check_transport",
    "simulated_device",
    "write_model",
]
