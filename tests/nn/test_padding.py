"""TensorFlow's padding "same", by definition: no more pixels than needed, the odd one last."""

from __future__ import annotations

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hwnas.architecture.architecture import Block
from hwnas.errors import UsageError
from hwnas.nn.blocks.layers import ConvNorm
from hwnas.nn.blocks.mobile import MBConv
from hwnas.nn.blocks.table import block_module
from hwnas.nn.supernet import MixedOp, SlicedMBConv

KERNELS, STRIDES, SIZES = (3, 5, 7), (1, 2), range(7, 17)


def offset(size: int, kernel_size: int, stride: int) -> int:
    """Return the pixels before the image: try every total until all outputs have a window."""
    total = 0
    while (size + total - kernel_size) // stride + 1 < -(-size // stride):
        total += 1
    return total // 2


def windows(image: Tensor, kernel_size: int, stride: int, outside: float) -> Tensor:
    """Return ``[C, H out, W out, k, k]`` of an image ``[C, H, W]``, pixel by pixel."""
    channels, height, width = image.shape
    rows, columns = -(-height // stride), -(-width // stride)
    top, left = (offset(size, kernel_size, stride) for size in (height, width))
    result = torch.full((channels, rows, columns, kernel_size, kernel_size), outside)
    places = product(range(rows), range(columns), range(kernel_size), range(kernel_size))
    for row, column, i, j in places:
        y, x = row * stride - top + i, column * stride - left + j
        if 0 <= y < height and 0 <= x < width:
            result[:, row, column, i, j] = image[:, y, x]
    return result


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("kernel_size", KERNELS)
def test_convolutions_pad_as_tensorflow(kernel_size: int, stride: int, size: int) -> None:
    torch.manual_seed(0)
    image = torch.randn(2, size, size + 1)
    around = windows(image, kernel_size, stride, 0.0)
    dense = ConvNorm(2, 3, kernel_size, stride, padding="same").conv
    expected = torch.einsum("chwij,ocij->ohw", around, dense.weight)
    torch.testing.assert_close(dense(image[None])[0], expected)
    depthwise = ConvNorm(2, 2, kernel_size, stride, depthwise=True, padding="same").conv
    expected = torch.einsum("chwij,cij->chw", around, depthwise.weight[:, 0])
    torch.testing.assert_close(depthwise(image[None])[0], expected)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kernel_size", [2, 3])
def test_max_pools_pad_as_tensorflow(kernel_size: int, size: int) -> None:
    torch.manual_seed(0)
    image = torch.randn(2, size, size) - 5  # zeros would be the largest
    block = Block("max_pool", 2, 2, kernel_size, 2, 1, size, padding="same")
    expected = windows(image, kernel_size, 2, float("-inf")).amax((3, 4))
    assert torch.equal(block_module(block)(image[None])[0], expected)
    assert expected.shape[-1] == block.out_size


@pytest.mark.parametrize("size", [4, 5, 8, 16])
def test_the_gradient_of_a_depthwise_convolution_is_that_of_a_padded_image(size: int) -> None:
    torch.manual_seed(0)
    conv = ConvNorm(4, 4, 5, 2, depthwise=True, padding="same").double().conv
    ours = torch.randn(2, 4, size, size, dtype=torch.float64, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    before = offset(size, 5, 2)
    padded = F.pad(theirs, (before, 5, before, 5))
    last = before + (-(-size // 2) - 1) * 2 + 5 - before
    expected = F.conv2d(padded[:, :, :last, :last], conv.weight, stride=2, groups=4)
    weight_grad, x_grad = torch.autograd.grad((expected**3).sum(), (conv.weight, theirs))
    (conv(ours) ** 3).sum().backward()
    torch.testing.assert_close(conv.weight.grad, weight_grad)
    torch.testing.assert_close(ours.grad, x_grad)


@pytest.mark.parametrize("op", ["conv", "mbconv", "fused_mbconv"])
def test_at_odd_sizes_it_is_the_symmetric_padding(op: str) -> None:
    """The block may be built for an even size: the padding follows the image."""
    torch.manual_seed(0)
    same = block_module(Block(op, 8, 8, 5, 2, 3, 16, padding="same")).eval()
    symmetric = block_module(Block(op, 8, 8, 5, 2, 3, 16)).eval()
    symmetric.load_state_dict(same.state_dict())
    odd, even = torch.randn(2, 8, 15, 15), torch.randn(2, 8, 16, 16)
    assert torch.equal(same(odd), symmetric(odd))
    assert not torch.allclose(same(even), symmetric(even))


def test_candidates_on_shared_weights_pad_as_the_blocks_cut_from_them() -> None:
    torch.manual_seed(0)
    blocks = [Block("mbconv", 8, 16, k, 2, e, 8, padding="same") for k, e in ((5, 6), (3, 3))]
    op = MixedOp(blocks, share_weights=True).eval()
    x = torch.randn(2, 8, 8, 8)
    for choice, block in enumerate(blocks):
        candidate, alone = op.candidates[choice], MBConv(block).eval()
        assert isinstance(candidate, SlicedMBConv) and op.shared is not None
        candidate.copy_to(alone, op.shared)
        torch.testing.assert_close(op(x, choice), alone(x))


def test_an_operation_without_this_padding_is_refused() -> None:
    block = Block("avg_pool", 8, 8, 3, 2, 1, 8, padding="same")
    with pytest.raises(UsageError, match=r"avg_pool .* only supported for conv, mbconv"):
        block_module(block)
