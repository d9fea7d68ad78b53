"""Fixed pieces: their text, their shapes, and the kernels that they are counted as."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hwnas.architecture.block import Block
from hwnas.architecture.piece.shapes import piece_kernels, value_shapes
from hwnas.architecture.piece.steps import Step, piece_text, steps_of
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
        "__import__('os')", "relu /relu",
    ],
)  # fmt: skip
def test_what_is_no_piece_is_refused_with_the_step(text: str) -> None:
    with pytest.raises(UsageError, match=r"is no step of a piece, expected e\.g\. 'conv 16 k3"):
        steps_of(text)


@pytest.mark.parametrize("size", [5, 6, 7, 8, 9, 10, 11])
def test_pools_and_convolutions_leave_as_many_pixels_as_in_pytorch(size: int) -> None:
    for kernel in (2, 3, 4):
        for stride in (1, 2, 3):
            for padding in (0, 1):
                for flag in ("", " ceil"):
                    text = f"max_pool k{kernel} s{stride} p{padding}{flag}"
                    module = nn.MaxPool2d(kernel, stride, padding, ceil_mode=bool(flag))
                    assert (
                        value_shapes(text, 8, size)[-1].size
                        == module(torch.zeros(1, 1, size, size)).shape[-1]
                    )
                text = f"conv 3 k{kernel} s{stride} p{padding}"
                conv = nn.Conv2d(8, 3, kernel, stride, padding)
                pixels = conv(torch.zeros(1, 8, size, size)).shape[-1]
                assert value_shapes(text, 8, size)[-1].size == pixels


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("conv 4 k11", "a map of 9 pixels is too small for 'conv'"),
        ("max_pool k2 s2 / add from 0 1", "'add' takes maps of 9 and 4 pixels"),
        ("conv 4 / add from 0 1", "'add' takes maps of 8 and 4 channels"),
        ("avg_pool k2 s2 / concat from 0 1", "'concat' takes maps of 9 and 4 pixels"),
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
    for text in ("global_pool / sigmoid / mul from 0 2", "conv 1 / sigmoid / mul from 2 0"):
        block = piece(text)
        assert (block.out_channels, block.out_size) == (8, 9)
        assert block_module(block)(torch.zeros(2, 8, 9, 9)).shape == (2, 8, 9, 9)
