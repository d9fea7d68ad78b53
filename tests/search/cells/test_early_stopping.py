"""Early stopping by curvature: its time, the parameters that it restores, and the search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from hwnas.search.cells.darts import Darts
from hwnas.search.cells.early_stopping import LAG_EPOCHS, EigenStop
from hwnas.search.log import read_log
from hwnas.search.loop import run_search
from hwnas.search.plan import SearchFiles, SearchPlan
from hwnas.training.images.loader import Batch
from tests.search.cells.test_darts import searcher
from tests.support.tiny import tiny_batch, tiny_data


def fed(values: list[float], stop: EigenStop | None = None) -> tuple[EigenStop, list[int]]:
    """Return the stop after these values, and the evaluation that it restores, if any."""
    stop = stop or EigenStop()
    back: list[int] = []
    for number, value in enumerate(values):
        restored = stop.add(value, [torch.tensor([float(number)])])
        if restored is not None:
            back.append(int(restored[0]))
            break
    return stop, back


def test_level_curvature_never_stops() -> None:
    stop, back = fed([1.0] * 40)
    assert not stop.stopped and not back


def test_it_stops_when_the_average_has_grown_by_a_third() -> None:
    # averages of the last five: 1 up to number 11, then 1.2, 1.4 (over 1.3 of that at 9)
    stop, back = fed([1.0] * 12 + [2.0] * 9)
    assert stop.stopped
    assert len(stop.values) == 14
    assert back == [13 - LAG_EPOCHS]


def test_it_never_stops_before_the_tenth_evaluation() -> None:
    stop, _ = fed([10.0**number for number in range(9)])
    assert not stop.stopped
    assert fed([1e9], stop)[0].stopped


def test_the_sign_of_an_eigenvalue_does_not_matter() -> None:
    assert fed([-1.0] * 12 + [-2.0] * 9)[1] == fed([1.0] * 12 + [2.0] * 9)[1]


def test_a_stop_saved_and_loaded_is_the_same() -> None:
    first, _ = fed([1.0] * 11)
    second = EigenStop()
    second.load_state_dict(first.state_dict())
    assert fed([2.0] * 5, first)[1] == fed([2.0] * 5, second)[1] != []


def test_the_eigenvalue_is_that_of_the_whole_hessian() -> None:
    strategy = searcher()
    strategy.weight_step(tiny_batch(), 0.05)
    images, labels = tiny_batch()
    weights = dict(strategy.supernet.named_parameters())
    shape = strategy.alpha[1].shape

    def loss(flat: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(
            strategy._run(weights, [strategy.alpha[0].detach(), flat.view(shape)], images), labels
        )

    with strategy.weights.frozen():
        # one cell, a reduction: the normal alpha has no part in the loss
        hessian = torch.autograd.functional.hessian(loss, strategy.alpha[1].detach().flatten())
    assert isinstance(hessian, torch.Tensor)
    wanted = torch.linalg.eigvalsh(hessian).abs().max().item()
    assert abs(strategy.eigenvalue((images, labels))) == pytest.approx(wanted, rel=0.15)


def batch(seed: int) -> Batch:
    return next(tiny_data(8, seed=seed).in_order())


def test_a_network_that_does_not_change_has_the_same_eigenvalue_each_epoch() -> None:
    strategy = searcher()
    strategy.weight_step(tiny_batch(), 0.05)
    values = {strategy.eigenvalue(batch(seed)) for seed in range(4)}
    assert len(values) == 1 and values != {0.0}
    again = searcher()
    again.load_state_dict(strategy.state_dict())
    assert again.eigenvalue(batch(7)) in values
    other = searcher()
    other.weight_step(tiny_batch(), 0.05)
    assert other.eigenvalue(batch(7)) not in values


def stops(noise: float, epochs: int, growth: float = 1.0, searches: int = 200) -> float:
    """Return the share of searches that stop, when the eigenvalue grows by the factor ``growth``
    from first to last epoch under noise of a standard deviation of ``noise`` times its mean."""
    generator = torch.Generator().manual_seed(0)
    trend = torch.linspace(0, 1, epochs).mul(math.log(growth)).exp()
    shape = (searches, epochs)
    draws = 1 + noise * torch.randn(shape, generator=generator)
    return sum(bool(fed(row)[1]) for row in (trend * draws).tolist()) / searches


@pytest.mark.parametrize("epochs", [20, 50, 150])
def test_false_stops_are_rare_with_a_tenth_of_noise(epochs: int) -> None:
    assert stops(0.1, epochs) <= 0.02
    assert stops(0.35, epochs) >= 0.3  # why the images may not change


def test_fast_growth_stops_under_noise() -> None:
    assert stops(0.1, 50, growth=100.0) >= 0.95


class Third(EigenStop):
    """Stops at the third evaluation and restores the first."""

    first_arch: list[torch.Tensor]

    def add(self, value: float, arch: Sequence[torch.Tensor]) -> list[torch.Tensor] | None:
        self.values.append(value)
        if len(self.values) == 1:
            self.first_arch = [part.detach().clone() for part in arch]
        self.stopped = len(self.values) == 3
        return self.first_arch if self.stopped else None


def test_a_search_measures_once_an_epoch_until_it_is_stopped(tmp_path: Path) -> None:
    strategy = searcher(Darts)
    stop = strategy.eigen_stop = Third()
    files = SearchFiles(tmp_path / "s", tmp_path / "l")
    plan = SearchPlan(warmup_epochs=1, search_epochs=4, batch_size=8)
    run_search(strategy, tiny_data(32), tiny_data(32, seed=1), plan, 0, files)
    epochs = [line.epoch for line in read_log(files.log) if line.eigenvalue is not None]
    assert epochs == [1, 2, 3]
    for part, first in zip(strategy.arch, stop.first_arch, strict=True):
        assert torch.equal(part, first)
