"""A search and a training that are killed at a random step end with the same weights."""

from __future__ import annotations

import os
import signal
from hashlib import sha256
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

import pytest
import torch
from torch import Tensor

from hwnas.nn.build import build
from hwnas.search import loop as search_loop
from hwnas.search.log import LogLine
from hwnas.search.loop import run_search
from hwnas.search.plan import SearchFiles, SearchPlan
from hwnas.search.proxyless.gradient import ProxylessGradient
from hwnas.search.strategy import SearchContext
from hwnas.training import loop as training_loop
from hwnas.training.compute import Compute
from hwnas.training.log import Progress
from hwnas.training.loop import train
from hwnas.training.plan import TrainingPlan
from tests.support.machines.fake_gpu import NAME, needs_fake_gpu
from tests.support.machines.forked import CONTEXT, fork
from tests.support.tiny import MB33, MB36, tiny_costs, tiny_data, tiny_space

SPACE = tiny_space(MB33, MB36)
TRAINING = TrainingPlan(epochs=4, batch_size=8, ema=0.9)
SEARCH = SearchPlan(warmup_epochs=2, search_epochs=2, batch_size=8)
STEPS = 4 * (tiny_data().labels.numel() // 8)


def work(kind: str, device: str, folder: Path, steps: Connection | None = None) -> str:
    """Train or search in ``folder``, continuing what is there; return the digest of the weights.

    Every step is saved; its number is sent to ``steps``.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # another number gives other bits
    with pytest.MonkeyPatch.context() as monkeypatch:
        digest = _work(kind, device, folder, steps, monkeypatch)
    torch.set_num_threads(threads)
    return digest


def _work(
    kind: str,
    device: str,
    folder: Path,
    steps: Connection | None,
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    for module in (training_loop, search_loop):
        monkeypatch.setattr(module, "CHECKPOINT_INTERVAL_S", 0.0)
        monkeypatch.setattr(module, "READ_STEPS", 1)
    compute = Compute(device)
    torch.manual_seed(0)
    state = (training if kind == "training" else searching)(compute, folder, steps)
    digest = sha256()
    for name in sorted(state):
        digest.update(state[name].cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def training(compute: Compute, folder: Path, steps: Connection | None) -> dict[str, Tensor]:
    network = compute.place(build(SPACE.architecture(SPACE.default), dropout=0.2))

    def on_progress(progress: Progress) -> None:
        if steps is not None:
            steps.send(progress.step)

    data = tiny_data().placed(compute)
    train(network, data, TRAINING, 0, folder / "checkpoint", on_progress=on_progress)
    return network.state_dict()


def searching(compute: Compute, folder: Path, steps: Connection | None) -> dict[str, Tensor]:
    strategy = ProxylessGradient.begin(
        SearchContext(
            space=SPACE,
            costs=tiny_costs(SPACE),
            budget_ms=2.5,
            generator=torch.Generator().manual_seed(0),
            arch_learning_rate=0.05,
            compute=compute,
        )
    )

    def on_line(line: LogLine) -> None:
        if steps is not None:
            steps.send(line.step + 1)

    data, valid = tiny_data().placed(compute), tiny_data(16, seed=1).placed(compute)
    files = SearchFiles(folder / "checkpoint", folder / "log.jsonl")
    run_search(strategy, data, valid, SEARCH, 0, files, on_line=on_line)
    return strategy.state_dict()


def kill_at(kind: str, device: str, folder: Path, step: int) -> None:
    """Start the work in a process of its own, and kill that when it has done ``step`` steps."""
    receiver, sender = CONTEXT.Pipe(duplex=False)
    process = fork(work, kind, device, folder, sender)
    sender.close()
    while receiver.recv() < step:
        pass
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("kind", ["training", "search"])
@pytest.mark.parametrize(
    ("device", "kills"), [("cpu", 10), pytest.param(NAME, 3, marks=needs_fake_gpu)]
)
def test_work_killed_at_any_step_ends_with_the_same_weights(
    kind: str, device: str, kills: int, tmp_path: Path
) -> None:
    (tmp_path / "whole").mkdir()
    expected = work(kind, device, tmp_path / "whole")
    rng, resumed = Random(0), 0
    for number in range(kills):
        folder = tmp_path / str(number)
        folder.mkdir()
        kill_at(kind, device, folder, rng.randrange(1, STEPS))
        resumed += (folder / "checkpoint").exists()
        assert work(kind, device, folder) == expected, number
    assert resumed > kills // 2  # else nothing was continued
