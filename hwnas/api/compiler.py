"""Compile PyTorch modules, and compare the files with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from hwnas.architecture.artifact import Artifact, Parity
    from hwnas.export.graph.interface import InputShapes
    from hwnas.export.verification.images import Verification


def export(
    module: nn.Module | str | Path,
    input_shape: InputShapes | None,
    path: str | Path,
    *,
    output_names: Sequence[str] = (),
    images: np.ndarray | Sequence[np.ndarray] | None = None,
    labels: np.ndarray | None = None,
    calibration: np.ndarray | None = None,
) -> Artifact:
    """Compile a PyTorch module to an ``.onnx`` or ``.tflite`` file and verify it.

    ``module`` may also be an ``.onnx`` file of any origin, which needs an ``input_shape`` only if
    it leaves sizes free; its files are compared with it in ONNX Runtime.

    ``input_shape`` is without the batch; for several inputs it is a list, in order, or a dict by
    the names of the arguments. A text such as ``"32:int64"`` states integers. The module may return
    tuples, lists and dicts of tensors: outputs are called by their path, such as ``boxes.0``, or by
    ``output_names``.

    The file runs in its runtime beside ``module`` on ``images`` ``[N, C, H, W]``, which are
    normalised as the module expects them, or on a list of arrays for several inputs; without
    ``images`` on noise. Every output is compared. With ``calibration`` images of the same form the
    file is quantised to int8. Raises `ExportError` for an operation that the compiler does not
    support or a file that differs; no file is left then.

        >>> import hwnas
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4))
        >>> artifact = hwnas.export(net, (3, 8, 8), "net.onnx")
        >>> artifact.parity.max_relative_error < 1e-4
        True
        >>> artifact = hwnas.export(nn.GRUCell(8, 4), {"input": (8,), "hx": (4,)}, "cell.tflite")
        >>> [output.shape for output in artifact.parity.outputs]
        [(1, 4)]

    """
    from hwnas.errors import UsageError
    from hwnas.export.compile import export_module
    from hwnas.export.graph.interface import module_interface
    from hwnas.export.quantization.ptq import Int8

    if isinstance(module, str | Path):
        from hwnas.networks.onnx_file import load_onnx

        module, interface = load_onnx(Path(module), input_shape, output_names)
    elif input_shape is None:
        raise UsageError("export: a module needs its input_shape, such as (3, 224, 224)")
    else:
        interface = module_interface(module, input_shape, output_names)
    return export_module(
        module,
        interface,
        Path(path),
        verification=None if images is None else _verification(images, labels),
        int8=None if calibration is None else Int8(calibration),
    )


def verify(
    path: str | Path,
    module: nn.Module,
    input_shape: InputShapes | None = None,
    *,
    images: np.ndarray | Sequence[np.ndarray] | None = None,
    labels: np.ndarray | None = None,
) -> Parity:
    """Compare a model file, float32 or int8, with a PyTorch module, input by input.

    Needs ``images`` ``[N, C, H, W]``, a list of arrays for several inputs, or ``input_shape`` as
    `export` takes it, to compare on noise. The file runs in a process of its own. Raises
    `ExportError` that names the first layer that differs.

        >>> import hwnas
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4))
        >>> artifact = hwnas.export(net, (3, 8, 8), "net.tflite")
        >>> hwnas.verify("net.tflite", net, (3, 8, 8)).label_agreement
        1.0

    """
    from hwnas.errors import UsageError
    from hwnas.export.compile import noise_for
    from hwnas.export.graph.interface import module_interface
    from hwnas.export.verification.verify import interface_of
    from hwnas.export.verify_file import verify_file

    if images is not None:
        verification = _verification(images, labels)
        interface = interface_of(module, verification)
    elif input_shape is not None:
        interface = module_interface(module, input_shape)
        verification = noise_for(module, interface)
    else:
        raise UsageError("verify: expected images, or input_shape to compare on noise")
    return verify_file(Path(path), module, verification, interface)


def _verification(
    images: np.ndarray | Sequence[np.ndarray], labels: np.ndarray | None
) -> Verification:
    from hwnas.export.verification.images import Verification

    first, *others = images if isinstance(images, list | tuple) else [images]
    return Verification(first, labels, tuple(others))  # type: ignore[arg-type]
