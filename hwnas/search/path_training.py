"""Training of the weights of a supernet, one sampled path per step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from random import Random
from typing import Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.errors import UsageError
from hwnas.nn.supernet import Slices, Supernet
from hwnas.search.freezing import Frozen
from hwnas.search.strategy import SearchContext
from hwnas.spaces.dependent import as_dependent
from hwnas.spaces.space import SearchSpace
from hwnas.training.checkpoint import like, strip_prefix
from hwnas.training.compute import CPU, Compute, full_precision, load_scaler, scaler_state
from hwnas.training.distributed import average_gradients, check_alike
from hwnas.training.images.loader import Batch

State = dict[str, Tensor]
PATHS = "the paths of a step are"
"""What must be alike on all ranks (`check_alike`)."""


def check_paths(space: SearchSpace) -> None:
    """Raise `UsageError` for a space whose decisions do not choose one block each."""
    if as_dependent(space) is not None:
        raise UsageError(
            f"the layers of the space {space.name!r} depend on each other, and this strategy "
            "chooses each independently; strategy 'eas' searches networks that grow, 'elastic' a "
            "trained network that is cut"
        )
    decided = space.block_decisions(space.architecture(space.random(Random(0))))
    numbers = sorted(number for number in decided if number is not None)
    if numbers != list(range(len(space.decisions))):
        raise UsageError(
            f"the space {space.name!r} has decisions that several blocks share; this strategy "
            "needs one block per decision, as in the spaces 'mobile' and 'tree'"
        )


def path_supernet(context: SearchContext) -> Supernet:
    """Return the supernet of a space. Raises `UsageError` for a space without paths."""
    check_paths(context.space)
    supernet = Supernet(context.space, context.share_weights)
    return context.compute.place(supernet)


class SlicedSGD(torch.optim.SGD):
    """SGD with momentum that moves only the used parts of weights.

    The gradient of a shared weight is zero outside the part that the path uses, but momentum and
    weight decay of the whole would still move the rest, by a third of its length in ten steps.
    """

    used: Mapping[Tensor, Slices] = {}
    """The parts used in the next step; weights without an entry move as a whole."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Move the weights that have gradients, and remove the gradients of the sliced ones."""
        group = self.param_groups[0]
        rate, momentum, decay = group["lr"], group["momentum"], group["weight_decay"]
        for weight, part in self.used.items():
            if weight.grad is None:
                continue
            state = self.state[weight]
            if state.get("momentum_buffer") is None:
                state["momentum_buffer"] = torch.zeros_like(weight)
            velocity = state["momentum_buffer"][part]
            gradient = weight.grad[part].add(weight[part], alpha=decay)
            velocity.mul_(momentum).add_(gradient)
            update = gradient.add_(velocity, alpha=momentum) if group["nesterov"] else velocity
            weight[part].sub_(update, alpha=rate)
            weight.grad = None
        super().step(closure)


Net = TypeVar("Net", bound=nn.Module)


