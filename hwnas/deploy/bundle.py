"""A bundle: a folder with a model and everything needed to run and to check it.

It contains ``model.onnx`` or ``model.tflite``, the files of its weights if it has any,
``interface.json`` (inputs, outputs, and how pixels become inputs), ``run.py`` with
``image_pixels.py``, ``samples.npz`` (inputs, and the outputs on the machine that wrote the bundle),
``labels.txt`` of a classifier, ``README.md``, and ``manifest.json`` with the SHA-256 of each file,
the accuracy and the latency.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from hwnas.architecture.runtimes import COMPILED, RuntimeName
from hwnas.deploy import samples as sample_files
from hwnas.deploy.interface import NAME as INTERFACE
from hwnas.deploy.interface import FileInterface, ImageInput, described, run_stored
from hwnas.deploy.samples import SampleInputs, fitting_count, input_values, packed, top1
from hwnas.devices.external_data import files_beside
from hwnas.errors import ExportError, InvalidFile, UsageError
from hwnas.export.recipe import format_of
from hwnas.export.verification.run_model import open_file
from hwnas.files import decode, file_sha256, read_json, write_atomic, write_json
from hwnas.shipped import shipped


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of a bundle, with the accuracy and latency that it promises."""

    model: str
    runtime: RuntimeName
    target: str
    files: dict[str, str]
    """SHA-256 of every file but the manifest."""
    accuracy: float | None = None
    """Accuracy on the samples, on the machine that wrote the bundle; None without labels."""
    precision: str = "fp32"
    budget_ms: float | None = None
    median_ms: float | None = None
    """Latency that the run measured on the target; None if it was not measured."""
    schema: int = 1


def write_bundle(
    folder: Path,
    model: Path,
    samples: SampleInputs,
    target: str,
    *,
    image: ImageInput | None = None,
    labels: Sequence[str] = (),
    budget_ms: float | None = None,
    median_ms: float | None = None,
    precision: str = "fp32",
) -> Manifest:
    """Write the bundle of a model file.

    ``image`` states how pixels become its input, ``labels`` the classes of a classifier. Raises
    `UsageError` if the number of labels is not that of the classes, and for a folder whose files of
    these names are no bundle's.
    """
    runtime = COMPILED[format_of(model)]
    name = f"model{runtime.suffix}"
    interface = FileInterface(name, runtime.name, runtime.layout, (), (), image)
    outputs = run_stored(model, input_values(samples, interface))
    samples, outputs = _fitting(samples, outputs)
    inputs, given = described(open_file(model).inputs, outputs)
    interface = msgspec.structs.replace(interface, inputs=inputs, outputs=given)
    _check_labels(model, labels, interface)
    arrays = tuple(outputs.values())
    kits, weights = shipped("export") / "kits", files_beside(model)
    contents: dict[str, bytes] = {
        INTERFACE: msgspec.json.format(msgspec.json.encode(interface)),
        name: model.read_bytes(),
        "run.py": (kits / "run.py").read_bytes(),
        "image_pixels.py": (kits / "image_pixels.py").read_bytes(),
        sample_files.NAME: packed(samples, arrays),
        "README.md": _readme(interface, runtime.package, target, bool(labels)).encode(),
    }
    if labels:
        contents["labels.txt"] = ("\n".join(labels) + "\n").encode()
    for file in weights:
        if file.name in (*contents, "manifest.json"):
            raise UsageError(f"{file}: a file of the bundle has this name; rename the weights")
        contents[file.name] = file.read_bytes()
    _check_own(folder, contents)
    _remove_others(folder, contents)
    for file, content in contents.items():
        write_atomic(folder / file, content)
    manifest = Manifest(
        model=name,
        runtime=runtime.name,
        target=target,
        files={file: file_sha256(folder / file) for file in contents},
        accuracy=top1(arrays, samples.labels),
        precision=precision,
        budget_ms=budget_ms,
        median_ms=median_ms,
    )
    write_json(folder / "manifest.json", manifest)
    return manifest


