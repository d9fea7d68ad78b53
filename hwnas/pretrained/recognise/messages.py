"""What is wrong with a module that hwnas cannot rebuild, in one line."""

from __future__ import annotations

from torch import nn

from hwnas.errors import UsageError
from hwnas.pretrained.recognise.kinds import Layer

EXPECTED = (
    "convolutions, batch and layer norms, common activations, pools, sums, products and "
    "concatenations, and at the end a global pool and a linear layer"
)


def unrecognised(network: str, layer: Layer) -> UsageError:
    """Return the error that names the first module which no block can hold."""
    return UsageError(
        f"{network}: {layer.path} ({_description(layer)}) is no layer that hwnas rebuilds; "
        f"expected {EXPECTED}. `hwnas export` compiles such a network as it is"
    )


def _description(layer: Layer) -> str:
    match layer.kind:
        case "conv":
            assert isinstance(layer.module, nn.Conv2d)
            size = "x".join(map(str, layer.module.kernel_size))
            return f"{size} convolution of {layer.module.in_channels} channels"
        case "linear":
            assert isinstance(layer.module, nn.Linear)
            return f"linear layer of {layer.module.in_features} features"
        case "add":
            return "a sum"
        case "scale":
            return "a product with a parameter"
        case _:
            return type(layer.module).__name__ if layer.module is not None else "a function"
