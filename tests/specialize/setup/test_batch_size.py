"""Trainings and whole runs plan their batches by the free memory, and print it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from torch import Tensor

from hwnas.files import write_json
from hwnas.nn.build import build
from hwnas.nn.memory import image_bytes
from hwnas.spaces.published import published
from hwnas.specialize.setup import batch_size
from hwnas.specialize.setup.batch_size import (
    MEMORY_SHARE,
    STEP_BYTES,
    fitting,
    in_parts,
    processes_for,
    resolve_batch_size,
    step_image_bytes,
)
from hwnas.specialize.setup.effort import EFFORTS
from hwnas.specialize.setup.resolve import Resources, open_run
from hwnas.specialize.spec import RunSpec
from hwnas.specialize.steps.train_network import train_network
from hwnas.specialize.steps.training_setup import TrainSpec
from hwnas.training.compute import CPU, Compute
from hwnas.training.log import EpochLog
from hwnas.training.loop import train
from hwnas.training.plan import TrainingPlan
from tests.support.reporting.consoles import RecordingConsole
from tests.support.reporting.sample_run import SPACE as PHONE_SPACE
from tests.support.reporting.sample_run import put_phone_table, write_images
from tests.support.tiny import tiny_data, tiny_space

SPACE = tiny_space(widths=(8,))
NETWORK = SPACE.architecture(SPACE.default)


def test_mobilenet_v2_at_224_px_takes_what_was_measured() -> None:
    """8.9 GB for batches of 64."""
    assert 64 * image_bytes(published("mobilenet_v2").architecture) / 1e9 == pytest.approx(
        8.9, rel=0.05
    )


def test_batches_are_halved_until_they_fit_and_never_below_four() -> None:
    assert fitting(64, 1e6, 1e9) == 64
    assert fitting(64, 1e6, 32e6 / MEMORY_SHARE) == 32
    assert fitting(64, 1e6, 31e6 / MEMORY_SHARE) == 16
    assert fitting(64, 1e6, 0.0) == 4
    assert fitting(3, 1e6, 0.0) == 3


TUNING = TrainingPlan(batch_size=32, frozen_norms=True)


@pytest.mark.parametrize(("image_bytes", "parts"), [(1e6, 1), (37e6, 1), (38e6, 2), (140e6, 4)])
def test_a_fine_tuning_on_a_cpu_takes_no_more_than_its_share_at_a_time(
    image_bytes: float, parts: int
) -> None:
    plan = in_parts(TUNING, image_bytes, "cpu")
    assert (plan.batch_size, plan.accumulate) == (32, parts)
    assert plan.batch_size / plan.accumulate * image_bytes <= STEP_BYTES


def test_a_part_has_four_images_at_least() -> None:
    assert in_parts(TUNING, 1e12, "cpu").accumulate == 8


def test_batches_that_norms_average_over_and_those_of_a_gpu_stay_whole() -> None:
    assert in_parts(TrainingPlan(batch_size=32), 1e9, "cpu").accumulate == 1
    assert in_parts(TUNING, 1e9, "cuda:0").accumulate == 1


def test_a_fine_tuning_in_parts_has_the_weights_of_whole_batches() -> None:
    def weights(accumulate: int) -> Tensor:
        torch.manual_seed(0)
        network = build(NETWORK)
        plan = msgspec.structs.replace(
            TUNING, epochs=2, batch_size=7, dropout=0.0, accumulate=accumulate
        )
        train(network, tiny_data(24), plan, seed=0)
        return torch.cat([value.flatten() for value in network.state_dict().values()])

    torch.testing.assert_close(weights(3), weights(1), rtol=1e-4, atol=1e-5)


def test_on_a_gpu_an_image_takes_what_two_measured_steps_differ_by(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        batch_size, "_step_peak_bytes", lambda architecture, compute, size: 5e8 + 3e6 * size
    )
    assert step_image_bytes(NETWORK, Compute("cuda:0")) == pytest.approx(3e6)
    assert step_image_bytes(NETWORK, CPU) == image_bytes(NETWORK)


def test_a_batch_fits_the_memory_of_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    free = {"cpu": 1e12, "cuda:1": 16e6 / MEMORY_SHARE}
    monkeypatch.setattr(batch_size, "free_bytes", free.__getitem__)
    sizes = [resolve_batch_size(None, 64, 1e6, lambda text: None, device=device) for device in free]
    assert sizes == [64, 16]
    monkeypatch.setattr(batch_size, "ranks", lambda: 2)  # each has a GPU of its own
    assert resolve_batch_size(None, 64, 1e6, lambda text: None, device="cuda:1") == 32


def test_more_cores_than_networks_take_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_size, "cores", lambda: 64)
    assert [processes_for(networks, CPU) for networks in (1, 4, 100)] == [1, 4, 64]
    assert processes_for(4, Compute("cuda:0")) == 1
    monkeypatch.setattr(batch_size, "cores", lambda: 2)
    assert processes_for(4, CPU) == 2
    monkeypatch.setattr(batch_size, "ranks", lambda: 2)  # all of them train each network
    assert processes_for(4, CPU) == 1


def test_the_peak_of_a_step_is_read_after_its_backward_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events: list[str] = []
    monkeypatch.setattr(
        torch.cuda, "reset_peak_memory_stats", lambda device: events.append("reset")
    )
    monkeypatch.setattr(batch_size, "peak_bytes", lambda device: events.append("peak") or 7)
    step = torch.Tensor.backward
    monkeypatch.setattr(
        torch.Tensor, "backward", lambda loss: (events.append("backward"), step(loss))
    )
    assert batch_size._step_peak_bytes(NETWORK, CPU, 4) == 7
    assert events == ["reset", "backward", "peak"]


def test_a_training_in_little_memory_prints_its_batch_size_and_keeps_it_when_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_json(tmp_path / "network.json", NETWORK)
    data = tiny_data(96)
    pixels, labels = (part.numpy() for part in data.tensors()[:2])
    images = pixels.transpose(0, 2, 3, 1)
    np.savez(tmp_path / "images.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    spec = TrainSpec(
        architecture=str(tmp_path / "network.json"), data=str(tmp_path / "images.npz"), epochs=2
    )
    free = 5 * image_bytes(NETWORK) / MEMORY_SHARE
    monkeypatch.setattr(batch_size, "free_bytes", lambda device: free)
    console = RecordingConsole()

    def cut_off(line: EpochLog) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        train_network(spec, tmp_path / "out", on_epoch=cut_off, console=console)
    text = "batches of 4 images instead of 9: an image takes"
    work = [line for line in console.lines if not line.startswith("images: ")]  # of the data
    assert work[0].startswith(text)
    monkeypatch.setattr(batch_size, "free_bytes", lambda: 1e12)
    train_network(spec, tmp_path / "out", resume=True, console=console)
    assert sum(line.startswith("batches of") for line in console.lines) == 1
    assert msgspec.json.decode((tmp_path / "out" / "batch_size.json").read_bytes()) == 4


def test_a_run_in_little_memory_searches_and_trains_in_smaller_batches_when_resumed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HWNAS_HOME", str(tmp_path / "home"))
    put_phone_table()
    data = write_images(tmp_path / "images.npz")
    spec = RunSpec(targets=("simulated-phone",), data=str(data))
    resources = Resources(console := RecordingConsole())
    default = image_bytes(PHONE_SPACE.architecture(PHONE_SPACE.default))
    networks = EFFORTS[spec.effort].trained + EFFORTS[spec.effort].baselines
    free = 20 * processes_for(networks, CPU) * default / MEMORY_SHARE
    monkeypatch.setattr(batch_size, "free_bytes", lambda device: free)
    with open_run(spec, tmp_path / "run", resources, False) as run:
        pass
    [line] = [line for line in console.lines if line.startswith("batches of")]
    wanted = int(line.split(" instead of ")[1].split(":")[0])
    size = run.search_plan.batch_size
    assert size in (wanted // 2, wanted // 4) and size <= 20 < wanted
    assert run.training_plan.batch_size == size
    assert run.training_plan.peak_learning_rate == pytest.approx(0.1 * size / 64)
    monkeypatch.setattr(batch_size, "free_bytes", lambda: 1e12)
    with open_run(spec, tmp_path / "run", resources, True) as again:
        pass
    assert (again.search_plan, again.training_plan) == (run.search_plan, run.training_plan)
