"""What is wrong with a module that is no block of hwnas, in one line."""

from __future__ import annotations

from torch import nn

from hwnas.architecture.architecture import ACTIVATIONS
from hwnas.errors import UsageError
from hwnas.pretrained.recognise.groups import Add, Conv, Gate, Group, Pool

EXPECTED = (
    "a convolution with activation, an inverted residual, a depthwise separable convolution, a "
    "block of ResNet, DenseNet, ShuffleNet V2 or ConvNeXt, or a global pool and a linear layer at "
    "the end"
)


def unrecognised(network: str, group: Group) -> UsageError:
    """Return the error that names the first module that begins no block."""
    return UsageError(
        f"{network}: {group.path} ({_description(group)}) begins no block that hwnas has; "
        f"expected {EXPECTED}. `hwnas export` compiles such a network as it is"
    )


def _description(group: Group) -> str:
    match group:
        case Conv():
            return _conv(group)
        case Gate():
            return "squeeze-excite"
        case Add():
            return "a sum"
        case Pool():
            return "global pool"
        case _ if group.layer.kind == "scale":
            return "a product with a parameter"
        case _:
            module = group.layer.module
            return type(module).__name__ if module is not None else "a function of torch"


def _conv(conv: Conv) -> str:
    module = conv.module
    if isinstance(module, nn.Linear):
        return "linear layer"
    size = "x".join(map(str, module.kernel_size))
    groups = f", {module.groups} groups" if module.groups > 1 else ""
    norm = ", no batch norm" if conv.norm is None else ", a bias" if module.bias is not None else ""
    activation = f", then {conv.activation}" if conv.activation else ", no activation"
    known = activation if conv.activation in ("", *ACTIVATIONS) else f"{activation}, unknown here"
    return f"{size} convolution{groups}{norm}{known}"
