"""A user's module in the form that is compiled and compared: on the CPU, in evaluation mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from itertools import chain

import torch
from torch import nn

HALF = (torch.float16, torch.bfloat16)


def float32_on_cpu(module: nn.Module) -> nn.Module:
    """Return ``module``, or a copy of it on the CPU, with weights of 16 bits as float32.

    Convolutions on GPUs round to TF32 by default, and 16 bits to three digits, both too coarse to
    compare a file with. `torch.nn.DataParallel` is taken off.
    """
    if isinstance(module, nn.DataParallel):
        module = module.module
    tensors = list(chain(module.parameters(), module.buffers()))
    if any(tensor.dtype in HALF for tensor in tensors):
        return deepcopy(module).cpu().float()
    if all(tensor.device.type == "cpu" for tensor in tensors):
        return module
    return deepcopy(module).cpu()


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put every part of ``module`` in evaluation mode and restore its mode afterwards."""
    flags = [(part, part.training) for part in module.modules()]
    try:
        for part, _ in flags:
            part.training = False
        yield
    finally:
        for part, training in flags:
            part.training = training
