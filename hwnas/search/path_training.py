"""Training a supernet's weights, one sampled path a step: shared by all strategies."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.errors import UsageError
from hwnas.nn.supernet import Supernet
from hwnas.search.strategy import SearchContext
from hwnas.spaces.grown.space import GrownSpace
from hwnas.spaces.space import SearchSpace
from hwnas.training.distributed import average_gradients
from hwnas.training.loader import Batch

State = dict[str, Tensor]


def check_paths(space: SearchSpace) -> None:
    """Raise `UsageError` for a space in which a path is not one block for each decision."""
    if isinstance(space, GrownSpace):
        raise UsageError(
            f"the layers of the space {space.name!r} depend on each other, and this strategy "
            "chooses each alone: strategy 'eas' searches it by growing networks"
        )
    decided = space.decided(space.architecture(space.random(Random(0))))
    if sorted(one for one in decided if one is not None) != list(range(len(space.decisions))):
        raise UsageError(
            f"the space {space.name!r} has decisions that several blocks share, and this strategy "
            "needs one block for each, as in the spaces 'mobile' and 'tree'"
        )


def path_supernet(context: SearchContext) -> Supernet:
    """Return the supernet of a space. Raises `UsageError` for one that has no paths."""
    check_paths(context.space)
    supernet = Supernet(context.space, context.share_weights)
    supernet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return supernet


Net = TypeVar("Net", bound=nn.Module)


class PathTraining(Generic[Net]):
    """SGD with Nesterov momentum on the weights of the path that a step runs, and only those."""

    def __init__(
        self,
        supernet: Net,
        momentum: float = 0.9,
        weight_decay: float = 4e-5,
        label_smoothing: float = 0.1,
    ) -> None:
        self.supernet = supernet
        self.label_smoothing = label_smoothing
        self.optimizer = torch.optim.SGD(
            supernet.parameters(), 0.0, momentum, weight_decay=weight_decay, nesterov=True
        )

    def step(
        self, batch: Batch, choices: Sequence[int], learning_rate: float
    ) -> tuple[Tensor, Tensor]:
        """Train the path of ``choices``; return the loss and the logits ``[N, classes]``.

        Of several ranks each trains on its part of the batch; all end with the same weights.
        """
        images, labels = batch
        self.supernet.train()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        logits = self.supernet(images, choices)
        loss = F.cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
        # set to None: neither momentum nor weight decay touches candidates outside the path
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        average_gradients(self.supernet.parameters())
        self.optimizer.step()
        return loss.detach(), logits.detach()

    def state_dict(self) -> State:
        return weights_state(self.supernet, self.optimizer)

    def load_state_dict(self, state: State) -> None:
        load_weights(self.supernet, self.optimizer, state)


def momenta(module: nn.Module, optimizer: torch.optim.SGD) -> State:
    """Return the momentum buffers by the names of the weights; missing where there is none yet."""
    return {
        name: buffer
        for name, parameter in module.named_parameters()
        if (buffer := optimizer.state.get(parameter, {}).get("momentum_buffer")) is not None
    }


def weights_state(supernet: nn.Module, optimizer: torch.optim.SGD) -> State:
    """Return weights, statistics and momenta, under ``supernet.`` and ``momentum.``."""
    state = {f"supernet.{name}": value for name, value in supernet.state_dict().items()}
    found = momenta(supernet, optimizer)
    return state | {f"momentum.{name}": value for name, value in found.items()}


def load_weights(supernet: nn.Module, optimizer: torch.optim.SGD, state: State) -> None:
    """Put back what `weights_state` returned."""
    supernet.load_state_dict(below("supernet.", state))
    optimizer.state.clear()
    kept = below("momentum.", state)
    for name, parameter in supernet.named_parameters():
        if name in kept:
            optimizer.state[parameter]["momentum_buffer"] = kept[name].clone()


def below(prefix: str, state: State) -> State:
    """Return the entries of ``state`` whose names start with ``prefix``, without it."""
    return {
        name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)
    }
