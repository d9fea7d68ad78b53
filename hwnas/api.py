"""The public functions of hwnas, which `import hwnas` gives by name.

They take Python values, do what the commands of the same names do, and return plain data. Errors
that users can mend are `hwnas.HwnasError`, with one line that says what was expected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from hwnas.architecture.architecture import Architecture
    from hwnas.architecture.artifact import Artifact, Parity
    from hwnas.benchmarking.result import BenchmarkResult
    from hwnas.devices.profile import DeviceProfile
    from hwnas.evaluation.classifier import InputValues
    from hwnas.evaluation.images import SplitName
    from hwnas.evaluation.predict import Prediction
    from hwnas.evaluation.result import Evaluation
    from hwnas.export.graph.interface import InputShapes
    from hwnas.export.verification.images import Verification
    from hwnas.latency_models.model import LatencyModel
    from hwnas.pretrained.network import PretrainedNetwork
    from hwnas.report.report import Report
    from hwnas.specialize.tracking import Tracker

Shape = tuple[int, int, int]


class SpecializeOptions(TypedDict, total=False):
    """Options of `specialize` beside device, budget and data; those of `hwnas specialize`."""

    space: str
    """Name or TOML file of the search space."""
    strategy: str
    strategy_options: dict[str, bool | int | float | str]
    """Options of that strategy alone, e.g. ``{"estimator": "two"}`` of ``proxyless``."""
    objective: str
    """How latency enters the search."""
    precision: str | Sequence[str]
    """``fp32`` or ``int8``; of several the better file is delivered."""
    resolution: int | Sequence[int]
    """Height and width of the images in pixels; of several the best file is delivered."""
    width_mult: float | Sequence[float]
    """Factor of all widths; of several the best file is delivered."""
    calibration: Literal["minmax", "percentile", "entropy"]
    """How the ranges of int8 files are measured; by default by the extremes."""
    max_drop: float
    """Validation accuracy, as a share of 1, that int8 may lose before it is fine-tuned."""
    tune_epochs: int
    pixels: bool
    """Whether the files take pixels from 0 to 255 and normalise them themselves."""
    effort: Literal["trial", "quick", "standard", "full"]
    minutes: float
    """Time that the run should take; by default as long as the effort takes."""
    latency_model: str
    """Name or file of the latency model; by default the device's own."""
    raw: bool
    """Whether budgets are compared with this run's clock, not with calibrated latencies."""
    wait_idle_s: float
    """Longest wait for a quiet core before latencies are measured on this machine."""
    seed: int
    device: str
    """Device that searches and trains: ``cpu``, ``cuda``, ``cuda:1`` or ``mps``."""
    amp: Literal["auto", "none", "bf16", "fp16"]
    """Precision of training steps; by default bf16 on GPUs that have it."""
    threads: int | Literal["auto"]
    flip: bool
    """Whether training images may be mirrored; by default colour images are, grey ones are not."""
    share_weights: bool
    """Whether candidates of a block share weights by slicing."""


def specialize(
    target: str | Path | DeviceProfile | Sequence[str | Path | DeviceProfile] = "host-cpu",
    budget: str | float | Sequence[str | float] | None = None,
    data: object = "fashion-mnist-6k",
    *,
    out: str | Path | None = None,
    resume: bool = False,
    quiet: bool = False,
    tracker: Tracker | None = None,
    **options: Unpack[SpecializeOptions],
) -> Report:
    """Search, train, compile and measure a network for a device, a latency budget and data.

    ``budget`` is a latency such as ``"80ms"``, a number of milliseconds, or a share of the latency
    of the space's largest network such as ``"50%"``; without it, the latency of a uniform
    MobileNetV2-like network. Several targets and budgets share one supernet.

    ``data`` is the name of a data set, an image folder, an ``.npz`` file, a dict of the arrays
    ``x_train, y_train, x_test, y_test``, or data sets in the style of torchvision (see
    `hwnas.data.datasets.make_dataset`). ``target`` is a name, a TOML file or a profile.

    All files go to ``out`` (by default ``runs/TARGET``); with ``resume`` the run there continues.
    ``tracker`` gets loss, accuracy and speed while it trains (`hwnas.specialize.tracking`).
    A budget that no network keeps is the verdict ``missed`` in the report, not an error.

        >>> import hwnas, numpy as np
        >>> rng = np.random.default_rng(0)
        >>> labels = np.arange(120) % 3
        >>> noise = rng.integers(0, 60, (120, 16, 16))
        >>> images = (80 * labels[:, None, None] + noise).astype("uint8")
        >>> report = hwnas.specialize(
        ...     target="simulated-phone",
        ...     budget="60%",
        ...     data={"x_train": images, "y_train": labels, "x_test": images, "y_test": labels},
        ...     effort="trial",
        ...     out="run",
        ...     quiet=True,
        ... )
        >>> report.results[0].latency.kind
        'simulated'

    """
    from hwnas.console import console
    from hwnas.specialize.flow import specialize as run
    from hwnas.specialize.run_folder import default_folder
    from hwnas.specialize.setup.python_values import run_request

    request = run_request(target, budget, data, options)
    names = [Path(name).stem for name in request.spec.targets]
    folder = Path(out) if out is not None else default_folder(names, resume)
    return run(
        request.spec,
        folder,
        console(quiet),
        resume,
        dataset=request.dataset,
        profiles=request.profiles,
        tracker=tracker,
    )


