"""Networks and supernets compute on another device what they compute on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from random import Random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.architecture.architecture import Block
from hwnas.nn.blocks.table import block_module
from hwnas.nn.cells.child import absorb_gates
from hwnas.nn.cells.supernet import CellPath, CellSupernet
from hwnas.nn.depthwise import depthwise_conv2d
from hwnas.nn.growth.chain import deeper, wider
from hwnas.nn.growth.transforms import net_of
from hwnas.nn.network import Network
from hwnas.nn.supernet import Supernet
from hwnas.spaces.cells.space import CellSpace
from tests.architecture.test_ops import every_block
from tests.support.machines.fake_gpu import (
    BLOCKING_COPY,
    NAME,
    needs_fake_gpu,
    record_host_reads,
)
from tests.support.tiny import MB33, MB76, tiny_space

pytestmark = needs_fake_gpu

OPS = ("skip_connect", "sep_conv_3x3", "max_pool_3x3")
CELLS = CellSpace("cells-norm", (1, 12, 12), 3, 4, 3, "cifar", "pool and skip", OPS, 2)
LABELS = torch.arange(4) % 3


def gradients(module: nn.Module, forward: Callable[[Tensor], Tensor], images: Tensor) -> None:
    """Compute the gradients of a loss, and on the fake device that nothing waits for it."""
    module.zero_grad()
    labels = LABELS.to(images.device)
    with record_host_reads() as reads:
        F.cross_entropy(forward(images), labels).backward()
    assert reads == []


def assert_same_gradients(on_cpu: nn.Module, on_gpu: nn.Module) -> None:
    for (name, ours), theirs in zip(on_cpu.named_parameters(), on_gpu.parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None), name
        if ours.grad is not None and theirs.grad is not None:
            torch.testing.assert_close(theirs.grad.cpu(), ours.grad, msg=name)


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def on_the_device(module: nn.Module) -> bool:
    return {value.device.type for value in module.state_dict().values()} == {NAME}


@every_block
def test_a_block_computes_the_same_without_waiting(block: Block) -> None:
    module = block_module(block).double().eval()
    images = noise(2, *block.in_shape)
    expected = module(images)
    module, images = deepcopy(module).to(NAME), images.to(NAME)
    with record_host_reads() as reads:
        result = module(images)
    assert reads == []
    torch.testing.assert_close(result.cpu(), expected)


def test_the_special_depthwise_gradient_is_of_the_cpu_only() -> None:
    images, weight = noise(2, 4, 3, 3), noise(4, 1, 7, 7)
    names = [
        depthwise_conv2d(images.to(device), weight.to(device).requires_grad_()).grad_fn.name()  # type: ignore[union-attr]
        for device in ("cpu", NAME)
    ]
    assert names == ["_SmallImageBackward", "ConvolutionBackward0"]


@pytest.mark.parametrize("share", [True, False], ids=["shared", "separate"])
def test_a_path_of_a_supernet_has_the_same_gradients(share: bool) -> None:
    on_cpu = Supernet(tiny_space(MB33, MB76), share).double()
    on_gpu = deepcopy(on_cpu).to(NAME)
    images = noise(4, 1, 12, 12)
    gradients(on_cpu, lambda x: on_cpu(x, [1, 0]), images)
    gradients(on_gpu, lambda x: on_gpu(x, [1, 0]), images.to(NAME))
    assert_same_gradients(on_cpu, on_gpu)


def test_an_extracted_network_is_on_the_device_of_its_supernet() -> None:
    supernet = Supernet(tiny_space(MB33, MB76)).to(NAME)
    with record_host_reads() as reads:
        network = supernet.extract(supernet.space.default)
    assert on_the_device(network) and set(reads) == {BLOCKING_COPY}


def test_cell_weights_on_the_host_get_their_gradient_in_one_copy_a_kind() -> None:
    on_cpu = CellSupernet(CELLS, OPS).double()
    on_gpu = deepcopy(on_cpu).to(NAME)
    images, edges = noise(4, 1, 12, 12), len(on_cpu.mixed[0].edges)
    weights = [noise(edges, len(OPS)).requires_grad_() for _ in range(4)]
    F.cross_entropy(on_cpu(images, *weights[:2]), LABELS).backward()
    images, labels = images.to(NAME), LABELS.to(NAME)
    with record_host_reads() as reads:
        F.cross_entropy(on_gpu(images, *weights[2:]), labels).backward()
    # weights that were moved earlier, as a strategy does, are not copied here
    assert reads == [BLOCKING_COPY] * 2 + ["_to_copy"] * 2
    assert_same_gradients(on_cpu, on_gpu)
    for ours, theirs in zip(weights[:2], weights[2:], strict=True):
        torch.testing.assert_close(theirs.grad, ours.grad)


def test_networks_cut_from_a_cell_supernet_are_on_its_device() -> None:
    supernet = CellSupernet(CELLS, OPS, affine=True).to(NAME)
    genotype = CELLS.random(Random(0))
    gates = torch.ones(len(supernet.mixed[0].edges), len(OPS))
    assert on_the_device(CellPath(supernet, gates, gates))
    assert on_the_device(absorb_gates(supernet, genotype, gates, gates))


def test_a_network_on_the_device_grows_on_the_cpu() -> None:
    blocks = (Block("conv", 1, 4, 3, 1, 1, 6), Block("conv", 4, 4, 3, 1, 1, 6))
    blocks = (*blocks, Block("logits", 4, 3, 1, 1, 1, 6))
    network = Network(blocks).eval()
    images = torch.randn(4, 1, 6, 6)
    with torch.no_grad():
        expected = network(images)
    generator = torch.Generator().manual_seed(0)
    net = wider(net_of(blocks, network.to(NAME)), 0, 6, generator)
    net = deeper(net, 1, 3, images.to(NAME))
    torch.testing.assert_close(
        net.network().eval()(images).detach(), expected, rtol=1e-4, atol=1e-5
    )
