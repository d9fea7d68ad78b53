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

    ``module`` may also be the path of an ``.onnx`` file of any origin. It needs an ``input_shape``
    only for free sizes, and the new file is compared with it in ONNX Runtime.

    ``input_shape`` excludes the batch, e.g. ``(3, 224, 224)``; for several inputs it is a list, in
    order, or a dict by the names of the arguments. A text such as ``"32:int64"`` states the type,
    too. The module may return tuples, lists and dicts of tensors: outputs are named by their path,
    such as ``boxes.0``, or by ``output_names``.

    The file runs in its runtime on ``images`` ``[N, C, H, W]``, float32 and normalised as the
    module expects them, or on a list of arrays for several inputs, else on noise; every output is
    compared with that of the module. ``labels`` ``[N]`` are class indices and add accuracies to
    ``artifact.parity``. With ``calibration`` images of the same form as ``images`` the file is
    quantised to int8.

    Raises `UsageError` for an input or a suffix that does not fit, `ExportError` for an operation
    that the compiler does not support and for a file whose outputs differ; then no file is left.

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
    """Compare the outputs of a model file, float32 or int8, with those of a PyTorch module.

    ``images`` ``[N, C, H, W]`` are normalised float32 arrays (a list of arrays for several inputs),
    with ``labels`` ``[N]`` if accuracies are wanted; without images both run on noise of
    ``input_shape``, as in `export`. The file runs in a process of its own.

    Raises `UsageError` without images and input shape, `InvalidFile` for a damaged file, and
    `ExportError`, with the name of the first layer that differs, if the outputs differ too much.

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