def devices() -> list[DeviceProfile]:
    """Return the profiles of all known devices: shipped, installed, and in ``$HWNAS_DEVICES``.

    >>> import hwnas
    >>> [profile.runtime for profile in hwnas.devices() if profile.name == "host-cpu"]
    ['onnxruntime']

    """
    from hwnas.devices.profile import profile_files, read_profile

    files = {file.name: file for file in reversed(list(profile_files()))}
    return sorted(map(read_profile, files.values()), key=lambda profile: profile.name)


def load_architecture(
    name: str | Path, *, input_shape: Shape | None = None, num_classes: int | None = None
) -> Architecture:
    """Load an architecture: a published name, a run folder, a JSON, ``.onnx`` or ``.tflite`` file.

    ``name`` may also be a file of weights, a network of timm, or ``module:factory``.
    ``input_shape`` (channels, height, width) is needed for a module, and with ``num_classes`` for a
    genotype, which states no shapes. Raises `UsageError` or `InvalidFile` for anything else.

        >>> import hwnas
        >>> network = hwnas.load_architecture("proxyless_mobile")
        >>> f"{network.macs:,} MACs, {network.params:,} parameters"
        '320,427,584 MACs, 4,080,512 parameters'

    """
    from hwnas.networks.resolve import resolve_architecture

    return resolve_architecture(str(name), input_shape=input_shape, num_classes=num_classes)


def load_pretrained(name: str | Path, *, input_shape: Shape | None = None) -> PretrainedNetwork:
    """Load a network with trained weights, rebuilt from blocks; nothing is downloaded.

    ``name`` is one of `hwnas networks list`, ``timm:NAME`` or ``local-dir:FOLDER`` of timm, a file
    of weights of such a network, or ``module:factory`` with an ``input_shape``. The result has the
    ``architecture``, the ``preprocessing``, ``network()`` and, for other images and classes,
    ``at(input_shape, classes)``. Raises `HwnasError` that says how to get missing weights.

        >>> import hwnas, torch, torchvision
        >>> source = torchvision.models.mobilenet_v3_small(num_classes=5)
        >>> torch.save(source.state_dict(), "mine.pt")
        >>> trained = hwnas.load_pretrained("mine.pt")
        >>> trained.name, trained.architecture.num_classes
        ('mobilenet_v3_small', 5)

    """
    from hwnas.networks.pretrained import load_pretrained as load

    return load(str(name), input_shape)


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


def predict(
    model: str | Path,
    images: Sequence[str | Path] | np.ndarray,
    *,
    input_values: InputValues | None = None,
    labels: str | Path | None = None,
) -> list[Prediction]:
    """Return the five most probable classes of each image, by a model file in its own runtime.

    ``model`` is an ``.onnx`` or ``.tflite`` file, a bundle or a run folder; ``images`` are files,
    or uint8 pixels ``[N, H, W]``, ``[N, H, W, C]`` or ``[N, C, H, W]`` of any size. A file that
    hwnas did not compile needs ``input_values``, and ``labels``, a text file with the name of a
    class in each line.

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

    ``model``, ``input_values`` and ``labels`` are those of `predict`. Classes are matched by name.
    Without a ``split`` the images are the data set's test images; of a folder without splits all,
    if the run of the model used another data set. ``page`` is an HTML file to write.

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

    ``batches`` are each file's own by default, or 1 if it takes any; ``input_shapes`` state, by the
    name of the input and without the batch, the shapes of inputs that take any size. ``per_op``
    also profiles the time of each operator. With ``raw`` latencies are those of this
    run's clock, else they are calibrated by the reference model. This machine waits at most
    ``wait_idle_s`` for a quiet core.

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
            target=_name(target),
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


class MeasureOptions(TypedDict, total=False):
    """How much `measure_latency_model` measures."""

    networks: int | None
    """Whole networks beside the blocks; by default at most 24."""
    minutes: float | None
    """Time for the most informative blocks and networks, in the place of ``networks``."""
    again: bool
    """Set aside a model that is stored already, instead of completing it."""


def measure_latency_model(
    target: str | Path | DeviceProfile = "host-cpu",
    space: str = "mobile",
    data: str = "fashion-mnist-6k",
    *,
    precision: Literal["fp32", "int8"] = "fp32",
    wait_idle_s: float = 0.0,
    quiet: bool = False,
    **options: Unpack[MeasureOptions],
) -> LatencyModel:
    """Measure the latency model of a device for a search space, and return it.

    Blocks and whole networks are measured, as many as the ``options`` state (`MeasureOptions`). The
    model is stored for later runs; one that is there already is completed. ``data`` gives input
    size and classes. This machine waits at most ``wait_idle_s`` for a quiet core.

        >>> import hwnas
        >>> model = hwnas.measure_latency_model("simulated-phone", networks=6, quiet=True)
        >>> model.kind
        'simulated'

    """
    from hwnas.console import console
    from hwnas.profiling.measure import measure_latency_model as measure
    from hwnas.profiling.plan import MeasurePlan
    from hwnas.profiling.setup import find_setup

    plan = MeasurePlan(**options)
    setup = find_setup(_name(target), space, data, precision, wait_idle_s)
    with setup.open_runner() as runner:
        return measure(setup.profile, runner, setup.space, setup.folder, console(quiet), plan=plan)


def _name(target: str | Path | DeviceProfile) -> Any:
    return str(target) if isinstance(target, Path) else target
