"""The search net of DARTS: its counts, and that certain weights make it the network they choose."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor, nn

from hwnas.nn.cells.supernet import CellPath, CellSupernet, MixedCell, MixedEdge
from hwnas.nn.network import WiredNetwork
from hwnas.spaces.cells.alpha import edge_count
from hwnas.spaces.cells.genotype import DARTS_OPS, Cell, published_genotype
from hwnas.spaces.cells.layout import lay_out
from hwnas.spaces.cells.space import cell_space

GENOTYPE = published_genotype("ptdarts_cifar10")
SPACE = cell_space((3, 16, 16), 10, channels=4, layers=3, norm="pool")


def params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def certain(cell: Cell) -> Tensor:
    """Return weights ``[E, K]``: 1 for the edges of the cell, else 0."""
    weights = torch.zeros(edge_count(len(cell.nodes)), len(DARTS_OPS))
    for node, edges in enumerate(cell.nodes):
        for edge in edges:
            weights[edge_count(node) + edge.source, DARTS_OPS.index(edge.op)] = 1.0
    return weights


def uniform() -> Tensor:
    return torch.full((14, len(DARTS_OPS)), 1 / len(DARTS_OPS))


@pytest.mark.parametrize(("layers", "count"), [(8, 1_930_618), (5, 1_275_834)])
def test_search_nets_have_their_published_counts(layers: int, count: int) -> None:
    """DARTS's, and the first stage of P-DARTS (Chen et al., ICCV 2019, arXiv:1904.12760)."""
    with torch.device("meta"):
        space = cell_space((3, 32, 32), 10, channels=16, layers=layers)
        assert params(CellSupernet(space)) == count
        assert params(CellSupernet(space, DARTS_OPS[1:])) == count


def test_every_cell_has_fourteen_edges_of_all_operations() -> None:
    for cell in cast(list[MixedCell], list(CellSupernet(SPACE).cells)):
        assert len(cell.edges) == 14
        for edge in cast(list[MixedEdge], list(cell.edges)):
            assert set(edge.ops) == set(DARTS_OPS) - {"none"}


def test_certain_weights_make_it_the_network_that_they_choose() -> None:
    torch.manual_seed(0)
    supernet = CellSupernet(SPACE).eval()
    architecture = SPACE.architecture(GENOTYPE)
    child = WiredNetwork(architecture.blocks, architecture.inputs).eval()
    _copy(supernet, child)
    x = torch.randn(2, 3, 16, 16)
    weights = certain(GENOTYPE.normal), certain(GENOTYPE.reduction)
    torch.testing.assert_close(supernet(x, *weights), child(x))
    masks = tuple(weight.bool().tolist() for weight in weights)
    torch.testing.assert_close(supernet(x, *weights, masks), child(x))


def _copy(supernet: CellSupernet, child: WiredNetwork) -> None:
    """Write the weights of the chosen operations into the child."""
    for name, target in zip(lay_out(SPACE.stack, GENOTYPE).names, child.blocks, strict=True):
        if name:
            # batch norms of the search net have no gain and shift: the child keeps its 1 and 0
            target.load_state_dict(supernet.get_submodule(name).state_dict(), strict=False)


def test_the_weight_of_none_changes_nothing_and_has_gradient_zero() -> None:
    supernet = CellSupernet(SPACE).eval()
    x = torch.randn(2, 3, 16, 16)
    weights = uniform().requires_grad_()
    logits = supernet(x, weights, weights)
    logits.square().sum().backward()
    assert weights.grad is not None
    assert not weights.grad[:, 0].any() and weights.grad[:, 1:].all()
    heavier = weights.detach().clone()
    heavier[:, 0] += 5
    torch.testing.assert_close(supernet(x, heavier, heavier), logits)


def test_normal_weights_are_of_normal_cells_and_reduction_weights_of_reductions() -> None:
    supernet = CellSupernet(cell_space((3, 16, 16), 10, 4, 2)).eval()
    assert [cell.reduction for cell in cast(list[MixedCell], list(supernet.cells))] == [True] * 2
    normal, reduction = uniform().requires_grad_(), uniform().requires_grad_()
    supernet(torch.randn(2, 3, 16, 16), normal, reduction).sum().backward()
    assert normal.grad is None and reduction.grad is not None


def test_only_what_is_to_be_computed_runs() -> None:
    supernet = CellSupernet(SPACE).eval()
    ran: list[str] = []
    for name, module in supernet.named_modules():
        if isinstance(module, MixedEdge):
            for op, part in module.ops.items():
                part.register_forward_hook(lambda *_, name=f"{name} {op}": ran.append(name))
    weights = certain(GENOTYPE.normal), certain(GENOTYPE.reduction)
    masks = tuple(weight.bool().tolist() for weight in weights)
    supernet(torch.randn(1, 3, 16, 16), *weights, masks)
    assert len(ran) == len(set(ran)) == 3 * 8
    ran.clear()
    supernet(torch.randn(1, 3, 16, 16), *weights)
    assert len(ran) == 3 * 14 * 7


def test_a_path_is_a_copy_with_the_operations_that_it_runs() -> None:
    torch.manual_seed(0)
    supernet, images = CellSupernet(SPACE).eval(), torch.randn(2, 3, 16, 16)
    weights = certain(GENOTYPE.normal), certain(GENOTYPE.reduction)
    with torch.no_grad():
        expected = supernet(images, *weights)
        path = CellPath(supernet, *weights).eval()
        assert params(path) < params(supernet) / 2
        for parameter in supernet.parameters():
            parameter.zero_()
        torch.testing.assert_close(path(images), expected)


def test_the_stem_for_large_images_gives_two_sizes() -> None:
    supernet = CellSupernet(cell_space((3, 64, 64), 7, 4, 3, stem="imagenet")).eval()
    assert supernet(torch.randn(1, 3, 64, 64), uniform(), uniform()).shape == (1, 7)
