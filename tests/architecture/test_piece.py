"""Fixed pieces: their text, their shapes, and the kernels that they are counted as."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import nn

from hwnas.architecture.block import Block
from hwnas.architecture.piece.shapes import piece_kernels, value_shapes
from hwnas.architecture.piece.steps import Step, piece_text, steps_of
from hwnas.architecture.size import Size
from hwnas.errors import UsageError
from hwnas.nn.blocks.table import block_module

FIRE = "conv 4 bias / relu / conv 6 bias / relu / conv 6 k3 p1 bias from 2 / relu / concat from 4 6"


def piece(text: str, in_channels: int = 8, in_size: int = 9) -> Block:
    out_channels = value_shapes(text, in_channels, in_size)[-1].channels
    return Block("piece", in_channels, out_channels, 1, 1, 1, in_size, piece=text)


def test_the_text_of_a_piece_says_which_values_its_steps_take() -> None:
    steps = steps_of(FIRE)
    assert [step.inputs for step in steps] == [(0,), (1,), (2,), (3,), (2,), (5,), (4, 6)]
    assert steps[4] == Step("conv", (2,), 6, kernel=(3, 3), padding=(1, 1), bias=True)
    assert piece_text(steps) == FIRE
    assert piece(FIRE).key == f"piece k1 s1 e1 8>12 @9 = {FIRE}"
    assert piece(FIRE).label == "piece k1 s1 e1 8>12 @9 (7 layers)"


@pytest.mark.parametrize(
    "text",
    [
        "conv 8 k3x5 s2x1 p1x2 d2 g4 bias / norm / leaky_relu v0.1",
        "conv 8 k3 s2 psame g8 / hardsigmoid / mul from 2 2",
        "max_pool k3 s2 ceil / avg_pool k3 p1 padded / global_pool / resize from 3 2",
        "slice 2:6 / slice 3: from 0 / chunk 0of3 from 0 / concat from 1 2 3",
        "layer_norm v1e-06 / response_norm v1e-06 / scale / scale 1 / shuffle g2",
        "times v0.5 / plus v-3.0",
    ],
)
def test_the_text_of_a_piece_is_read_as_it_was_written(text: str) -> None:
    assert piece_text(steps_of(text)) == text
    assert Block.from_key(piece(text).key) == piece(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "softmax", "conv", "conv 8 k", "conv 8 k0", "conv 8 q3", "relu from 1", "add from 0",
        "conv -8", "slice 4:2", "chunk 3of3", "resize from 0", "relu / add from 0 3",
        "__import__('os')", "relu /relu", "relu k3", "conv 8 ceil", "max_pool k3 psame",
        "avg_pool k2 p1 d2", "max_pool k2 s2 p2", "conv 8 k3x5 psame", "conv 8 k3 psame",
        "conv 8 g0", "scale 4",
        "times vnan", "plus vinf", "norm v0.1", "add 3 from 0 0",
    ],
)  # fmt: skip
def test_what_is_no_piece_is_refused_with_the_step(text: str) -> None:
    with pytest.raises(UsageError, match=r"is no step of a piece, expected e\.g\. 'conv 16 k3"):
        steps_of(text)


@pytest.mark.parametrize(
    ("text", "usual"),
    [
        ("conv 8 k3x3", "conv 8 k3"),
        ("conv 8 k1", "conv 8"),
        ("conv 8  bias k3 k3", "conv 8 k3 bias"),
        ("relu from 0", "relu"),
        ("times v.5", "times v0.5"),
        ("slice 0:06", "slice 0:6"),
        ("scale 0", "scale"),
    ],
)
def test_a_step_has_one_text(text: str, usual: str) -> None:
    with pytest.raises(UsageError) as error:
        steps_of(text)
    assert str(error.value) == f"{text!r} is no step of a piece, expected {usual!r}"
    assert piece_text(steps_of(usual)) == usual


def test_pieces_that_compute_the_same_are_equal_blocks() -> None:
    block = Block("piece", 8, 12, 3, 2, 6, 9, "relu", True, padding=2, piece=FIRE)
    assert block == piece(FIRE) and block.key == piece(FIRE).key


def test_only_pieces_list_layers() -> None:
    with pytest.raises(UsageError, match="'' is no step of a piece"):
        Block.from_key("piece k1 s1 e1 8>8 @9")
    with pytest.raises(UsageError, match="'conv' lists layers, 'relu'; only 'piece' has them"):
        Block.from_key("conv k1 s1 e1 8>8 @9 = relu")


def test_a_piece_of_other_output_channels_is_not_built() -> None:
    block = Block("piece", 8, 5, 1, 1, 1, 9, piece=FIRE)
    with pytest.raises(UsageError, match=r"8>5 @9 \(7 layers\): its layers give 12 channels"):
        block_module(block)


@pytest.mark.parametrize("size", range(2, 12))
def test_pools_and_convolutions_leave_as_many_pixels_as_in_pytorch(size: int) -> None:
    def pixels(step: Step) -> Size:
        try:
            return value_shapes(piece_text([step]), 8, size)[-1].size
        except UsageError:
            return 0

    def expected(module: nn.Module) -> int:
        try:
            return module(torch.zeros(1, 8, size, size)).shape[-1]
        except RuntimeError:  # no pixel remains
            return 0

    for kernel, stride, padding in product((2, 3, 4), (1, 2, 3), (0, 1)):
        sizes, strides, pads = ((each, each) for each in (kernel, stride, padding))
        for ceil in (False, True):
            pool = nn.MaxPool2d(kernel, stride, padding, ceil_mode=ceil)
            step = Step("max_pool", (0,), 0, sizes, strides, pads, ceil=ceil)
            assert pixels(step) == expected(pool)
        conv = nn.Conv2d(8, 3, kernel, stride, padding)
        assert pixels(Step("conv", (0,), 3, sizes, strides, pads)) == expected(conv)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("conv 4 k11", "a map of 9 pixels is too small for 'conv'"),
        ("max_pool k2 s2 / add from 0 1", "'add' takes maps of 9 and 4 pixels"),
        ("conv 4 / add from 0 1", "'add' takes maps of 8 and 4 channels"),
        ("avg_pool k2 s2 / concat from 0 1", "'concat' takes maps of 9 and 4 pixels"),
        ("slice 8:", "a map of 8 channels is too small for 'slice'"),
        ("chunk 4of5", "a map of 8 channels is too small for 'chunk'"),
        ("conv 9 g3", "'conv' cannot divide 8 to 9 channels into 3 groups"),
        ("conv 9 g4", "'conv' cannot divide 8 to 9 channels into 4 groups"),
        ("shuffle g3", "'shuffle' cannot divide 8 channels into 3 groups"),
    ],
)
def test_steps_that_do_not_fit_each_other_are_named(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        value_shapes(text, 8, 9)


def test_a_piece_is_counted_by_hand() -> None:
    block = piece(FIRE)
    assert block.macs == 81 * (8 * 4 + 4 * 6 + 9 * 4 * 6)
    assert block.params == 8 * 4 + 4 + 4 * 6 + 6 + 9 * 4 * 6 + 6
    # ReLUs are part of the convolutions before them, the concatenation is a copy
    moved = [kernel.elements for kernel in piece_kernels(FIRE, 8, 9)]
    assert moved == [81 * 12, 81 * 10, 81 * 10, 2 * 81 * 12]
    smooth = piece_kernels("conv 4 / norm / times v0.5 / silu / relu", 8, 9)
    assert [kernel.hswish_elements for kernel in smooth] == [81 * 4, 0]
    assert smooth[0].norm_params == 8


@pytest.mark.parametrize(
    ("text", "residual"),
    [
        ("conv 8 k3 p1 / relu / add from 2 0", True),
        ("conv 8 k3 p1 / add from 0 1 / relu", False),
        ("conv 8 k3 p1 / relu / add from 1 2", False),
        ("conv 1 / add from 0 1", True),
        ("add from 0 0", False),
    ],
)
def test_a_piece_that_ends_in_the_sum_with_its_input_has_a_shortcut(
    text: str, residual: bool
) -> None:
    assert piece(text).residual == residual


def test_a_function_of_a_value_that_others_take_too_is_a_kernel_of_its_own() -> None:
    shared = "conv 4 / relu / add from 1 2"
    moved = [kernel.elements for kernel in piece_kernels(shared, 8, 9)]
    assert moved == [81 * 12, 81 * 8, 81 * 12]


def test_a_factor_may_be_a_pixel_or_a_channel() -> None:
    for text in (
        "global_pool / sigmoid / mul from 0 2",
        "conv 1 / sigmoid / mul from 2 0",
        "global_pool / conv 1 from 0 / add from 1 2",
        "max_pool k9x1 / max_pool k1x9 from 0 / mul from 1 2",
    ):
        block = piece(text)
        assert (block.out_channels, block.out_size) == (8, 9)
        assert block_module(block)(torch.zeros(2, 8, 9, 9)).shape == (2, 8, 9, 9)
