"""Groups of layers as blocks: a grammar of mobile and residual networks.

Each rule takes groups whose inputs are those of the block, so that a network that is read to its
end computes what its blocks compute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

from torch import nn

from hwnas.architecture.architecture import ACTIVATIONS, Block
from hwnas.errors import UsageError
from hwnas.pretrained.recognise.groups import Add, Conv, Gate, Group, Other, Pool
from hwnas.pretrained.recognise.layers import IMAGE
from hwnas.pretrained.recognise.messages import unrecognised

Taken = TypeVar("Taken", Conv, Gate, Pool, Other)
ModulePairs = dict[str, str]
"""Names of the modules of a block and of the network that it is read from."""


class Match(NamedTuple):
    """A block that a rule has read."""

    block: Block
    modules: ModulePairs
    groups: int
    """How many groups the block took."""


class Place(NamedTuple):
    """Where the reader is: the groups that remain, and the feature map that they take."""

    groups: Sequence[Group]
    value: int
    """Index of the layer whose output is the feature map."""
    channels: int
    size: int


def read_blocks(
    groups: Sequence[Group], output: int, input_shape: tuple[int, int, int], network: str
) -> tuple[tuple[Block, ...], ModulePairs]:
    """Return the blocks of a whole network and the module pairs, with names in `Network`.

    ``output`` is the index of the network's last layer. Raises `UsageError` that names the first
    module that begins no block.
    """
    blocks: list[Block] = []
    modules: ModulePairs = {}
    place = Place(groups, IMAGE, *input_shape[:2])
    while place.groups:
        match = _match(place)
        if match is None:
            raise unrecognised(network, place.groups[0])
        prefix = f"blocks.{len(blocks)}"
        modules |= {f"{prefix}.{ours}": theirs for ours, theirs in match.modules.items()}
        blocks.append(match.block)
        value = place.groups[match.groups - 1].output
        place = Place(
            place.groups[match.groups :], value, match.block.out_channels, match.block.out_size
        )
    if place.value != output or not blocks or blocks[-1].op != "logits":
        raise UsageError(f"{network}: does not end in a global pool and a linear layer")
    return tuple(blocks), modules


def _match(place: Place) -> Match | None:
    matches = (rule(place) for rule in RULES)
    return next((match for match in matches if match is not None), None)


def _mbconv(place: Place) -> Match | None:
    """Read [1x1 with activation,] depthwise with activation, [squeeze-excite,] 1x1 without."""
    rest = _Rest(place)
    expand = rest.conv(lambda conv: conv.pointwise and conv.activation in ACTIVATIONS)
    depthwise = rest.conv(lambda conv: conv.depthwise and conv.activation in ACTIVATIONS)
    if depthwise is None or (expand is not None and expand.activation != depthwise.activation):
        return None
    gate = rest.gate()
    project = rest.conv(lambda conv: conv.pointwise and not conv.activation)
    if project is None or (expand is not None and expand.out_channels == place.channels):
        return None  # an expansion of ratio 1 is no layer of ours
    block = Block(
        "mbconv",
        place.channels,
        project.out_channels,
        depthwise.kernel_size,
        depthwise.stride,
        depthwise.out_channels / place.channels,
        place.size,
        depthwise.activation,
        squeeze_excite=gate is not None,
        padding=_padding(depthwise),
        gate="sigmoid" if gate is not None and gate.sigmoid else "hardsigmoid",
        squeezed=gate.squeeze.out_channels if gate is not None else 0,
    )
    layers = {"expand": expand, "depthwise": depthwise, "project": project}
    pairs = _conv_norms({f"layers.{name}": conv for name, conv in layers.items()})
    if gate is not None:
        if not _is_ours(gate, block):
            return None
        pairs |= {"layers.se.squeeze": gate.squeeze.path, "layers.se.excite": gate.excite.path}
    return rest.match(block, pairs)


def _fused_mbconv(place: Place) -> Match | None:
    """Read a convolution with activation and a 1x1 without, or the former with a shortcut."""
    rest = _Rest(place)
    dense = rest.conv(lambda conv: conv.dense and conv.activation in ACTIVATIONS)
    if dense is None:
        return None
    project = rest.conv(lambda conv: conv.pointwise and not conv.activation)
    if project is None and not rest.adds(place.value):
        return None
    if project is not None and dense.out_channels == place.channels:
        return None  # an expansion of ratio 1 has no projection in ours
    block = Block(
        "fused_mbconv",
        place.channels,
        (project or dense).out_channels,
        dense.kernel_size,
        dense.stride,
        dense.out_channels / place.channels if project is not None else 1,
        place.size,
        dense.activation,
        padding=_padding(dense),
    )
    pairs = _conv_norms({"layers.dense": dense, "layers.project": project})
    return rest.match(block, pairs)


def _conv(place: Place) -> Match | None:
    """Read a convolution with norm and activation."""
    rest = _Rest(place)
    conv = rest.conv(lambda conv: conv.dense and conv.activation in ACTIVATIONS)
    if conv is None:
        return None
    block = Block(
        "conv",
        place.channels,
        conv.out_channels,
        conv.kernel_size,
        conv.stride,
        1,
        place.size,
        conv.activation,
        padding=_padding(conv),
    )
    return rest.match(block, _conv_norms({"": conv}))


def _hidden(place: Place) -> Match | None:
    """Read [a global pool and] a linear layer with activation, in front of the last one."""
    rest = _Rest(place)
    if rest.pool() is None and place.size > 1:
        return None
    linear = rest.linear()
    if linear is None or linear.activation not in ACTIVATIONS:
        return None
    op = "hidden" if linear.module.bias is not None else "mix"
    if op == "mix" and place.size == 1:
        return None  # ours always pools
    out_channels, activation = linear.out_channels, linear.activation
    block = Block(op, place.channels, out_channels, 1, 1, 1, place.size, activation)
    return rest.match(block, {"conv" if op == "mix" else "linear": linear.path})


def _max_pool(place: Place) -> Match | None:
    rest = _Rest(place)
    pool = rest.max_pool()
    if pool is None:
        return None
    channels, kernel_size, stride = place.channels, pool.kernel_size, pool.stride
    return rest.match(Block("max_pool", channels, channels, kernel_size, stride, 1, place.size), {})


def _logits(place: Place) -> Match | None:
    """Read [a global pool and] a linear layer, the last of the network."""
    rest = _Rest(place)
    if rest.pool() is None and place.size > 1:
        return None
    linear = rest.linear()
    if linear is None or linear.activation or linear.module.bias is None or rest.groups:
        return None
    block = Block("logits", place.channels, linear.out_channels, 1, 1, 1, place.size)
    return rest.match(block, {"linear": linear.path})


RULES: tuple[Callable[[Place], Match | None], ...] = (
    _mbconv,
    _fused_mbconv,
    _conv,
    _max_pool,
    _hidden,
    _logits,
)
"""The rules in the order in which they are tried."""


class _Rest:
    """The groups after a place, taken one by one as long as each takes the output before it."""

    def __init__(self, place: Place) -> None:
        self.place, self.groups, self.value = place, place.groups, place.value

    def conv(self, fits: Callable[[Conv], bool]) -> Conv | None:
        """Take a convolution with a norm that ``fits``."""
        group = self._next(Conv)
        plain = group is not None and group.norm is not None and _is_plain(group) and fits(group)
        return self._take(group) if plain else None

    def linear(self) -> Conv | None:
        """Take a linear layer, or a 1x1 convolution of a single pixel, without norm."""
        group = self._next(Conv)
        plain = group is not None and group.pointwise and group.norm is None
        return self._take(group) if plain else None

    def gate(self) -> Gate | None:
        return self._take(self._next(Gate))

    def pool(self) -> Pool | None:
        return self._take(self._next(Pool))

    def max_pool(self) -> Any:
        """Take a max pool with an odd window and padding on all sides."""
        group = self._next(Other)
        module: Any = group.layer.module if group is not None else None
        if not isinstance(module, nn.MaxPool2d):
            return None
        size = module.kernel_size
        plain = isinstance(size, int) and size % 2 == 1 and module.padding == size // 2
        plain = plain and isinstance(module.stride, int)
        plain = plain and module.dilation == 1 and not module.ceil_mode
        return module if plain and self._take(group) is not None else None

    def adds(self, value: int) -> bool:
        """Return whether the next group adds ``value``, without an activation."""
        group = self.groups[0] if self.groups else None
        return (
            isinstance(group, Add) and not group.activation and group.sources == {self.value, value}
        )

    def match(self, block: Block, modules: ModulePairs) -> Match | None:
        """Return the block if its shortcut, or the lack of one, is that of the groups."""
        adds = self.adds(self.place.value)
        if adds != block.residual:
            return None
        taken = len(self.place.groups) - len(self.groups) + adds
        return Match(block, modules, taken)

    def _next(self, kind: type[Taken]) -> Taken | None:
        group = self.groups[0] if self.groups else None
        return group if isinstance(group, kind) and group.source == self.value else None

    def _take(self, group: Taken | None) -> Taken | None:
        if group is not None:
            self.groups, self.value = self.groups[1:], group.output
        return group


def _conv_norms(convs: dict[str, Conv | None]) -> ModulePairs:
    """Return the module pairs of convolutions with norms, by the names of our `ConvNorm`s."""
    pairs: ModulePairs = {}
    for name, conv in convs.items():
        if conv is not None:
            prefix = f"{name}." if name else ""
            pairs |= {f"{prefix}conv": conv.path, f"{prefix}norm": conv.norm_path}
    return pairs


def _is_plain(conv: Conv) -> bool:
    """Return whether a convolution has the form of ours: square, odd, padded, without bias."""
    module = conv.module
    if not isinstance(module, nn.Conv2d) or module.bias is not None:
        return False
    size, (stride, other) = module.kernel_size[0], module.stride
    return (
        module.kernel_size == (size, size)
        and size % 2 == 1
        and stride == other
        and module.dilation == (1, 1)
        and (_pads_same(module) or module.padding == (size // 2, size // 2))
        and module.padding_mode == "zeros"
    )


def _padding(conv: Conv) -> Literal["symmetric", "same"]:
    return "same" if _pads_same(conv.module) else "symmetric"


def _pads_same(module: nn.Module) -> bool:
    """Return whether a convolution pads as TensorFlow does: timm's for weights from there, or
    PyTorch's, which has stride 1."""
    return type(module).__name__ == "Conv2dSame" or getattr(module, "padding", None) == "same"


def _is_ours(gate: Gate, block: Block) -> bool:
    """Return whether a squeeze-excite has the layers of ours: biases, and the same activation."""
    squeeze, excite = gate.squeeze, gate.excite
    activation = "silu" if block.activation == "silu" else "relu"
    biases = squeeze.module.bias is not None and excite.module.bias is not None
    return squeeze.activation == activation and biases
