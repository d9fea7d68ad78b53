"""Two processes that share every batch compute what one process computes on the whole batch, and
end with equal weights."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from msgspec.structs import replace
from torch import Tensor
from torch.distributed.run import main as torchrun

from hwnas.architecture.architecture import Architecture
from hwnas.cli.main import main
from hwnas.data.datasets import load_dataset
from hwnas.errors import UsageError
from hwnas.files import write_json
from hwnas.latency_models.cost import cost_table
from hwnas.nn.build import build
from hwnas.nn.supernet import Supernet
from hwnas.profiling.setup import load_space
from hwnas.search.blackbox.random import RandomSearch
from hwnas.search.log import read_log
from hwnas.search.loop import run_search
from hwnas.search.plan import SearchFiles, SearchPlan
from hwnas.search.proxyless.gradient import ProxylessGradient
from hwnas.search.proxyless.reinforce import Reinforce
from hwnas.search.strategy import SearchContext
from hwnas.spaces.cells.space import cell_space
from hwnas.specialize.distributed.ranks import leading
from hwnas.specialize.distributed.tasks import SearchTask, TrainTask, send, together
from hwnas.specialize.setup.effort import EFFORTS, plans
from hwnas.specialize.spec import RunSpec
from hwnas.training.checkpoint import load_checkpoint, read_place, save_checkpoint
from hwnas.training.compute import CPU
from hwnas.training.distributed import broadcast, broadcast_state, process_group, rank, shard
from hwnas.training.images.augment import Augmentation
from hwnas.training.images.loader import as_data
from hwnas.training.job import TrainingJob
from hwnas.training.loop import train
from hwnas.training.plan import TrainingPlan
from tests.support.machines.forked import fork
from tests.support.machines.ranks import (
    TIMEOUT_S,
    free_port,
    join_and_leave,
    rank_environment,
    run_on_two_ranks,
)
from tests.support.tiny import tiny_costs, tiny_data, tiny_space

SPACE = tiny_space(widths=(8, 16))
PLAN = SearchPlan(
    warmup_epochs=1,
    search_epochs=1,
    batch_size=16,
    warmup_learning_rate=0.05,
    augmentation=Augmentation(flip=False),
)
CELLS = cell_space((1, 12, 12), 4, channels=4, layers=3)
TRAININGS = ("trained", "tuned")
SEARCHES = ("proxyless full", "proxyless two", "reinforce", "cells full", "random")


def searched(kind: str, folder: Path) -> dict[str, Tensor]:
    """Return the state after a short search; the ranks begin with different weights."""
    torch.manual_seed(rank())
    supernet, generator = Supernet(SPACE), torch.Generator().manual_seed(rank())
    costs = tiny_costs(SPACE)
    if kind == "cells full":
        costs = cost_table(CELLS, lambda block: 1e-6 * block.macs, 0.0)
        budget_ms = costs.network_ms(CELLS.default.choices)
        strategy = ProxylessGradient.begin(
            SearchContext(
                space=CELLS,
                costs=costs,
                budget_ms=budget_ms,
                generator=generator,
                arch_learning_rate=0.05,
            )
        )
    elif kind == "random":
        strategy = RandomSearch.begin(
            SearchContext(
                space=SPACE,
                costs=costs,
                budget_ms=2.0,
                generator=generator,
                arch_learning_rate=0.05,
            )
        )
    elif kind == "reinforce":
        strategy = Reinforce(supernet, costs, 2.0, generator, 0.05, networks=3)
    else:
        strategy = ProxylessGradient(
            supernet, costs, 2.0, generator, 0.05, estimator="two" if "two" in kind else "full"
        )
    files = SearchFiles(folder / f"{kind}.safetensors", folder / f"{kind}.jsonl")
    data = tiny_data(64), tiny_data(32, seed=1)
    if kind == "cells full":  # of pooling and many norms: rounding grows tenfold a step
        data = tiny_data(16), tiny_data(16, seed=1)
    run_search(strategy, *data, PLAN, 3, files if rank() == 0 else None)
    return strategy.state_dict()


def trained(kind: str) -> dict[str, Tensor]:
    """Return the weights after a training; only rank 0 has images to validate it."""
    torch.manual_seed(rank())
    network = build(SPACE.architecture(SPACE.default))
    plan = TrainingPlan(
        epochs=2,
        batch_size=16,
        peak_learning_rate=0.05,
        dropout=0.0,
        augmentation=Augmentation(flip=False),
    )
    if kind == "tuned":  # at a low rate: a fitted classifier's weights are large, rounding too
        plan = replace(plan, layer_decay=0.9, probe=True, whole_share=0.5, patience=1)
        plan = replace(plan, peak_learning_rate=0.002)
    valid = tiny_data(32, seed=1) if rank() == 0 else None
    train(network, tiny_data(64), plan, seed=0, valid=valid)
    return network.state_dict()


def everything(folder: Path) -> None:
    """Search and train, and leave the final states in ``folder``, one file a rank."""
    torch.set_num_threads(1)
    for kind in SEARCHES:
        save_checkpoint(folder / f"{kind}-{rank()}.safetensors", searched(kind, folder), {})
    for kind in TRAININGS:
        save_checkpoint(folder / f"{kind}-{rank()}.safetensors", trained(kind), {})


def on_rank(number: int, port: int, folder: Path) -> None:
    os.environ.update(rank_environment(number, port))
    with process_group():
        everything(folder)
        with pytest.raises(
            UsageError, match="a batch of 3 images cannot be split into equal parts for 2 ranks"
        ):
            shard(3)
        assert (
            plans(EFFORTS["quick"], 79, 1e6, Augmentation())[1].batch_size == 8
        )  # 9 has no equal parts
        assert broadcast({"epoch": 3} if number == 0 else None) == {"epoch": 3}
        mine = {"x": torch.full((2,), float(number)), "n": torch.tensor(number)}
        state = broadcast_state(mine)
        assert state["x"].tolist() == [0.0, 0.0] and state["n"].item() == 0


def commanded(number: int, port: int, folder: Path) -> None:
    """Rank 0 tells the other to search a supernet, and searches it as well."""
    os.environ.update(rank_environment(number, port))
    with leading() as first:
        if not first:
            return
        spec = RunSpec(data=str(folder / "images.npz"))
        dataset = load_dataset(spec.data)
        space = load_space("mobile", dataset)
        costs = cost_table(space, lambda block: 1e-3 + 1e-9 * block.macs, 0.0)
        plan = SearchPlan(warmup_epochs=1, search_epochs=1, batch_size=16)
        send(SearchTask(spec, costs, 0.01, 0.01, plan, 1, CPU))
        context = SearchContext(
            space=space,
            costs=costs,
            budget_ms=0.01,
            generator=torch.Generator(),
            arch_learning_rate=0.01,
        )
        strategy = ProxylessGradient.begin(context)
        data = as_data(dataset.train, dataset), as_data(dataset.valid, dataset)
        files = SearchFiles(folder / "search.safetensors", folder / "log.jsonl")
        run_search(strategy, *data, plan, spec.seed, files)


def failing(number: int, port: int, folder: Path) -> None:
    """Rank 0 cannot resume in the middle of a training in which both ranks take part."""
    os.environ.update(rank_environment(number, port))
    with leading() as first:
        if first:
            plan = TrainingPlan(epochs=50, batch_size=16, augmentation=Augmentation(flip=False))
            architecture = msgspec.json.decode(
                (folder / "architecture.json").read_bytes(), type=Architecture
            )
            job = TrainingJob(architecture=architecture, data=str(folder / "images.npz"), plan=plan)
            with together(TrainTask(job)):
                raise OSError("no space left")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What one process leaves, and what two leave."""
    alone, together = tmp_path_factory.mktemp("alone"), tmp_path_factory.mktemp("together")
    assert run_on_two_ranks(on_rank, together, meanwhile=lambda: everything(alone)) == [0, 0]
    return alone, together


