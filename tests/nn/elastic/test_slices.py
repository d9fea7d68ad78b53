"""Blocks that were trained to be sliced: the weights of Once-for-all, and their batch norms."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from hwnas.architecture.architecture import Block
from hwnas.nn.elastic.kernel import crop_kernel
from hwnas.nn.elastic.member import ClosedForms
from hwnas.nn.elastic.slices import packed, unpacked
from hwnas.nn.elastic.statistics import Statistics, collect, elastic_places
from hwnas.nn.network import Network
from hwnas.training.checkpoint import load_checkpoint, save_checkpoint
from tests.support.networks.cut_chain import changed, member
from tests.support.networks.trained_chain import smooth_images, trained_network

BLOCKS = (
    Block("conv", 3, 8, 3, 2, 1, 32),
    Block("mbconv", 8, 12, 7, 2, 6, 16, activation="relu"),
    Block("mbconv", 12, 12, 7, 1, 6, 8, activation="hswish", squeeze_excite=True),
    Block("bottleneck", 12, 16, 3, 1, 2, 8, activation="relu"),
    Block("logits", 16, 5, 1, 1, 1, 8),
)
PLAIN, GATED, BOTTLENECK = 1, 2, 3
SLICED = {
    place: {
        size: torch.eye(size**2) + 0.3 * torch.randn(size**2, size**2, generator=generator)
        for size in (5, 3)
    }
    for place, generator in ((p, torch.Generator().manual_seed(p)) for p in (PLAIN, GATED))
} | {BOTTLENECK: {}}
IMAGES = smooth_images(8, 32)


@pytest.fixture(scope="module")
def network() -> Network:
    return trained_network(BLOCKS)


@pytest.fixture(scope="module")
def statistics(network: Network) -> Statistics:
    pixels = 8 * 16 * 16  # all of each map
    return collect(network, [IMAGES], elastic_places(network), pixels, pixels)


def cut(place: int, **changes: float) -> tuple[Block, ...]:
    return changed(BLOCKS, place, **changes)


def layer_outputs(network: Network, place: int, layer: str, images: Tensor) -> Tensor:
    """Return what the batch norm of a layer is given."""
    given: list[Tensor] = []
    norm = network.get_submodule(f"blocks.{place}.layers.{layer}.norm")
    handle = norm.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    network(images)
    handle.remove()
    return given[0]


def by_sums(kernel: Tensor, matrix: Tensor) -> Tensor:
    """Return the kernel that is smaller by 2, tap by tap: ``out_i = sum_j M_ij centre_j``."""
    size = kernel.shape[-1] - 2
    smaller = torch.zeros(len(kernel), 1, size, size, dtype=kernel.dtype)
    for i in range(size * size):
        for j in range(size * size):
            centre = kernel[:, 0, 1 + j // size, 1 + j % size]
            smaller[:, 0, i // size, i % size] += matrix[i, j].item() * centre
    return smaller


@pytest.mark.parametrize("place", [PLAIN, GATED])
def test_a_smaller_kernel_is_the_centre_times_the_matrix(network: Network, place: int) -> None:
    name = f"blocks.{place}.layers.depthwise.conv.weight"
    forms = ClosedForms(network, BLOCKS, {}, SLICED)
    five = by_sums(network.state_dict()[name], SLICED[place][5])
    torch.testing.assert_close(forms.member(cut(place, kernel_size=5))[name], five)
    three = by_sums(five, SLICED[place][3])
    torch.testing.assert_close(forms.member(cut(place, kernel_size=3))[name], three)


def test_matrices_of_a_supernet_before_its_training_crop(network: Network) -> None:
    identity = {PLAIN: {size: torch.eye(size**2) for size in (5, 3)}}
    name = f"blocks.{PLAIN}.layers.depthwise.conv.weight"
    smaller = ClosedForms(network, BLOCKS, {}, identity).member(cut(PLAIN, kernel_size=3))
    torch.testing.assert_close(smaller[name], crop_kernel(network.state_dict()[name], 3))


def check_norm(
    network: Network, weights: dict[str, Tensor], norm: str, old: Tensor, new: Tensor
) -> None:
    """Check that a batch norm follows what it is given, which was ``old`` and is ``new``."""
    before, axes = network.state_dict(), (0, 2, 3)
    mean, variance = (f"{norm}.running_{name}" for name in ("mean", "var"))
    assert not torch.allclose(weights[variance], before[variance])
    torch.testing.assert_close(weights[mean] - before[mean], new.mean(axes) - old.mean(axes))
    torch.testing.assert_close(weights[variance] / before[variance], new.var(axes) / old.var(axes))


@pytest.mark.parametrize("size", [5, 3])
def test_the_norm_behind_a_smaller_kernel_follows_its_outputs(
    network: Network, statistics: Statistics, size: int
) -> None:
    blocks = cut(GATED, kernel_size=size)
    weights = ClosedForms(network, BLOCKS, statistics, SLICED).member(blocks)
    old, new = (
        layer_outputs(each, GATED, "depthwise", IMAGES)
        for each in (network, member(blocks, weights))
    )
    check_norm(network, weights, f"blocks.{GATED}.layers.depthwise.norm", old, new)


def test_a_narrower_block_has_the_first_channels(network: Network) -> None:
    old = {
        name.removeprefix(f"blocks.{GATED}.layers."): value
        for name, value in network.state_dict().items()
        if name.startswith(f"blocks.{GATED}.")
    }
    weights = ClosedForms(network, BLOCKS, {}, SLICED).member(cut(GATED, expand_ratio=4))
    width, gates = 48, BLOCKS[GATED].se_channels
    assert msgspec.structs.replace(BLOCKS[GATED], expand_ratio=4).se_channels == 16 < gates
    expected = {
        "expand.conv.weight": old["expand.conv.weight"][:width],
        "depthwise.conv.weight": old["depthwise.conv.weight"][:width],
        "se.squeeze.weight": old["se.squeeze.weight"][:16, :width],
        "se.squeeze.bias": old["se.squeeze.bias"][:16],
        "se.excite.weight": old["se.excite.weight"][:width, :16],
        "se.excite.bias": old["se.excite.bias"][:width],
        "project.conv.weight": old["project.conv.weight"][:, :width],
        "project.norm.running_mean": old["project.norm.running_mean"],
    }
    for layer in ("expand", "depthwise"):
        for part in ("weight", "bias", "running_mean", "running_var"):
            expected[f"{layer}.norm.{part}"] = old[f"{layer}.norm.{part}"][:width]
    for name, value in expected.items():
        assert torch.equal(weights[f"blocks.{GATED}.layers.{name}"], value), name


@pytest.mark.parametrize(
    ("place", "before", "layer", "ratio"),
    [(PLAIN, "depthwise", "project", 3), (BOTTLENECK, "spatial", "restore", 1)],
)
def test_the_norm_behind_fewer_channels_follows_their_sum(
    network: Network, statistics: Statistics, place: int, before: str, layer: str, ratio: float
) -> None:
    blocks, own = cut(place, expand_ratio=ratio), f"blocks.{place}.layers"
    width = blocks[place].mid_channels
    weights = ClosedForms(network, BLOCKS, statistics, SLICED).member(blocks)
    given = layer_outputs(network, place, before, IMAGES)
    inner = network.get_submodule(f"{own}.{before}.norm")(given).relu()
    kernel = network.state_dict()[f"{own}.{layer}.conv.weight"]
    old, new = F.conv2d(inner, kernel), F.conv2d(inner[:, :width], kernel[:, :width])
    check_norm(network, weights, f"{own}.{layer}.norm", old, new)


def test_under_a_kernel_of_several_pixels_variances_add_up(
    network: Network, statistics: Statistics
) -> None:
    """Exact for inputs that do not depend on their neighbours."""
    blocks, norm = cut(BOTTLENECK, expand_ratio=1), f"blocks.{BOTTLENECK}.layers.spatial.norm"
    weights = ClosedForms(network, BLOCKS, statistics, SLICED).member(blocks)
    before = network.state_dict()
    kernel = before[f"blocks.{BOTTLENECK}.layers.spatial.conv.weight"]
    covariance = statistics[BOTTLENECK].inputs["spatial"].covariance
    rng = torch.Generator().manual_seed(3)
    noise = torch.randn(64, len(covariance), 18, 18, generator=rng, dtype=torch.float64)
    factor = torch.linalg.cholesky(covariance + 1e-12 * torch.eye(len(covariance)))
    inner = torch.einsum("ij,njhw->nihw", factor, noise)
    old, new = F.conv2d(inner, kernel), F.conv2d(inner[:, :12], kernel[:, :12])
    ratio = weights[f"{norm}.running_var"] / before[f"{norm}.running_var"][:12]
    expected = (new.var(dim=(0, 2, 3)) / old.var(dim=(0, 2, 3)))[:12]
    torch.testing.assert_close(ratio, expected, rtol=0.1, atol=0)


def test_the_largest_member_is_the_network_itself(network: Network, statistics: Statistics) -> None:
    weights = ClosedForms(network, BLOCKS, statistics, SLICED).member(BLOCKS)
    state = network.state_dict()
    assert all(value.data_ptr() == state[name].data_ptr() for name, value in weights.items())


def test_slices_come_back_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "slices.safetensors"
    save_checkpoint(file, packed(SLICED), {})
    again = unpacked(load_checkpoint(file)[0])
    assert {place: set(sizes) for place, sizes in again.items()} == {
        PLAIN: {3, 5},
        GATED: {3, 5},
        BOTTLENECK: set(),
    }
    assert torch.equal(again[GATED][5], SLICED[GATED][5])
