"""Predict, evaluate and measure with model files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from hwnas.benchmarking.result import BenchmarkResult
    from hwnas.devices.profile import DeviceProfile
    from hwnas.evaluation.classifier import InputValues
    from hwnas.evaluation.images import SplitName
    from hwnas.evaluation.predict import Prediction
    from hwnas.evaluation.result import Evaluation


def predict(
    model: str | Path,
    images: Sequence[str | Path] | np.ndarray,
    *,
    input_values: InputValues | None = None,
    labels: str | Path | None = None,
) -> list[Prediction]:
    """Return the five most probable classes of each image, by a model file in its own runtime.

    ``model`` is an ``.onnx`` or ``.tflite`` file, a bundle or a run folder. ``images`` are paths of
    image files, or uint8 pixels ``[N, H, W]``, ``[N, H, W, C]`` or ``[N, C, H, W]`` of any size,
    with 1 or 3 channels. A file that hwnas did not compile needs ``input_values``, the
    normalisation of its images, and ``labels``, a text file with a class name in each line.

    Raises `InvalidFile` for a model or an image that cannot be read, `UsageError` for a model
    that is no classifier of images.

        >>> import hwnas, numpy as np
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4))
        >>> artifact = hwnas.export(net, (3, 8, 8), "net.onnx")
        >>> photos = np.zeros((2, 20, 30, 3), dtype=np.uint8)
        >>> [first, second] = hwnas.predict("net.onnx", photos, input_values="0..1")
        >>> len(first.classes), first.classes[0].score >= first.classes[1].score
        (4, True)

    """
    from hwnas.data.photos.labelled import ReadingOptions
    from hwnas.evaluation.classifier import find_classifier
    from hwnas.evaluation.predict import predict_arrays, predict_files

    classifier = find_classifier(
        Path(model), input_values, None if labels is None else Path(labels)
    )
    if isinstance(images, Sequence):
        return list(predict_files(classifier, list(map(Path, images)), ReadingOptions()))
    return list(predict_arrays(classifier, images))


def evaluate(
    model: str | Path,
    data: str | Path,
    *,
    split: SplitName | None = None,
    page: str | Path | None = None,
    input_values: InputValues | None = None,
    labels: str | Path | None = None,
    skip_broken: bool = False,
) -> Evaluation:
    """Measure the accuracy of a model file on labelled images, in its own runtime.

    ``model``, ``input_values`` and ``labels`` are those of `predict`; ``data`` is the name of a
    data set or a path. Classes are matched by name. The default ``split`` is the test images; of a
    folder without splits it is all images, if the model was trained on another data set. ``page``
    is the path of an HTML page to write. With ``skip_broken`` images that cannot be read are left
    out and counted.

    Raises `UsageError` for classes that the model does not have, `InvalidFile` for a model or an
    image that cannot be read.

        >>> import hwnas
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Conv2d(1, 4, 28), nn.Flatten(), nn.Linear(4, 10))
        >>> artifact = hwnas.export(net, (1, 28, 28), "net.tflite")
        >>> result = hwnas.evaluate("net.tflite", "fashion-mnist-6k", input_values="0..1")
        >>> result.images, result.ci95[0] < result.accuracy < result.ci95[1]
        (1000, True)

    """
    from hwnas.data.photos.labelled import ReadingOptions
    from hwnas.evaluation.classifier import find_classifier
    from hwnas.evaluation.evaluate import evaluate_model
    from hwnas.evaluation.page import page as html
    from hwnas.files import write_atomic

    classifier = find_classifier(
        Path(model), input_values, None if labels is None else Path(labels)
    )
    run = evaluate_model(classifier, str(data), split, ReadingOptions(skip_broken))
    if page is not None:
        write_atomic(Path(page), html(run))
    return run.evaluation


def benchmark(
    files: str | Path | Sequence[str | Path],
    target: str | Path | DeviceProfile = "host-cpu",
    *,
    batches: Sequence[int] | None = None,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    per_op: bool = False,
    raw: bool = False,
    wait_idle_s: float = 0.0,
    seed: int = 0,
) -> BenchmarkResult:
    """Measure model files on a device, interleaved beside the reference model, and compare them.

    ``batches`` are batch sizes; the default is each file's own, or 1 if the batch is free.
    ``input_shapes`` are the shapes, without the batch, of inputs of free size, by the names of the
    inputs. ``per_op`` also profiles the time of each operator. Latencies are in milliseconds,
    calibrated by the reference model; with ``raw`` they are those of this run's clock.
    Measurements on this machine first wait at most ``wait_idle_s`` for a quiet core. ``seed``
    decides the inputs and the order of the files.

    Raises `UsageError` or `InvalidFile` for a file that the device does not run, `DeviceError` for
    a device that does not answer, `TooNoisy` if other programs disturb all measurements.

        >>> import hwnas
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4))
        >>> artifact = hwnas.export(net, (3, 8, 8), "net.tflite")
        >>> result = hwnas.benchmark("net.tflite", target="simulated-phone")
        >>> result.kind, result.results[0].median_ms > 0
        ('simulated', True)

    """
    from hwnas.benchmarking.run import BenchmarkRequest, run_benchmark
    from hwnas.deploy.find import find_model_file
    from hwnas.devices.runner import InputShape

    listed = [files] if isinstance(files, str | Path) else files
    return run_benchmark(
        BenchmarkRequest(
            files=tuple(str(find_model_file(str(file))) for file in listed),
            target=str(target) if isinstance(target, Path) else target,
            batches=None if batches is None else tuple(batches),
            input_shapes=tuple(
                InputShape(name, tuple(shape)) for name, shape in (input_shapes or {}).items()
            ),
            per_op=per_op,
            raw=raw,
            wait_idle_s=wait_idle_s,
            seed=seed,
        )
    )