class WeightTraining(Generic[Net]):
    """SGD with momentum on the weights that a step uses, and only those."""

    def __init__(
        self,
        supernet: Net,
        compute: Compute,
        momentum: float,
        weight_decay: float,
        label_smoothing: float = 0.0,
        nesterov: bool = False,
        clip_norm: float | None = None,
    ) -> None:
        """``supernet`` is on the device of ``compute`` already."""
        self.supernet, self.compute, self.frozen = supernet, compute, Frozen(supernet)
        self.parameters = list(supernet.parameters())
        self.scaler = compute.scaler()
        self.accumulate = 1
        """Parts of a batch that are computed one after another."""
        self.momentum, self.weight_decay = momentum, weight_decay
        self.label_smoothing, self.clip_norm = label_smoothing, clip_norm
        self.learning_rate = 0.0
        """Learning rate of the last step."""
        self.optimizer = SlicedSGD(
            self.parameters, 0.0, momentum, weight_decay=weight_decay, nesterov=nesterov
        )

    def step(
        self, batch: Batch, forward: Callable[[Tensor], Tensor], learning_rate: float
    ) -> tuple[Tensor, Tensor]:
        """Train the weights that ``forward`` uses; return the loss and the logits ``[N, classes]``.

        With several ranks, each trains on its part of the batch; all end with the same weights.
        """
        self.supernet.train()
        self.learning_rate = learning_rate
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        # set to None: neither momentum nor weight decay moves a weight without a gradient
        self.optimizer.zero_grad(set_to_none=True)
        results = [self._backward(part, forward, share) for part, share in self.parts(batch)]
        average_gradients(self.parameters)  # before unscaling: all ranks skip the same steps
        self.scaler.unscale_(self.optimizer)
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        losses, logits = zip(*results, strict=True)
        return torch.stack(losses).sum(), torch.cat(logits)

    def parts(self, batch: Batch) -> Iterator[tuple[Batch, float]]:
        """Yield the parts of a batch that are computed one after another, and their shares."""
        images, labels = (tensor.chunk(self.accumulate) for tensor in batch)
        for part in zip(images, labels, strict=True):
            yield part, len(part[1]) / len(batch[1])

    def _backward(
        self, part: Batch, forward: Callable[[Tensor], Tensor], share: float
    ) -> tuple[Tensor, Tensor]:
        """Add the gradient of a part that is this share of the batch; return its share of the loss,
        and its logits."""
        images, labels = part
        with self.compute.autocast():
            logits = forward(images)
        loss = F.cross_entropy(full_precision(logits), labels, label_smoothing=self.label_smoothing)
        loss = loss * share if share < 1 else loss
        self.scaler.scale(loss).backward()
        return loss.detach(), logits.detach()

    @property
    def momenta(self) -> State:
        """Momentum buffers by the names of their weights, where there are any yet."""
        return {
            name: buffer
            for name, parameter in self.supernet.named_parameters()
            if (buffer := self.optimizer.state.get(parameter, {}).get("momentum_buffer"))
            is not None
        }

    def state_dict(self) -> State:
        """Return weights, statistics and momenta, under ``supernet.`` and ``momentum.``."""
        state = {f"supernet.{name}": value for name, value in self.supernet.state_dict().items()}
        state["learning_rate"] = torch.tensor(self.learning_rate, dtype=torch.float64)
        state |= scaler_state(self.scaler)
        return state | {f"momentum.{name}": value for name, value in self.momenta.items()}

    def load_state_dict(self, state: State) -> None:
        self.supernet.load_state_dict(strip_prefix("supernet.", state))
        self.learning_rate = state["learning_rate"].item()
        self.optimizer.state.clear()
        buffers = strip_prefix("momentum.", state)
        for name, parameter in self.supernet.named_parameters():
            if name in buffers:
                self.optimizer.state[parameter]["momentum_buffer"] = like(parameter, buffers[name])
        load_scaler(self.scaler, state)


class PathTraining(WeightTraining[Net]):
    """Trains the path of a step, with Nesterov momentum."""

    def __init__(
        self,
        supernet: Net,
        compute: Compute = CPU,
        momentum: float = 0.9,
        weight_decay: float = 4e-5,
        label_smoothing: float = 0.1,
    ) -> None:
        super().__init__(supernet, compute, momentum, weight_decay, label_smoothing, nesterov=True)

    def path_step(
        self, batch: Batch, choices: Sequence[int], learning_rate: float
    ) -> tuple[Tensor, Tensor]:
        """Train the path of ``choices``; return the loss and the logits ``[N, classes]``.

        Raises `RanksDiffer` if the ranks have drawn different paths.
        """
        check_alike(list(choices), PATHS)
        if isinstance(self.supernet, Supernet):
            self.optimizer.used = self.supernet.slices(choices)
        return self.step(batch, lambda images: self.supernet(images, choices), learning_rate)


def save_adam(optimizer: torch.optim.Adam, parameter: Tensor, prefix: str) -> State:
    """Return the moments that Adam holds for a parameter, under ``prefix``."""
    moments = optimizer.state.get(parameter, {})
    return {f"{prefix}.{name}": value for name, value in moments.items()}


def load_adam(optimizer: torch.optim.Adam, parameter: Tensor, prefix: str, state: State) -> None:
    """Restore the moments that `save_adam` returned, or none."""
    optimizer.state.pop(parameter, None)
    if moments := strip_prefix(f"{prefix}.", state):
        # its moments have the parameter's shape, its count of steps is on the host
        optimizer.state[parameter] = {
            name: like(parameter, value) if value.ndim else value.clone()
            for name, value in moments.items()
        }
