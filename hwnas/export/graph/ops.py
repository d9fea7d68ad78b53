"""The operations that can be compiled, by the PyTorch modules and functions that compute them."""

from __future__ import annotations

import operator
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from hwnas.nn.cells.ops import StridedPointwise
from hwnas.nn.depthwise import DepthwiseConv2d
from hwnas.nn.padding import SameConv2d, SameDepthwiseConv2d, SameMaxPool2d

OPS: dict[object, str] = {
    **dict.fromkeys((nn.Conv2d, DepthwiseConv2d, StridedPointwise), "conv2d"),
    **dict.fromkeys((SameConv2d, SameDepthwiseConv2d), "conv2d"),
    nn.ConvTranspose2d: "conv_transpose2d",
    **dict.fromkeys((nn.BatchNorm2d, nn.BatchNorm1d, nn.SyncBatchNorm), "batchnorm"),
    **dict.fromkeys((nn.LayerNorm, F.layer_norm), "layer_norm"),
    nn.Linear: "linear",
    **dict.fromkeys((nn.ReLU, F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_"), "relu"),
    **dict.fromkeys((nn.ReLU6, F.relu6), "relu6"),
    **dict.fromkeys((nn.Hardswish, F.hardswish), "hardswish"),
    **dict.fromkeys((nn.Hardsigmoid, F.hardsigmoid), "hardsigmoid"),
    **dict.fromkeys((nn.Sigmoid, F.sigmoid, torch.sigmoid, "sigmoid", "sigmoid_"), "sigmoid"),
    **dict.fromkeys((nn.Tanh, F.tanh, torch.tanh, "tanh", "tanh_"), "tanh"),
    **dict.fromkeys((nn.SiLU, F.silu), "silu"),
    **dict.fromkeys((nn.Mish, F.mish), "mish"),
    **dict.fromkeys((nn.Softplus, F.softplus), "softplus"),
    **dict.fromkeys((nn.GELU, F.gelu), "gelu"),
    **dict.fromkeys((nn.ELU, F.elu), "elu"),
    **dict.fromkeys((nn.LeakyReLU, F.leaky_relu), "leaky_relu"),
    nn.PReLU: "prelu",
    **dict.fromkeys(
        (nn.Hardtanh, F.hardtanh, torch.clamp, torch.clip, "clamp", "clamp_", "clip"), "clamp"
    ),
    **dict.fromkeys((nn.Softmax, F.softmax, torch.softmax, "softmax"), "softmax"),
    **dict.fromkeys(
        (nn.LogSoftmax, F.log_softmax, torch.log_softmax, "log_softmax"), "log_softmax"
    ),
    **dict.fromkeys((torch.exp, "exp"), "exp"),
    **dict.fromkeys((torch.sqrt, "sqrt"), "sqrt"),
    **dict.fromkeys((torch.abs, operator.abs, "abs"), "abs"),
    **dict.fromkeys((torch.neg, operator.neg, "neg"), "neg"),
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add", "add_"), "add"),
    **dict.fromkeys((operator.sub, operator.isub, torch.sub, "sub", "sub_"), "sub"),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul, "mul", "mul_"), "mul"),
    **dict.fromkeys(
        (operator.truediv, operator.itruediv, torch.div, torch.true_divide, "div", "div_"), "div"
    ),
    **dict.fromkeys((torch.minimum, "minimum"), "minimum"),
    **dict.fromkeys((torch.maximum, "maximum"), "maximum"),
    **dict.fromkeys((nn.AdaptiveAvgPool2d, F.adaptive_avg_pool2d), "adaptive_avg_pool2d"),
    **dict.fromkeys((torch.mean, "mean"), "mean"),
    **dict.fromkeys(
        (
            *(nn.Flatten, torch.flatten, torch.reshape, "flatten", "view", "reshape"),
            *(torch.squeeze, "squeeze", torch.unsqueeze, "unsqueeze"),
        ),
        "reshape",
    ),
    **dict.fromkeys((torch.permute, "permute"), "permute"),
    **dict.fromkeys((torch.transpose, "transpose"), "transpose"),
    **dict.fromkeys((nn.Dropout, nn.Dropout2d, F.dropout, F.dropout2d), "dropout"),
    **dict.fromkeys((nn.Identity, "contiguous", "clone", "detach"), "identity"),
    **dict.fromkeys((nn.MaxPool2d, SameMaxPool2d, F.max_pool2d, torch.max_pool2d), "max_pool2d"),
    **dict.fromkeys((nn.AvgPool2d, F.avg_pool2d), "avg_pool2d"),
    **dict.fromkeys((nn.ZeroPad2d, nn.ConstantPad2d, nn.ReflectionPad2d, F.pad), "pad"),
    **dict.fromkeys(
        (nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d, F.interpolate), "resize"
    ),
    operator.getitem: "getitem",
    **dict.fromkeys((torch.chunk, "chunk"), "chunk"),
    **dict.fromkeys((torch.split, "split"), "chunk"),
    **dict.fromkeys((torch.cat, torch.concat), "cat"),
    nn.ChannelShuffle: "channel_shuffle",
    "new_zeros": "zeros",
}
"""Operation of each module type, function and method name that can be compiled."""

