"""The full effort follows papers, in epochs, batches, rates and augmentation."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

from hwnas.search.cells.darts import ARCH_RATE as DARTS_ARCH_RATE
from hwnas.search.registry import load_strategy
from hwnas.spaces.find import find_space
from hwnas.spaces.int8 import in_float
from hwnas.specialize.setup import batch_size
from hwnas.specialize.setup.batch_size import MEMORY_SHARE, image_bytes
from hwnas.specialize.setup.effort import EFFORTS
from hwnas.specialize.setup.resolve import Resources, open_run
from hwnas.specialize.setup.work.recipes import (
    CELLS,
    DARTS,
    EAS,
    IMAGENET_IMAGES,
    PC_DARTS,
    PROXYLESS_CIFAR,
    PROXYLESS_IMAGENET,
    Recipe,
    recipe_of,
    recipe_plans,
)
from hwnas.specialize.spec import RunSpec
from hwnas.training.plan import learning_rate
from tests.support.reporting.consoles import RecordingConsole
from tests.support.reporting.sample_run import SPACE, put_phone_table, write_images

PHOTO, SMALL = (3, 224, 224), (3, 32, 32)


def test_imagenet_has_the_epochs_batches_and_steps_of_proxylessnas() -> None:
    search, training = recipe_plans(PROXYLESS_IMAGENET, IMAGENET_IMAGES, PHOTO, None)
    assert (search.warmup_epochs, search.search_epochs, training.epochs) == (40, 120, 300)
    assert (search.batch_size, training.batch_size) == (256, 256)
    steps = IMAGENET_IMAGES // search.batch_size
    assert (steps, steps // search.weight_steps) == (4809, 961)
    assert (search.first_arch_epoch, search.last_rate, search.warmup_rise) == (1, 0, 0)
    assert (search.warmup_learning_rate, search.search_learning_rate) == (0.05, 0.025)
    assert search.augmentation.min_crop_area == training.augmentation.min_crop_area == 0.08
    assert (search.augmentation.brightness, search.augmentation.saturation) == (32 / 255, 0.5)
    assert (search.augmentation.contrast, search.augmentation.hue) == (0, 0)
    assert (training.weight_decay, training.label_smoothing, training.ema) == (4e-5, 0.1, 0)
    rates = [learning_rate(training, step, steps) for step in (0, 150 * steps, 300 * steps)]
    assert rates == pytest.approx([0.05, 0.025, 0.0])


def test_reinforce_has_the_updates_and_the_images_of_proxylessnas_for_its_rewards() -> None:
    space = in_float(find_space("mobile", PHOTO, 10))
    recipe = recipe_of(space, "reinforce", 224)
    search, training = recipe_plans(recipe, IMAGENET_IMAGES, PHOTO, None)
    assert IMAGENET_IMAGES // search.batch_size // search.weight_steps == 300
    assert (search.arch_images, recipe.arch_learning_rate) == (1000, 1e-3)
    paper = recipe_plans(PROXYLESS_IMAGENET, IMAGENET_IMAGES, PHOTO, None)
    assert paper[1] == training and paper[0].arch_images == 256
    small = recipe_of(in_float(find_space("mobile", SMALL, 10)), "reinforce", 32)
    assert (small.search.arch_images, small.arch_learning_rate) == (1000, 1e-2)


def test_an_epoch_of_very_few_images_has_an_architecture_step() -> None:
    recipe = recipe_of(in_float(find_space("mobile", SMALL, 10)), "reinforce", 32)
    for images in (9, 24, 60, 200):
        search, _ = recipe_plans(recipe, images, SMALL, None)
        assert 1 <= search.weight_steps <= images // search.batch_size


def test_more_images_than_in_the_paper_have_fewer_epochs() -> None:
    search, training = recipe_plans(PROXYLESS_IMAGENET, 10 * IMAGENET_IMAGES, PHOTO, None)
    assert (search.warmup_epochs, search.search_epochs, training.epochs) == (4, 12, 30)
    assert recipe_plans(DARTS, 10**9, SMALL, None)[0].warmup_epochs == 0


def test_few_images_have_the_epochs_of_the_paper_in_smaller_batches_at_lower_rates() -> None:
    search, training = recipe_plans(PROXYLESS_IMAGENET, 3000, PHOTO, None)
    assert (search.warmup_epochs, search.search_epochs, training.epochs) == (40, 120, 300)
    assert search.batch_size == training.batch_size == 32
    assert training.peak_learning_rate == pytest.approx(0.05 / 8)
    assert search.search_learning_rate == pytest.approx(0.025 / 8)
    assert search.augmentation.min_crop_area == 0.25
    assert recipe_plans(PROXYLESS_IMAGENET, 80, PHOTO, None)[0].batch_size == 10


def test_grey_images_are_neither_mirrored_nor_recoloured_unless_asked() -> None:
    augmentation = recipe_plans(PROXYLESS_IMAGENET, 3000, (1, 224, 224), None)[1].augmentation
    assert not (augmentation.colours or augmentation.flip)
    assert recipe_plans(DARTS, 3000, (1, 28, 28), True)[1].augmentation.flip
    assert not recipe_plans(DARTS, 3000, SMALL, False)[0].augmentation.flip


@pytest.mark.parametrize(
    ("space", "strategy", "size", "recipe"),
    [
        ("mobile", "proxyless", 224, PROXYLESS_IMAGENET),
        ("mobile", "proxyless", 32, PROXYLESS_CIFAR),
        ("tree", "proxyless", 32, PROXYLESS_CIFAR),
        ("cells", "darts", 32, DARTS),
        ("cells", "pc-darts", 32, PC_DARTS),
        ("chain", "eas", 32, EAS),
    ],
)
def test_each_space_has_the_recipe_of_its_paper(
    space: str, strategy: str, size: int, recipe: Recipe
) -> None:
    assert recipe_of(in_float(find_space(space, (3, size, size), 10)), strategy, size) is recipe


def test_cells_of_any_other_search_are_trained_as_those_of_darts() -> None:
    recipe = recipe_of(find_space("cells", SMALL, 10), "random", 32)
    assert recipe.training == DARTS.training
    assert recipe.search == PROXYLESS_CIFAR.search


def test_recipes_of_cells_name_strategies_that_alternate_steps() -> None:
    """They give epochs and rates of such steps."""
    for name in CELLS:
        assert not load_strategy(name).traits.own_loop, name


def test_cifar_10_recipes_have_the_figures_of_their_papers() -> None:
    search, training = recipe_plans(DARTS, 45_000, SMALL, None)
    assert (search.search_epochs, search.batch_size, search.weight_steps) == (50, 64, 1)
    assert search.search_learning_rate * search.last_rate == pytest.approx(0.001)
    assert (training.epochs, training.batch_size, training.clip_norm) == (600, 96, 5)
    assert (training.peak_learning_rate, training.weight_decay) == (0.025, 3e-4)
    assert training.decay_all and not training.nesterov
    assert (training.augmentation.cutout * 32, training.augmentation.shift * 32) == (16, 4)
    assert (training.auxiliary, training.drop_path) == (0.4, 0.2)
    search = recipe_plans(PC_DARTS, 45_000, SMALL, None)[0]
    assert (search.batch_size, search.search_learning_rate, search.first_arch_epoch) == (
        256,
        0.1,
        15,
    )
    search, training = recipe_plans(EAS, 45_000, SMALL, None)
    assert (search.child_epochs, training.epochs, training.peak_learning_rate) == (20, 300, 0.1)


def test_searches_of_cells_have_no_warm_up_and_the_rates_of_their_papers() -> None:
    """Epochs, batch, learning rate at the start and at the end, of architecture parameters."""
    figures = {
        "darts": (50, 64, 0.025, 0.001, 3e-4),
        "darts-2": (50, 64, 0.025, 0.001, 3e-4),
        "pc-darts": (50, 256, 0.1, 0.0, 6e-4),
        "ista": (50, 256, 0.1, 0.001, 6e-4),
        "ista-one-stage": (120, 96, 0.025, 0.025, 3e-4),
    }
    assert figures.keys() == CELLS.keys()
    for name, (epochs, batch, first, last, arch) in figures.items():
        recipe = CELLS[name]
        search, training = recipe_plans(recipe, 45_000, SMALL, None)
        assert (search.warmup_epochs, search.search_epochs) == (0, epochs), name
        assert (search.batch_size, search.weight_steps) == (batch, 1), name
        rates = (search.search_learning_rate, search.search_learning_rate * search.last_rate)
        assert rates == pytest.approx((first, last)), name
        module = import_module(load_strategy(name).__module__)
        share = getattr(module, "ARCH_RATE", DARTS_ARCH_RATE)
        assert share * recipe.arch_learning_rate == pytest.approx(arch), name
        assert training == recipe_plans(DARTS, 45_000, SMALL, None)[1], name
    # the one-stage search trains the network itself, which has cutout
    assert CELLS["ista-one-stage"].search.augmentation.cutout == 0.5
    assert CELLS["ista"].search.augmentation.cutout == 0


def test_eas_shows_as_many_images_of_a_larger_set_as_of_cifar_10() -> None:
    search, training = recipe_plans(EAS, 598_388, SMALL, False)  # SVHN with its extra images
    assert (search.child_epochs, training.epochs) == (2, 23)
    assert not training.augmentation.flip


def test_a_batch_that_does_not_fit_the_memory_is_computed_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path / "home"))
    put_phone_table()
    data = write_images(tmp_path / "images.npz")
    spec = RunSpec(targets=("simulated-phone",), data=str(data), effort="full")
    largest = image_bytes(SPACE.architecture(SPACE.default))
    monkeypatch.setattr(batch_size, "free_bytes", lambda device: 9 * largest / MEMORY_SHARE)
    console = RecordingConsole()
    with open_run(spec, tmp_path / "run", Resources(console), False) as run:
        pass
    plan = run.training_plan
    assert plan.batch_size == run.search_plan.batch_size == 192 // 8
    assert plan.accumulate == run.search_plan.accumulate > 1
    assert plan.batch_size / plan.accumulate <= 9
    assert any("as many images as planned" in line for line in console.lines)
    assert run.effort.arch_learning_rate == PROXYLESS_CIFAR.arch_learning_rate
    assert run.effort.trained == EFFORTS["full"].trained
