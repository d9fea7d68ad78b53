"""Freezes the weights during architecture steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


class Frozen:
    """Freezes a module for architecture steps.

    Its parts are listed once: walking through the thousand modules of a supernet takes as long as a
    third of an architecture step on a GPU.
    """

    def __init__(self, module: nn.Module) -> None:
        self._parameters = list(module.parameters())
        self._norms = [norm for norm in module.modules() if isinstance(norm, nn.BatchNorm2d)]

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Disable gradients of all weights and updates of batch norm statistics in the body."""
        trained = [parameter for parameter in self._parameters if parameter.requires_grad]
        for parameter in trained:
            parameter.requires_grad_(False)
        for norm in self._norms:
            norm.track_running_stats = False
        try:
            yield
        finally:
            for parameter in trained:
                parameter.requires_grad_(True)
            for norm in self._norms:
                norm.track_running_stats = True
