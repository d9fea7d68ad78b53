"""Learning rates by depth: general features near the image change less than the classifier.

Discriminative fine-tuning of Howard and Ruder, ACL 2018, arXiv:1801.06146, section 3.2.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from hwnas.nn.blocks.ends import ConvLogits, Logits
from hwnas.nn.network import Network
from hwnas.training.plan import TrainingPlan


def parameter_groups(network: nn.Module, plan: TrainingPlan) -> list[dict[str, Any]]:
    """Return the parameter groups of an optimizer; ``factor`` multiplies the plan's learning
    rate."""
    factors = rate_factors(network, plan)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in network.parameters():
        decay = plan.weight_decay if parameter.ndim > 1 or plan.decay_all else 0.0
        groups.setdefault((decay, factors.get(parameter, 1.0)), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "factor": factor}
        for (decay, factor), parameters in groups.items()
    ]


def rate_factors(network: nn.Module, plan: TrainingPlan) -> dict[nn.Parameter, float]:
    """Return the factor of each parameter's learning rate; the block before the classifier has 1.

    Parameters beside the network, such as an auxiliary head's, are left out.
    """
    if plan.layer_decay == plan.head_rate == 1:
        return {}
    blocks = next(module.blocks for module in network.modules() if isinstance(module, Network))
    factors = {
        parameter: plan.layer_decay ** max(0, height - 1)
        for height, block in enumerate(reversed(blocks))
        for parameter in block.parameters()
    }
    return factors | dict.fromkeys(classifier(network).parameters(), plan.head_rate)


def classifier(network: nn.Module) -> nn.Linear | nn.Conv2d:
    """Return the linear layer of the logits, or the convolution of their pixels."""
    ends = (module for module in network.modules() if isinstance(module, Logits | ConvLogits))
    return next(end.linear for end in ends)
