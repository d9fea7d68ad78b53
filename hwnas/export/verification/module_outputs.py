"""The outputs of a module in PyTorch, on the CPU and in evaluation mode, with which files are
compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from hwnas.errors import ExportError, HwnasError, first_line
from hwnas.export.graph.interface import Interface, torch_dtype
from hwnas.export.graph.modules import ForeignModule, evaluating, float32_on_cpu, unchanged
from hwnas.export.verification.metrics import Array


def module_outputs(
    module: nn.Module, interface: Interface, inputs: Sequence[Array]
) -> dict[str, Array]:
    """Return the outputs, by name, for a batch of one at a time, ``[N, 1, ...]`` each.

    ``inputs`` have N values each, without the batch. Floats are float32. The module stays on its
    device, and the inputs are not changed. Raises `ExportError` with the first line of whatever the
    module raises, and for outputs of changing shapes.
    """
    if isinstance(module, ForeignModule):
        return module.reference_outputs(inputs)
    module = float32_on_cpu(module)
    with evaluating(module), unchanged(module), torch.no_grad(), single_thread():
        runs = [
            _outputs(module, interface, [array[place : place + 1] for array in inputs])
            for place in range(len(inputs[0]))
        ]
    try:
        return {name: np.stack([run[name] for run in runs]) for name in runs[0]}
    except (KeyError, ValueError):
        raise ExportError(
            f"{type(module).__name__} gives outputs of other shapes for other inputs"
        ) from None


@contextmanager
def single_thread() -> Iterator[None]:
    """Let PyTorch compute without its other threads, which wait in busy loops for small layers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def outputs_together(
    module: nn.Module, interface: Interface, inputs: Sequence[Array]
) -> dict[str, Array]:
    """Return the outputs, by name, for all ``inputs`` at once."""
    if isinstance(module, ForeignModule):
        return module.reference_batch(inputs)
    module = float32_on_cpu(module)
    with evaluating(module), unchanged(module), torch.no_grad():
        return _outputs(module, interface, inputs)


def _outputs(module: nn.Module, interface: Interface, inputs: Sequence[Array]) -> dict[str, Array]:
    """Return the outputs for copies of inputs; floats are in the type of the weights."""
    weight = next(module.parameters(), torch.zeros(()))
    floats = weight.dtype if weight.dtype.is_floating_point else torch.float32
    tensors = [
        torch.from_numpy(np.array(array, order="C")).to(torch_dtype(spec.dtype, floats))
        for array, spec in zip(inputs, interface.inputs, strict=True)
    ]
    try:
        outputs = interface.call(module, tensors)
    except HwnasError:
        raise
    except Exception as error:  # a user's code may raise anything
        shapes = ", ".join(str(list(array.shape)) for array in inputs)
        what = "images" if len(inputs) == 1 and inputs[0].ndim == 4 else "inputs"
        message = f"{type(module).__name__} cannot compute {what} {shapes}: {first_line(error)}"
        raise ExportError(message) from error
    return {
        name: _as_array(output, len(inputs[0]), single=len(outputs) == 1)
        for name, output in outputs.items()
    }


def _as_array(output: torch.Tensor, batch: int, *, single: bool) -> Array:
    if output.dtype.is_floating_point:
        output = output.float()
        if single and output.dim() < 2 and output.numel():  # squeeze() of a batch of one
            output = output.reshape(batch, -1)
    return output.cpu().numpy()
