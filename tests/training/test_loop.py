"""Training can be repeated and resumed to the bit; what it reports is what happened."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import msgspec
import pytest
import torch
from torch import Tensor, nn

from hwnas.errors import HwnasError
from hwnas.nn.build import Network, build
from hwnas.training.checkpoint import load_checkpoint, read_place
from hwnas.training.evaluation import accuracy, recalibrate
from hwnas.training.images.augment import NO_AUGMENTATION, Augmentation, draw, moved
from hwnas.training.images.batches import Batches
from hwnas.training.images.loader import Data
from hwnas.training.log import EpochLog
from hwnas.training.loop import train
from hwnas.training.plan import TrainingPlan, one_cycle
from hwnas.training.seeds import derived_seed, seeded
from tests.support.machines.killed import Killed
from tests.support.tiny import tiny_data, tiny_space

SPACE = tiny_space(widths=(8, 8))
PLAN = TrainingPlan(epochs=4, batch_size=8, dropout=0.2)
DATA = tiny_data(42)


def fresh() -> Network:
    torch.manual_seed(0)
    return build(SPACE.architecture(SPACE.uniform(SPACE.candidates[0])), dropout=0.2)


def trained(seed: int = 0) -> dict[str, Tensor]:
    network = fresh()
    train(network, DATA, PLAN, seed)
    return network.state_dict()


def test_training_follows_from_its_seed_whatever_happened_before() -> None:
    first = trained()
    torch.rand(7)
    other, differing = trained(), trained(seed=1)
    assert all(torch.equal(value, other[name]) for name, value in first.items())
    assert not all(torch.equal(value, differing[name]) for name, value in first.items())


@pytest.mark.parametrize("where", ["after the epoch", "within the next"])
def test_a_training_cut_off_in_any_epoch_ends_as_the_undisturbed_one(
    where: str, tmp_path: Path
) -> None:
    expected = trained()
    for last in range(1, PLAN.epochs + (where == "after the epoch")):
        path, network = tmp_path / f"{last}.safetensors", fresh()

        def die(*_: object) -> None:
            raise Killed

        def cut(log: EpochLog, last: int = last, network: nn.Module = network) -> None:
            if log.epoch == last:
                if where == "after the epoch":
                    die()
                passes = iter(range(3))
                network.register_forward_hook(lambda *_: die() if next(passes) == 2 else None)

        with pytest.raises(Killed):
            train(network, DATA, PLAN, 0, path, cut)
        epochs: list[int] = []
        network = fresh()
        train(network, DATA, PLAN, 0, path, lambda log, epochs=epochs: epochs.append(log.epoch))
        assert epochs == list(range(last + 1, PLAN.epochs + 1))
        for name, value in network.state_dict().items():
            assert torch.equal(value, expected[name]), name


def test_training_learns_the_columns_that_tell_the_label() -> None:
    network, logs = fresh(), list[EpochLog]()
    plan = msgspec.structs.replace(PLAN, augmentation=NO_AUGMENTATION)
    train(network, DATA, plan, 0, on_epoch=logs.append)
    assert [(log.epoch, log.epochs) for log in logs] == [(n, 4) for n in range(1, 5)]
    assert logs[-1].loss < logs[0].loss


def test_a_loss_that_is_not_finite_stops_in_one_line_and_keeps_the_checkpoint(
    tmp_path: Path,
) -> None:
    path, network = tmp_path / "a.safetensors", fresh()

    def poison(log: EpochLog) -> None:
        if log.epoch == 2:
            with torch.no_grad():
                network.get_parameter("blocks.0.conv.weight").fill_(torch.nan)

    with pytest.raises(
        HwnasError, match=r"not finite in epoch 3, step 1; try a lower .* than 0\.1$"
    ):
        train(network, DATA, PLAN, 0, path, poison)
    state, notes = load_checkpoint(path)
    assert (read_place(notes).epoch, read_place(notes).step) == (2, 10)
    assert all(value.isfinite().all() for value in state.values())


def test_weights_that_a_last_step_broke_are_not_kept(tmp_path: Path) -> None:
    """The loss of a step is that before it: the next one, which would tell, never comes."""
    path, network = tmp_path / "a.safetensors", fresh()
    steps, last = count(1), len(DATA.labels) // PLAN.batch_size

    def break_last(gradient: Tensor) -> Tensor:
        return gradient * torch.nan if next(steps) == last else gradient

    network.get_parameter("blocks.0.conv.weight").register_hook(break_last)
    with pytest.raises(HwnasError, match=r"weight is not finite after the last step of epoch 1; "):
        train(network, DATA, PLAN, 0, path)
    assert not path.exists()


def test_one_cycle_rises_to_the_peak_and_falls_to_zero() -> None:
    rates = [one_cycle(step, 100, peak=0.5, warmup=20) for step in range(101)]
    assert rates[0] == pytest.approx(0.5 / 25)
    assert rates[20] == max(rates) == 0.5
    assert rates[60] == pytest.approx(0.25)
    assert rates[100] == pytest.approx(0)
    assert rates[:21] == sorted(rates[:21]) and rates[20:] == sorted(rates[20:], reverse=True)


def test_even_one_step_has_a_learning_rate() -> None:
    for steps, rise in ((1, 0.0), (1, 0.2), (2, 2.0)):
        assert all(0 < one_cycle(step, steps, 0.1, rise) <= 0.1 for step in range(steps))


@pytest.mark.parametrize(("size", "reach"), [(28, 2), (42, 3), (12, 1)])
def test_augmented_images_are_shifted_a_little_and_mirrored_only_with_flip(
    size: int, reach: int
) -> None:
    ramp = torch.arange(size * size, dtype=torch.float32).view(1, 1, size, size)
    images = ramp.expand(400, 2, size, size)
    for flip in (False, True):
        augmentation = Augmentation(flip=flip)
        shifted = moved(images, augmentation, draw(augmentation, 400, 0, 0, 0))
        assert shifted.shape == images.shape and torch.equal(shifted[:, 0], shifted[:, 1])
        middle = slice(reach, size - reach)  # where the border does not show
        inside = shifted[:, 0, middle, middle]
        rows, columns = inside // size, inside % size
        down = rows[:, 0, 0] - reach
        slope = columns[:, 0, 1] - columns[:, 0, 0]
        right = torch.where(
            slope > 0, columns[:, 0, 0] - reach, size - 1 - reach - columns[:, 0, 0]
        )
        assert set(slope.tolist()) == ({1.0, -1.0} if flip else {1.0})
        for shift in (down, right):
            assert set(shift.tolist()) == set(range(-reach, reach + 1))


def test_the_border_fills_what_a_shift_leaves_open() -> None:
    images = torch.rand(50, 1, 14, 14)
    augmentation = Augmentation(flip=False)
    shifted = moved(images, augmentation, draw(augmentation, 50, 0, 0, 0))
    assert torch.isin(shifted, images).all() and not torch.equal(shifted, images)


def test_batches_are_one_shuffled_pass_without_an_incomplete_end() -> None:
    data = Data(
        torch.arange(22, dtype=torch.uint8).view(22, 1, 1, 1).expand(22, 1, 4, 4),
        torch.arange(22), torch.zeros(1, 1, 1), torch.ones(1, 1, 1),
    )  # fmt: skip
    batches = Batches(data, 5, Augmentation(), 0)
    epoch = [batches.batch(step) for step in range(batches.steps)]
    assert [len(labels) for _, labels in epoch] == [5] * 4
    labels = torch.cat([labels for _, labels in epoch])
    assert len(set(labels.tolist())) == 20 and labels.tolist() != sorted(labels.tolist())
    images = torch.cat([images for images, _ in epoch])
    torch.testing.assert_close(images[:, 0, 0, 0] * 255, labels.float())
    whole = Batches(data, 64, Augmentation(), 0)
    assert whole.steps == 1 and len(whole.batch(0)[1]) == 22


def test_recalibration_gives_the_statistics_of_the_data() -> None:
    network, data = fresh(), tiny_data(100)
    stem = network.get_submodule("blocks.0")
    norm = stem.get_submodule("norm")
    assert isinstance(norm, nn.BatchNorm2d)
    train(network, DATA, PLAN, 0)
    weights = {name: value.detach().clone() for name, value in network.named_parameters()}
    recalibrate(network, data)
    with torch.no_grad():
        before_norm = stem.get_submodule("conv")(data.normalise(data.tensors()[0]))
    torch.testing.assert_close(norm.running_mean, before_norm.mean((0, 2, 3)))
    torch.testing.assert_close(norm.running_var, before_norm.var((0, 2, 3)))
    assert norm.momentum == 0.1 and not network.training
    assert all(torch.equal(value, weights[name]) for name, value in network.named_parameters())


class Echo(nn.Module):
    """Takes the brightness of an image for its label."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.one_hot(images[:, 0, 0, 0].round().long(), 4).float()


