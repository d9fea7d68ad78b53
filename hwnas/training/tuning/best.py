"""The best epoch of a training by validation images, and when to stop after it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from hwnas.training.checkpoint import BestEpoch, strip_prefix
from hwnas.training.distributed import broadcast, rank, ranks
from hwnas.training.evaluation import accuracy
from hwnas.training.images.loader import Data

PREFIX = "best."


class Best:
    """Weights and statistics of the epoch with the best validation accuracy so far."""

    def __init__(self, valid: Data | None, patience: int) -> None:
        """Only rank 0 needs the images."""
        self.valid, self.patience = valid, patience
        self.epoch: BestEpoch | None = None
        self.state: dict[str, Tensor] = {}

    def judge(self, network: nn.Module, epochs: int) -> float:
        """Return the validation accuracy after a number of epochs; store the weights if it is the
        best."""
        value = accuracy(network, self.valid) if self.valid is not None and rank() == 0 else None
        value = broadcast(value) if ranks() > 1 else value
        if value is None:
            raise ValueError("a plan with patience needs validation images")
        if self.epoch is None or value > self.epoch.accuracy:
            self.epoch = BestEpoch(epochs, value)
            self.state = {name: t.detach().clone() for name, t in network.state_dict().items()}
        return value

    def stops(self, epochs: int) -> bool:
        """Return whether the accuracy has not risen in the last ``patience`` epochs of a number of
        epochs."""
        return self.epoch is not None and epochs - self.epoch.epoch >= self.patience

    def tensors(self) -> dict[str, Tensor]:
        """Return the stored weights for a checkpoint, by names that begin with ``best.``."""
        return {f"{PREFIX}{name}": value for name, value in self.state.items()}

    def load(self, state: dict[str, Tensor], epoch: BestEpoch | None) -> None:
        """Restore the tensors of `tensors` and the number of their epoch."""
        self.state, self.epoch = strip_prefix(PREFIX, state), epoch

    @torch.no_grad()
    def load_into(self, network: nn.Module) -> None:
        """Give ``network`` the best weights, if there are any."""
        if self.state:
            network.load_state_dict(self.state)
