"""The device of the GPU's evaluation, and its sizes: real or tiny."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from hwnas.specialize.setup.work.synthetic import Workload
from hwnas.training.compute import Amp, Compute

Rows = list[dict[str, Any]]
"""Figures of a part: each dict is a row of its table."""


class Scale(NamedTuple):
    """The device, and whether sizes are tiny: then all code runs, but its figures mean nothing."""

    device: str
    small: bool = False

    @property
    def on_cuda(self) -> bool:
        return self.device.startswith("cuda")

    @property
    def limit_s(self) -> float:
        """Time for which a step is measured."""
        return 0.05 if self.small else 1.0

    def compute(self, amp: Amp | None = None) -> Compute:
        """Return the device with bf16 on a GPU, or the precision that is given."""
        return Compute(self.device, amp or ("bf16" if self.on_cuda else "none"))

    def photos(self, batch_size: int) -> Workload:
        """Return the work on photos, of 224 px and 1,000 classes."""
        size, classes = (32, 10) if self.small else (224, 1000)
        return Workload((3, size, size), classes, self.batch(batch_size), 1_231_167)

    def thumbnails(self, batch_size: int) -> Workload:
        """Return the work on grey images of 28 px."""
        size = 16 if self.small else 28
        return Workload((1, size, size), 10, self.batch(batch_size), 60_000)

    def batch(self, images: int) -> int:
        return max(2, images // 128) if self.small else images

    def start(self, amp: Amp | None = None) -> Compute:
        """Begin a measurement: memory is counted from here."""
        compute = self.compute(amp)
        compute.start()
        if self.on_cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)
        return compute

    def peak_bytes(self) -> int | None:
        """Return the GPU's peak memory since `start`; None on a CPU, whose process only grows."""
        return torch.cuda.max_memory_allocated(self.device) if self.on_cuda else None