@pytest.mark.parametrize("kind", [*SEARCHES, *TRAININGS])
def test_two_ranks_end_alike_and_as_one_process(kind: str, folders: tuple[Path, Path]) -> None:
    """Weights, batch norm statistics, logits, momenta, multiplier."""
    alone, together = folders
    expected, _ = load_checkpoint(alone / f"{kind}-0.safetensors")
    first, _ = load_checkpoint(together / f"{kind}-0.safetensors")
    second, _ = load_checkpoint(together / f"{kind}-1.safetensors")
    assert expected.keys() == first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name
        # Adam's step is 0.05, also for logits whose gradient is hardly more than rounding
        atol = 0.02 if (kind, name) == ("reinforce", "arch_logits") else 2e-4
        torch.testing.assert_close(value, expected[name], rtol=2e-3, atol=atol, msg=name)
    if kind == "reinforce":
        moment = "adam.exp_avg"
        torch.testing.assert_close(first[moment], expected[moment], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("kind", SEARCHES)
def test_the_first_rank_alone_writes_the_log_and_its_numbers_are_of_the_whole_batch(
    kind: str, folders: tuple[Path, Path]
) -> None:
    alone, together = (read_log(folder / f"{kind}.jsonl") for folder in folders)
    least = 1 if kind == "cells full" else 2  # its search has one step of each kind
    assert len(alone) == len(together) > least
    for expected, line in zip(alone, together, strict=True):
        assert (expected.epoch, expected.step, expected.phase) == (
            line.epoch,
            line.step,
            line.phase,
        )
        assert line.loss == pytest.approx(expected.loss, rel=1e-3)
        assert line.accuracy == pytest.approx(expected.accuracy)


def train_command(folder: Path, epochs: int) -> list[str]:
    return [
        "hwnas", "train", "--architecture", str(folder / "architecture.json"),
        "--data", str(folder / "images.npz"), "--out", str(folder / "out"),
        "--epochs", str(epochs), "--batch-size", "16",
    ]  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An architecture and its images, to be trained by the command."""
    write_json(tmp_path / "architecture.json", SPACE.architecture(SPACE.default))
    data = tiny_data(96)
    pixels, labels = (part.numpy() for part in data.tensors()[:2])
    images = pixels.transpose(0, 2, 3, 1)
    np.savez(
        tmp_path / "images.npz", x_train=images, y_train=labels, x_test=images[:12],
        y_test=labels[:12],
    )  # fmt: skip
    return tmp_path


def test_other_ranks_search_what_the_first_one_tells_and_end_with_it(tmp_path: Path) -> None:
    data = tiny_data(48, size=16)
    pixels, labels = (part.numpy() for part in data.tensors()[:2])
    images = pixels.transpose(0, 2, 3, 1)
    np.savez(tmp_path / "images.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    assert run_on_two_ranks(commanded, tmp_path) == [0, 0]
    assert load_checkpoint(tmp_path / "search.safetensors")[1] == {"place": "4 3"}


def command(number: int, port: int, words: list[str], stderr: Path) -> None:
    """Run ``hwnas`` as a rank, with its stderr in a file."""
    os.environ.update(rank_environment(number, port))
    with open(stderr, "w") as file:
        os.dup2(file.fileno(), sys.stderr.fileno())
    sys.argv = words
    main()


def test_no_thread_of_a_process_group_outlives_it(tmp_path: Path) -> None:
    """Also in a process that has not imported what its first optimizer imports."""
    assert run_on_two_ranks(join_and_leave, tmp_path, first=get_context("spawn")) == [0, 0]


def test_an_error_of_the_first_rank_alone_ends_the_others(folder: Path) -> None:
    assert run_on_two_ranks(failing, folder) == [1, 1]


def test_a_lost_rank_ends_the_others_with_one_line_and_the_training_can_go_on(
    folder: Path,
) -> None:
    epochs = 40
    port, words = free_port(), train_command(folder, epochs)
    both = [fork(command, number, port, words, folder / f"{number}.txt") for number in range(2)]
    checkpoint = folder / "out" / "checkpoint.safetensors"
    while not checkpoint.exists() and all(process.is_alive() for process in both):
        time.sleep(0.01)
    both[1].kill()
    both[0].join(TIMEOUT_S)
    assert both[0].exitcode == 1
    # remarks on the data, progress, and one line that says what is wrong
    lines = (folder / "0.txt").read_text().splitlines()
    errors = [line for line in lines if not re.match(r"images: |training$|epoch |  \d+%, ", line)]
    assert len(errors) == 1, errors
    assert errors[0].startswith("hwnas: rank 0 of 2: another rank is lost")

    assert read_place(load_checkpoint(checkpoint)[1]).epoch < epochs
    whole = ["--standalone", "--nproc-per-node", "2", "-m", *words]
    process = fork(torchrun, [*whole, "--resume"])
    process.join(TIMEOUT_S)
    assert process.exitcode == 0
    result = json.loads((folder / "out" / "result.json").read_bytes())
    assert result["epochs"] == epochs
    log = (folder / "out" / "log.jsonl").read_text().splitlines()
    assert [msgspec.json.decode(line)["epoch"] for line in log] == list(range(1, epochs + 1))