def read_bundle(folder: Path) -> Manifest:
    """Read a bundle and check every hash.

    Raises `UsageError` if there is no bundle, `ExportError` for a file that has changed.
    """
    path = folder / "manifest.json"
    try:
        content = path.read_bytes()
    except OSError:
        raise UsageError(
            f"{folder}: not a bundle (no manifest.json); `hwnas deploy` writes one"
        ) from None
    manifest = decode(content, Manifest, str(path))
    if manifest.model not in manifest.files:
        raise InvalidFile(str(path), f"{manifest.model} is not among the files")
    for name, digest in manifest.files.items():
        if Path(name).name != name:
            raise InvalidFile(str(path), f"{name!r} is not the name of a file in the bundle")
        if not (folder / name).is_file():
            raise ExportError(f"{folder / name}: missing from the bundle")
        if file_sha256(folder / name) != digest:
            raise ExportError(f"{folder / name}: has changed since it was bundled (SHA-256)")
    return manifest


def _check_own(folder: Path, contents: Iterable[str]) -> None:
    """Raise `UsageError` if the folder has files of these names that are no bundle's.

    ``interface.json`` is written first, so that a bundle that was cut off has it.
    """
    if (folder / "manifest.json").exists() or (folder / INTERFACE).exists():
        return
    for name in contents:
        if (folder / name).exists():
            raise UsageError(
                f"{folder / name}: is there already, and belongs to no bundle; choose another --out"
            )


def _remove_others(folder: Path, contents: Container[str]) -> None:
    """Remove the files of an earlier bundle that the new one does not write."""
    with suppress(UsageError):
        earlier = read_json(folder / "manifest.json", Manifest).files
        for name in earlier:
            if Path(name).name == name and name not in contents:
                (folder / name).unlink(missing_ok=True)


def _fitting(
    samples: SampleInputs, outputs: dict[str, sample_files.Array]
) -> tuple[SampleInputs, dict[str, sample_files.Array]]:
    """Return the samples and outputs that fit into a bundle."""
    count = fitting_count(sum(array[0].nbytes for array in outputs.values()))
    fewer = SampleInputs(
        None if samples.pixels is None else samples.pixels[:count],
        tuple(array[:count] for array in samples.values),
        None if samples.labels is None else samples.labels[:count],
    )
    return fewer, {name: array[:count] for name, array in outputs.items()}


def _check_labels(model: Path, labels: Sequence[str], interface: FileInterface) -> None:
    sizes = [math.prod(map(int, tensor.shape)) for tensor in interface.outputs]
    if labels and sizes != [len(labels)]:
        listed = ", ".join(f"{tensor.name} {list(tensor.shape)}" for tensor in interface.outputs)
        raise UsageError(
            f"{model}: gives {listed}; expected [1, {len(labels)}] for {len(labels)} labels"
        )


def _readme(interface: FileInterface, package: str, target: str, labelled: bool) -> str:
    names = ", ".join(f"{tensor.name}={list(tensor.shape)}" for tensor in interface.inputs)
    lines = ["python run.py                 # outputs on the samples of this folder, compared"]
    if labelled:
        lines.append("python run.py IMAGE ...       # labels and outputs of images (needs Pillow)")
    elif interface.image is not None:
        lines.append(
            "python run.py IMAGE ...       # writes IMAGE.outputs.npz for images (needs Pillow)"
        )
    lines.append("python run.py INPUTS.npz ...  # writes INPUTS.outputs.npz for arrays")
    lines.append("hwnas verify .                # check hashes, outputs and latency")
    commands = "\n".join(f"    {line}" for line in lines)
    text = (
        f"# {interface.model}, compiled for {target}\n\n"
        f"    pip install numpy {package}\n{commands}\n\n"
        f"An `.npz` file has an array for each input: {names}.\n"
        "`interface.json` describes inputs and outputs"
    )
    if interface.image is not None:
        text += ", and how pixels become inputs"
    return f"{text}. `labels.txt` names the classes.\n" if labelled else f"{text}.\n"