NAMED_OPS = {"torchvision.ops.stochastic_depth.stochastic_depth": "dropout"}
"""Functions of packages that are not imported here, by their qualified names."""

ALIASES = {"reshape", "permute", "transpose", "getitem", "chunk", "identity", "dropout"}
"""Operations whose result may share the memory of their operand."""

ACTIVATIONS = {"relu", "relu6", "hardswish", "hardsigmoid", "sigmoid", "elu", "leaky_relu", "silu"}


def known_ops() -> list[str]:
    """Return the names of all operations that can be compiled."""
    return sorted(set(OPS.values()))


def find_op(node: fx.Node, part: nn.Module | None) -> str | None:
    """Return the operation of a traced node, or None if it cannot be compiled."""
    if part is not None:
        return OPS.get(module_type(part))
    if node.op not in ("call_function", "call_method"):
        return None
    target: Any = node.target
    full_name = f"{getattr(target, '__module__', '')}.{getattr(target, '__name__', '')}"
    return OPS.get(target) or NAMED_OPS.get(full_name)


def module_type(part: nn.Module) -> type[nn.Module]:
    """Return the type in `OPS` whose ``forward`` ``part`` inherits, else its own type."""
    return _known_base(type(part))


@lru_cache(maxsize=1024)
def _known_base(own: type[nn.Module]) -> type[nn.Module]:
    for base in own.__mro__:
        if base in OPS and all(
            getattr(own, name, None) is getattr(base, name, None)
            for name in ("forward", "_conv_forward")
        ):
            return base
    return own


class LeafTracer(fx.Tracer):
    """A tracer that treats the modules in `OPS`, and their subclasses, as leaves."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return super().is_leaf_module(m, module_qualified_name) or module_type(m) in OPS


def op_name(node: fx.Node, part: nn.Module | None) -> str:
    """Return the name that users know an operation by, e.g. ``torch.nn.GELU``."""
    if part is not None:
        kind = type(part)
        return f"torch.nn.{kind.__name__}" if hasattr(nn, kind.__name__) else kind.__qualname__
    if node.op == "call_method":
        return f"Tensor.{node.target}"
    if node.op == "get_attr":
        return f"the parameter {node.target!r} used directly"
    name = getattr(node.target, "__name__", str(node.target))
    return f"{getattr(node.target, '__module__', None) or 'torch'}.{name}".removeprefix("_")


def in_place(node: fx.Node, part: nn.Module | None) -> bool:
    """Return whether ``node`` overwrites its first operand."""
    op = find_op(node, part)
    if part is not None:
        return bool(getattr(part, "inplace", False)) and op != "dropout"
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    positional = op in ACTIVATIONS and any(argument is True for argument in node.args[1:])
    inplace = positional or bool(node.kwargs.get("inplace", False))
    return inplace or name.endswith("_") or node.target in IN_PLACE_OPERATORS


IN_PLACE_OPERATORS = (operator.iadd, operator.imul, operator.isub, operator.itruediv)
