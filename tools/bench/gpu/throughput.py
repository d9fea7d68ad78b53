"""Images a second of training and of a search, and the memory that they take."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hwnas.nn.build import build
from hwnas.search.plan import SearchPlan
from hwnas.spaces.published import adapt, published
from hwnas.specialize.setup.work.pace import search_pace, step_s, training_pace
from hwnas.specialize.setup.work.synthetic import (
    Workload,
    begin_synthetic_search,
    synthetic_data,
)
from hwnas.training.compute import Amp, Compute
from hwnas.training.images.loader import Batch
from hwnas.training.plan import TrainingPlan
from tools.bench.gpu.scale import Rows, Scale

RATE = 0.001
Change = Callable[[nn.Module], nn.Module]


def training(scale: Scale) -> Rows:
    """MobileNetV2 on photos: batch sizes, precisions and memory layouts."""
    precisions: tuple[Amp, ...] = ("bf16", "none") if scale.on_cuda else ("none",)
    return [
        _plain_row(scale, batch_size, amp, layout)
        for batch_size in (64, 256, 512)
        for amp in precisions
        for layout in ("NHWC", "NCHW")
    ]


def search(scale: Scale) -> Rows:
    """Steps of the supernet on photos, beside training of the space's default network."""
    workload = scale.photos(256)
    plain = scale.start()
    data, space = synthetic_data(workload, plain), workload.space
    architecture = space.architecture(space.default)
    plan = TrainingPlan(batch_size=workload.batch_size)
    plain_ms = training_pace(architecture, data, plan, scale.limit_s, perf_counter)
    rows: Rows = [{"step": "plain training", "img_s": 1e3 / plain_ms, "of plain": 1.0}]
    for shared in (True, False):
        for estimator in ("full", "two"):
            rows += _search_rows(scale, workload, estimator, shared, plain_ms)
    return rows


def thumbnails(scale: Scale) -> Rows:
    """Grey images of 28 px, in the device's memory, with augmentation."""
    return [
        {
            "batch": (workload := scale.thumbnails(batch_size)).batch_size,
            "img_s": thumbnail_img_s(scale, workload),
        }
        for batch_size in (64, 512, 2048)
    ]


def thumbnail_img_s(scale: Scale, workload: Workload) -> float:
    """Return images a second of training on 28 px."""
    data, space = synthetic_data(workload, scale.start()), workload.space
    plan = TrainingPlan(batch_size=workload.batch_size)
    architecture = space.architecture(space.default)
    return 1e3 / training_pace(architecture, data, plan, scale.limit_s, perf_counter)


def memory(scale: Scale) -> Rows:
    """Peak memory of MobileNetV2 at two batch sizes, and the memory that each image adds."""
    rows = [_plain_row(scale, batch_size, None, "NHWC") for batch_size in (64, 256)]
    first, second = rows
    images = second["batch"] - first["batch"]
    peaks = [row["peak_bytes"] for row in rows]
    per_image = None if None in peaks else (peaks[1] - peaks[0]) / images
    return [{"batches": f"{first['batch']}, {second['batch']}", "bytes per image": per_image}]


def norms_and_compile(scale: Scale) -> Rows:
    """SyncBatchNorm in one process, and torch.compile, beside plain MobileNetV2."""
    rows: Rows = [{"network": "plain", **_plain_row(scale, 256, None, "NHWC")}]
    if scale.on_cuda:
        _join_alone()
        synced: Change = nn.SyncBatchNorm.convert_sync_batchnorm
        rows += [{"network": "SyncBatchNorm", **_plain_row(scale, 256, None, "NHWC", synced)}]
        torch.distributed.destroy_process_group()
    start = perf_counter()
    compiled: Any = torch.compile
    row = _plain_row(scale, 256, None, "NHWC", compiled)
    rows += [{"network": "torch.compile", **row, "whole_s": perf_counter() - start}]
    return rows


def _join_alone() -> None:
    distributed: Any = torch.distributed
    store = distributed.HashStore()
    distributed.init_process_group("nccl", store=store, rank=0, world_size=1)


def _plain_row(
    scale: Scale,
    batch_size: int,
    amp: Amp | None,
    layout: Literal["NHWC", "NCHW"],
    change: Change = lambda network: network,
) -> dict[str, Any]:
    """Time training steps of MobileNetV2 on a batch that stays where it is."""
    compute = scale.start(amp)
    workload = scale.photos(batch_size)
    batch = next(synthetic_data(workload, compute).in_order(workload.batch_size))
    named = published("mobilenet_v2").architecture
    network = build(adapt(named, workload.input_shape, workload.classes)).train()
    memory_format = torch.channels_last if layout == "NHWC" else torch.contiguous_format
    placed = change(network.to(compute.device, memory_format=memory_format))  # type: ignore[call-overload]
    batch = batch[0].contiguous(memory_format=memory_format), batch[1]
    seconds = step_s(_step(placed, batch, compute), scale.limit_s, perf_counter)
    return {
        "batch": workload.batch_size,
        "precision": "TF32" if compute.amp == "none" and scale.on_cuda else compute.amp,
        "layout": layout,
        "img_s": workload.batch_size / seconds,
        "peak_bytes": scale.peak_bytes(),
    }


def _step(network: nn.Module, batch: Batch, compute: Compute) -> Callable[[], Tensor]:
    optimizer = torch.optim.SGD(network.parameters(), RATE, 0.9, nesterov=True)

    def step() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        with compute.autocast():
            logits = network(batch[0])
        loss = F.cross_entropy(logits.float(), batch[1], label_smoothing=0.1)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def _search_rows(
    scale: Scale,
    workload: Workload,
    estimator: Literal["full", "two"],
    shared: bool,
    plain_ms: float,
) -> Rows:
    compute = scale.start()
    data = synthetic_data(workload, compute)
    strategy = begin_synthetic_search(workload.space, compute, estimator, shared)
    plan = SearchPlan(batch_size=workload.batch_size)
    times_ms = search_pace(strategy, data, data, plan, scale.limit_s, perf_counter)
    weights = "shared" if shared else "separate"
    return [
        {
            "step": f"{kind}, {weights}",
            "img_s": 1e3 / image_ms,
            "of plain": image_ms / plain_ms,
            "peak_bytes": scale.peak_bytes(),
        }
        for kind, image_ms in zip(("weights", f"architecture {estimator}"), times_ms, strict=True)
    ]