def test_accuracy_is_the_share_that_is_right_over_all_batches() -> None:
    shown, labels = torch.arange(600) % 4, torch.arange(600) % 4
    labels[:150] = (labels[:150] + 1) % 4
    images = shown.to(torch.uint8).view(-1, 1, 1, 1)
    data = Data(images, labels, torch.zeros(1, 1, 1), torch.full((1, 1, 1), 1 / 255))
    assert accuracy(Echo(), data) == 0.75


def test_normalised_images_have_the_mean_and_spread_that_were_given() -> None:
    data = tiny_data()._replace(mean=torch.full((1, 1, 1), 0.2), std=torch.full((1, 1, 1), 0.5))
    whole = data.normalise(torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1))
    assert whole.flatten().tolist() == pytest.approx([-0.4, 0, 1.6])


def test_drawn_images_keep_their_labels_and_follow_the_seed() -> None:
    data = tiny_data(30)._replace(labels=torch.arange(30))
    drawn = data.sample(10, seed=3)
    assert torch.equal(drawn.tensors()[0], data.tensors()[0][drawn.labels])
    assert len(set(drawn.labels.tolist())) == 10
    assert torch.equal(drawn.labels, data.sample(10, seed=3).labels)
    assert not torch.equal(drawn.labels, data.sample(10, seed=4).labels)
    assert len(data.sample(99, seed=0).labels) == 30


def test_seeds_differ_by_seed_and_by_word() -> None:
    words = [(), ("train",), ("paths",), ("train", 0), ("train", 1), ("train", 10), ("train1", 0)]
    seeds = [derived_seed(seed, *name) for seed in (0, 1, 10) for name in words]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    # the same on every machine: the first 63 bits of sha256("0/train/1")
    assert derived_seed(0, "train", 1) == 0x66D65D31E4020BF
    first, other = (torch.rand(4, generator=seeded(0, word)) for word in ("a", "b"))
    assert not torch.equal(first, other)
