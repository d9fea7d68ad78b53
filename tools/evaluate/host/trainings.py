"""Trainings of an evaluation, each done once; they go on on another day or machine."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from hwnas.architecture.architecture import Architecture
from hwnas.files import append_line, read_lines, write_json
from hwnas.training.job import read_result
from tools.evaluate.host.groups import RESULTS, Member
from tools.evaluate.host.rows import Row, group_row


class Training(msgspec.Struct, frozen=True):
    """One finished training of ``trainings.jsonl``."""

    digest: str
    data: str
    epochs: int
    seed: int
    test_accuracy: float


TRAININGS = RESULTS / "trainings.jsonl"


def train_and_test(
    work: Path, architecture: Architecture, data: str, epochs: int, seed: int
) -> float:
    """Train a network, unless it was trained before; return its accuracy on the test images."""
    for training in read_lines(TRAININGS, Training):
        same = training.digest == architecture.digest and training.data == data
        if same and (training.epochs, training.seed) == (epochs, seed):
            return training.test_accuracy
    folder = work / "accuracy" / f"{data}-{epochs}" / f"{architecture.digest}-{seed}"
    write_json(folder / "architecture.json", architecture)
    command = [sys.executable, "-m", "hwnas", "train", "--resume", "--epochs", str(epochs)]
    command += ["--architecture", str(folder / "architecture.json"), "--data", data]
    command += ["--out", str(folder), "--seed", str(seed)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    accuracy = _evaluate(architecture, folder, data)
    append_line(TRAININGS, Training(architecture.digest, data, epochs, seed, accuracy))
    return accuracy


def _evaluate(architecture: Architecture, folder: Path, data: str) -> float:
    from hwnas.data.datasets import load_dataset
    from hwnas.networks.weights import trained_network
    from hwnas.training.evaluation import accuracy
    from hwnas.training.images.loader import as_data

    assert read_result(folder) is not None
    dataset = load_dataset(data, input_shape=architecture.input_shape)
    return accuracy(trained_network(architecture, folder), as_data(dataset.test, dataset))


def trained_groups(
    work: Path,
    target: str,
    budget: str,
    groups: dict[str, list[Member]],
    data: str,
    epochs: int,
    seeds: int,
    workers: int,
) -> list[Row]:
    """Train the networks of each group in turn, ``workers`` at once; return a row for each."""
    jobs = [
        (name, nets[seed % len(nets)], seed)
        for seed in range(seeds)
        for name, nets in groups.items()
    ]

    def accuracy_of(job: tuple[str, Member, int]) -> float:
        _, member, seed = job
        return train_and_test(work, member.architecture, data, epochs, seed)

    with ThreadPoolExecutor(workers) as pool:
        accuracies = list(pool.map(accuracy_of, jobs))
    return [group_row(target, budget, name, jobs, accuracies) for name in groups]
