"""Smaller depthwise kernels, and the patches from which they are solved."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hwnas.architecture.block import same_padding
from hwnas.nn.depthwise import DepthwiseConv2d
from hwnas.nn.elastic.kernel import crop_kernel, cut_kernel, inner_taps
from hwnas.nn.elastic.patches import patch_gram, tap_pixels
from hwnas.nn.padding import SameDepthwiseConv2d

CHANNELS = 3


def images(size: int = 9) -> Tensor:
    """Smooth images, whose neighbouring pixels are correlated."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(6, CHANNELS, size, size, generator=generator, dtype=torch.float64)
    return F.avg_pool2d(noise, 3, 1, 1) + 0.5


def convolution(kernel_size: int, stride: int = 1) -> DepthwiseConv2d:
    torch.manual_seed(1)
    return DepthwiseConv2d(CHANNELS, kernel_size, stride).double().requires_grad_(False)


def whole_gram(conv: DepthwiseConv2d, x: Tensor) -> Tensor:
    """The mean over all output pixels of all images."""
    pixels = torch.arange(conv(x)[:, 0].numel())
    return patch_gram(conv, x, pixels) / len(pixels)


def unfolded(x: Tensor, kernel_size: int, stride: int) -> Tensor:
    """Patches ``[C, pixels, k * k]`` by PyTorch's im2col."""
    columns = F.unfold(x, kernel_size, padding=kernel_size // 2, stride=stride)
    return columns.unflatten(1, (CHANNELS, -1)).permute(1, 0, 3, 2).flatten(1, 2)


@pytest.mark.parametrize("kernel_size", [3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [4, 9])
def test_grams_are_those_of_the_unfolded_images(kernel_size: int, stride: int, size: int) -> None:
    x, conv = images(size), convolution(kernel_size, stride)
    patches = unfolded(x, kernel_size, stride)
    patches = torch.cat((patches, torch.ones_like(patches[..., :1])), dim=2)
    expected = patches.transpose(1, 2) @ patches / patches.shape[1]
    torch.testing.assert_close(whole_gram(conv, x), expected)


@pytest.mark.parametrize("size", [8, 9])
def test_grams_of_padding_same_are_those_of_padded_images(size: int) -> None:
    conv = SameDepthwiseConv2d(CHANNELS, 5, 2).double().requires_grad_(False)
    x = images(size)
    before, after = same_padding(size, 5, 2)
    columns = F.unfold(F.pad(x, (before, after) * 2), 5, stride=2)
    patches = columns.unflatten(1, (CHANNELS, -1)).permute(1, 0, 3, 2).flatten(1, 2)
    expected = patches.transpose(1, 2) @ patches / patches.shape[1]
    torch.testing.assert_close(whole_gram(conv, x)[:, :-1, :-1], expected)


def test_taps_are_numbered_as_the_convolution_reads_them() -> None:
    taps = tap_pixels(convolution(3, 2), (4, 4))
    assert taps.shape == (4, 9)
    assert taps[0].tolist() == [-1, -1, -1, -1, 0, 1, -1, 4, 5]
    assert taps[3].tolist() == [5, 6, 7, 9, 10, 11, 13, 14, 15]


@pytest.mark.parametrize(("kernel_size", "smaller", "stride"), [(5, 3, 1), (7, 5, 2), (7, 3, 2)])
def test_the_smaller_kernel_is_the_least_squares_fit_to_the_old_outputs(
    kernel_size: int, smaller: int, stride: int
) -> None:
    x, conv = images(), convolution(kernel_size, stride)
    kernel, intercept = cut_kernel(conv.weight, whole_gram(conv, x), smaller, ridge=0)
    inside = unfolded(x, smaller, stride)
    design = torch.cat((inside, torch.ones_like(inside[..., :1])), dim=2)
    old = conv(x).transpose(0, 1).flatten(1)
    fit = torch.linalg.lstsq(design, old[..., None]).solution[..., 0]
    torch.testing.assert_close(kernel.flatten(1), fit[:, :-1])
    torch.testing.assert_close(intercept, fit[:, -1])
    crop = crop_kernel(conv.weight, smaller)
    plain = F.conv2d(x, crop, None, stride, smaller // 2, groups=CHANNELS)
    solved = F.conv2d(x, kernel, intercept, stride, smaller // 2, groups=CHANNELS)
    assert (solved - conv(x)).square().mean() < 0.8 * (plain - conv(x)).square().mean()


def test_a_kernel_with_a_zero_ring_becomes_its_centre() -> None:
    conv = convolution(5)
    conv.weight *= inner_taps(5, 3).view(5, 5)
    kernel, intercept = cut_kernel(conv.weight, whole_gram(conv, images()), 3)
    torch.testing.assert_close(kernel, crop_kernel(conv.weight, 3), atol=0, rtol=0)
    assert not intercept.any()


def test_two_steps_give_the_kernel_of_a_single_step() -> None:
    conv = convolution(7)
    gram = whole_gram(conv, images())
    direct, constant = cut_kernel(conv.weight, gram, 3, ridge=0)
    middle, first = cut_kernel(conv.weight, gram, 5, ridge=0)
    taps = torch.cat((inner_taps(7, 5), torch.tensor([True])))
    steps, second = cut_kernel(middle, gram[:, taps][:, :, taps], 3, ridge=0)
    torch.testing.assert_close(steps, direct)
    torch.testing.assert_close(first + second, constant)


def test_a_kernel_of_the_same_size_keeps_its_weights_to_the_bit() -> None:
    conv = convolution(5)
    kernel, intercept = cut_kernel(conv.weight, whole_gram(conv, images()), 5)
    assert torch.equal(kernel, conv.weight) and not intercept.any()


def test_a_dead_channel_keeps_its_centre() -> None:
    x, conv = images(), convolution(5)
    x[:, 1] = 0
    kernel, _ = cut_kernel(conv.weight, whole_gram(conv, x), 3)
    assert torch.equal(kernel[1], crop_kernel(conv.weight, 3)[1])
    assert kernel.isfinite().all()
