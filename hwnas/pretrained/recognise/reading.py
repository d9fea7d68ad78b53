"""What the rules of the grammar share: a place in the groups, and what can be taken there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

from torch import nn

from hwnas.architecture.architecture import Block
from hwnas.architecture.size import Size
from hwnas.pretrained.recognise.groups import Add, Conv, Gate, Group, Other, Pool
from hwnas.pretrained.recognise.kinds import Kind

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
    """Index of the layer whose output is the feature map; the groups begin with the next one."""
    channels: int
    size: Size
    parts: tuple[int, ...] = ()
    """Indices of the layers whose outputs the feature map is made of, where it is concatenated."""


class Reading:
    """The groups after a place, taken one by one as long as each takes the output before it."""

    def __init__(self, place: Place) -> None:
        self.place, self.groups, self.value = place, place.groups, place.value

    def conv(self, fits: Callable[[Conv], bool]) -> Conv | None:
        """Take a convolution that ``fits``; it may have a norm, a bias, or neither."""
        return self.padded_conv(lambda conv: is_plain(conv) and fits(conv))

    def padded_conv(self, fits: Callable[[Conv], bool]) -> Conv | None:
        """Take a convolution that ``fits``, with any number of pixels as padding."""
        group = self._next(Conv)
        return self._take(group) if group is not None and is_square(group) and fits(group) else None

    def linear(self) -> Conv | None:
        """Take a linear layer, or a 1x1 convolution of a single pixel, without norm."""
        group = self._next(Conv)
        plain = group is not None and group.pointwise and group.norm is None
        return self._take(group) if plain else None

    def bare_conv(self) -> Conv | None:
        """Take a dense convolution of stride 1 without norm, bias and activation."""
        group = self._next(Conv)
        if group is None or group.norm is not None or group.activation or group.stride > 1:
            return None
        plain = group.dense and is_plain(group) and group.module.bias is None
        return self._take(group) if plain else None

    def norm_relu(self) -> Other | None:
        """Take a norm and a ReLU that no convolution precedes; return the norm."""
        norm = self.layer("norm")
        act = self.layer("act") if norm is not None else None
        return norm if act is not None and act.layer.activation == "relu" else None

    def layer(self, kind: Kind) -> Other | None:
        """Take a layer that belongs to no group."""
        group = self._next(Other)
        return self._take(group) if group is not None and group.layer.kind == kind else None

    def scale(self) -> Other | None:
        """Take a product with a parameter for each channel of the block's input."""
        group = self._next(Other)
        fits = group is not None and group.layer.span == (0, self.place.channels)
        return self.layer("scale") if fits else None

    def back(self) -> None:
        """Go on with the block's input."""
        self.value = self.place.value

    def concatenated(self, *parts: int) -> bool:
        """Take the concatenation of the outputs of layers, and return whether it comes next."""
        group = self.groups[0] if self.groups else None
        if not isinstance(group, Other) or group.layer.kind != "concat":
            return False
        if group.layer.inputs != parts:
            return False
        self._take(group)
        return True

    def gate(self) -> Gate | None:
        return self._take(self._next(Gate))

    def pool(self) -> Pool | None:
        return self._take(self._next(Pool))

    def grid_pool(self) -> int:
        """Take an average pool to a square of more than a pixel; return the length of its side.

        It is 0 where there is none.
        """
        group = self._next(Other)
        module = group.layer.module if group is not None else None
        if group is None or not isinstance(module, nn.AdaptiveAvgPool2d):
            return 0
        size: Any = module.output_size
        height, width = size if isinstance(size, tuple) else (size, size)
        if not isinstance(height, int) or height != width:
            return 0
        self._take(group)
        return height

    def max_pool(self) -> Any:
        """Take a max pool of square windows."""
        group = self._next(Other)
        module: Any = group.layer.module if group is not None else None
        if not isinstance(module, nn.MaxPool2d):
            return None
        size = module.kernel_size
        plain = all(isinstance(each, int) for each in (size, module.stride, module.padding))
        plain = plain and module.dilation == 1 and not module.ceil_mode
        return module if plain and self._take(group) is not None else None

    def side(self, fits: Callable[[Conv], bool], source: int | None = None) -> Conv | None:
        """Take a convolution beside the others: of the block's input, or of another layer."""
        group = self.groups[0] if self.groups else None
        source = self.place.value if source is None else source
        if not isinstance(group, Conv) or group.source != source:
            return None
        if not is_plain(group) or not fits(group):
            return None
        self.groups = self.groups[1:]
        return group

    def side_pool(self) -> Other | None:
        """Take an average pool beside the others: of the block's input."""
        group = self.groups[0] if self.groups else None
        if not isinstance(group, Other) or group.source != self.place.value:
            return None
        if group.layer.kind != "avg_pool":
            return None
        self.groups = self.groups[1:]
        return group

    def total(self, value: int) -> str:
        """Return the activation of the next group if that adds ``value``, else an empty text."""
        group = self.groups[0] if self.groups else None
        adds = isinstance(group, Add) and group.sources == {self.value, value}
        return group.activation if adds and isinstance(group, Add) else ""

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


def conv_norms(convs: dict[str, Conv | None]) -> ModulePairs:
    """Return the module pairs of convolutions and their norms, by the names of our `ConvNorm`s."""
    pairs: ModulePairs = {}
    for name, conv in convs.items():
        if conv is not None:
            prefix = f"{name}." if name else ""
            pairs[f"{prefix}conv"] = conv.path
            if conv.norm is not None:
                pairs[f"{prefix}norm"] = conv.norm_path
    return pairs


def is_plain(conv: Conv) -> bool:
    """Return whether a convolution has the form of ours: square, odd, padded."""
    return is_square(conv) and conv.kernel_size % 2 == 1 and isinstance(padding_of(conv), str)


def is_square(conv: Conv) -> bool:
    """Return whether a convolution has the same kernel, stride and padding along both axes, and
    pads with zeros."""
    module = conv.module
    if not isinstance(module, nn.Conv2d):
        return False
    padding = ("same",) if pads_same(module) else module.padding
    sides = (module.kernel_size, module.stride, padding)
    return (
        all(len(set(pair)) == 1 for pair in sides)
        and module.dilation == (1, 1)
        and module.padding_mode == "zeros"
    )


def padding_of(conv: Conv) -> Literal["symmetric", "same"] | int:
    """Return the `Block.padding` of a convolution that `is_square`."""
    module = conv.module
    if pads_same(module):
        return "same"
    assert isinstance(module, nn.Conv2d) and isinstance(module.padding, tuple)
    pixels, half = module.padding[0], module.kernel_size[0] // 2
    return "symmetric" if pixels == half and module.kernel_size[0] % 2 else pixels


def pads_same(module: nn.Module) -> bool:
    """Return whether a convolution pads as TensorFlow does: timm's for weights from there, or
    PyTorch's, which has stride 1."""
    return type(module).__name__ == "Conv2dSame" or getattr(module, "padding", None) == "same"
