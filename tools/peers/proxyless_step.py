"""Steps of a ProxylessNAS search by NNI or by hwnas, in one process, on the same supernet.

    python proxyless_step.py nni|hwnas [--steps 10] [--batch 64]

Run by a Python that has NNI 3 (`nni`, `pytorch-lightning`) and hwnas. Both train the supernet of
the `mobile` space at 28 px whose candidates own their weights: the same modules, one weight step
and one architecture step a batch, SGD for the weights, one thread. NNI runs its own loop
(`nni.nas.strategy.Proxyless` in Lightning's trainer), of which only the steps are timed. Prints a
JSON line: milliseconds of processor time of each step, and the growth of the peak memory in MB.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
import warnings
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from hwnas.latency_models.cost import cost_table
from hwnas.nn.supernet import Supernet
from hwnas.search.proxyless.gradient import ProxylessGradient
from hwnas.search.strategy import SearchContext
from hwnas.spaces.mobile.space import MobileSpace, mobile_space
from hwnas.training.seeds import seeded

SHAPE, CLASSES = (1, 28, 28), 10


class Meter:
    """Processor time of steps, and the peak memory since the first."""

    def __init__(self) -> None:
        self.steps_ms: list[float] = []
        self.before_mb = self.peak_mb

    @property
    def peak_mb(self) -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    def begin(self) -> None:
        if not self.steps_ms:
            self.before_mb = self.peak_mb
        self.begun_s = time.process_time()

    def end(self) -> None:
        self.steps_ms.append(1e3 * (time.process_time() - self.begun_s))

    def line(self, version: str) -> str:
        grown_mb = self.peak_mb - self.before_mb
        return json.dumps({"steps_ms": self.steps_ms, "mb": grown_mb, "version": version})


def hwnas_steps(space: MobileSpace, batches: list[tuple[Tensor, Tensor]]) -> str:
    """Run hwnas's steps on the batches."""
    costs = cost_table(space, lambda block: block.macs / 1e6, 0.0)
    context = SearchContext(
        space=space,
        costs=costs,
        budget_ms=0.5 * costs.largest_ms,
        generator=seeded(0, "paths"),
        share_weights=False,
    )
    search, meter = ProxylessGradient.begin(context), Meter()
    for batch in batches:
        meter.begin()
        search.architecture_step(batch)
        search.weight_step(batch, 0.025)
        meter.end()
    return meter.line("hwnas")


def nni_steps(space: MobileSpace, batches: list[tuple[Tensor, Tensor]]) -> str:
    """Run NNI's steps on the batches, in its own loop."""
    warnings.simplefilter("ignore")
    layers: Any = import_module("nni.nas.nn.pytorch")
    evaluators: Any = import_module("nni.nas.evaluator.pytorch")
    strategies: Any = import_module("nni.nas.strategy")
    lightning: Any = import_module("pytorch_lightning")

    class Space(layers.ModelSpace):
        def __init__(self) -> None:
            super().__init__()
            net = Supernet(space, share_weights=False)
            self.stem, self.head = net.stem, net.head
            self.choices = nn.ModuleList(
                layers.LayerChoice(list(op.candidates), label=f"decision {number}")
                for number, op in enumerate(net.ops)
            )

        def forward(self, images: Tensor) -> Tensor:
            x = self.stem(images)
            for choice in self.choices:
                x = choice(x)
            return self.head(x)

    meter = Meter()

    class Timer(lightning.Callback):
        def on_train_batch_start(self, *_: object) -> None:
            meter.begin()

        def on_train_batch_end(self, *_: object) -> None:
            meter.end()

    images, labels = (torch.cat(part) for part in zip(*batches, strict=True))
    data = torch.utils.data.TensorDataset(images, labels)
    size = len(batches[0][1])
    evaluator = evaluators.Classification(
        learning_rate=0.025,
        optimizer=torch.optim.SGD,
        train_dataloaders=evaluators.DataLoader(data, batch_size=size),
        val_dataloaders=evaluators.DataLoader(data, batch_size=size),
        num_classes=CLASSES,
        max_epochs=1,
        limit_val_batches=0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Timer()],
    )
    strategy = strategies.Proxyless()
    model = strategy.mutate_model(Space())
    search = strategy.mutate_evaluator(evaluator)
    search.module.set_model(model)
    search.trainer.fit(search.module, search.train_dataloaders)
    return meter.line(import_module("nni").__version__)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library", choices=("nni", "hwnas"))
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=64)
    words = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    batches = [
        (torch.randn(words.batch, *SHAPE), torch.randint(CLASSES, (words.batch,)))
        for _ in range(words.steps)
    ]
    run = nni_steps if words.library == "nni" else hwnas_steps
    print(run(mobile_space(SHAPE, CLASSES), batches))


if __name__ == "__main__":
    main()
