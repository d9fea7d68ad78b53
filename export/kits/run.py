"""Runs the model of this folder: on its samples, on images, or on arrays.

    python run.py                     compare the outputs on samples.npz with those stored there
    python run.py IMAGE ...           of a model that takes images (any size, or .npy of uint8)
    python run.py INPUTS.npz ...      an array for each input of interface.json, by its name
    python run.py --outputs FILE      write the outputs on samples.npz to FILE

Needs numpy and onnxruntime or ai-edge-litert, and Pillow for images. Prints one JSON line. With
labels.txt it has the label of each file and the outputs of all classes, in the order of the labels.
Else the outputs of FILE are written to FILE.outputs.npz, by their names, and the line has their
ranges.
"""

import json
import sys
import zipfile
from pathlib import Path

import numpy as np
from image_pixels import read_pixels

HERE = Path(__file__).resolve().parent
FILE = json.loads((HERE / "interface.json").read_text(encoding="utf-8"))
IMAGE, LABELS = FILE["image"], HERE / "labels.txt"


def model():
    """Return a function from the inputs with their batch, in order, to the outputs."""
    path = str(HERE / FILE["model"])
    if FILE["runtime"] == "onnxruntime":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        names = [each.name for each in session.get_inputs()]
        types = [each["dtype"] for each in FILE["inputs"]]

        def onnx(arrays):
            typed = [array.astype(dtype) for array, dtype in zip(arrays, types, strict=True)]
            return session.run(None, dict(zip(names, typed, strict=True)))

        return onnx
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=path)
    sizes = None

    def litert(arrays):
        nonlocal sizes
        shapes = [array.shape for array in arrays]
        if shapes != sizes:
            for tensor, shape in zip(interpreter.get_input_details(), shapes, strict=True):
                if tuple(tensor["shape"]) != shape:
                    interpreter.resize_tensor_input(tensor["index"], shape)
            interpreter.allocate_tensors()
            sizes = shapes
        for tensor, array in zip(interpreter.get_input_details(), arrays, strict=True):
            interpreter.set_tensor(tensor["index"], quantized(array, tensor))
        interpreter.invoke()
        return [
            real(interpreter.get_tensor(tensor["index"]), tensor)
            for tensor in interpreter.get_output_details()
        ]

    return litert


def quantized(array, tensor):
    scale, zero = tensor["quantization"]
    if not scale:
        return np.ascontiguousarray(array.astype(tensor["dtype"]))
    limits = np.iinfo(tensor["dtype"])
    return np.clip(np.rint(array / scale) + zero, limits.min, limits.max).astype(tensor["dtype"])


def real(values, tensor):
    scale, zero = tensor["quantization"]
    return (values.astype(np.float32) - zero) * np.float32(scale) if scale else values


def of_images(pixels):
    """Return the values of the input for each of uint8 images [N, C, H, W]."""
    mean, std = (np.array(IMAGE[key], np.float32)[:, None, None] for key in ("mean", "std"))
    values = (pixels.astype(np.float32) / np.float32(IMAGE["scale"]) - mean) / std
    return (values if FILE["layout"] == "NCHW" else values.transpose(0, 2, 3, 1))[:, None]


def read_inputs(path):
    """Return the values of each input of an image, or of an .npz file."""
    if not path.endswith(".npz"):
        if IMAGE is None:
            sys.exit(f"{path}: interface.json does not say how pixels become inputs; give an .npz")
        return [of_images(read_pixels(path, *IMAGE["shape"])[None])[0]]
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    for each in FILE["inputs"]:
        array = arrays.get(each["name"])
        fits = (
            array is not None
            and [
                stated if isinstance(stated, int) else size
                for stated, size in zip(each["shape"], array.shape, strict=False)
            ]
            == list(array.shape)
            and len(array.shape) == len(each["shape"])
        )
        if not fits:
            has = "nothing" if array is None else list(array.shape)
            sys.exit(f"{path}: has {has} for {each['name']}, expected {each['shape']}")
    return [arrays[each["name"]] for each in FILE["inputs"]]


def run_file(path, run):
    """Return what is printed of a file; without labels its outputs are written beside it."""
    outputs = run(read_inputs(path))
    if LABELS.exists():
        scores = outputs[0].reshape(-1)
        labels = LABELS.read_text(encoding="utf-8").split("\n")
        return {"label": labels[int(scores.argmax())], "outputs": scores.tolist()}
    named = dict(zip((each["name"] for each in FILE["outputs"]), outputs, strict=True))
    written = Path(path).with_suffix(".outputs.npz")
    save(written, named)
    ranges = {
        name: {
            "shape": list(array.shape),
            "dtype": str(array.dtype),
            "min": array.min(initial=np.inf).item() if array.size else None,
            "max": array.max(initial=-np.inf).item() if array.size else None,
        }
        for name, array in named.items()
    }
    return {"written": str(written), "outputs": ranges}


def run_samples(run):
    """Return the stored and the computed outputs of all samples, [N, ...] each, and the labels."""
    with np.load(HERE / "samples.npz", allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    kinds = {kind: [] for kind in ("input", "output")}
    for kind, values in kinds.items():
        while f"{kind}_{len(values)}" in arrays:
            values.append(arrays[f"{kind}_{len(values)}"])
    inputs = [of_images(arrays["images"])] if "images" in arrays else kinds["input"]
    runs = [run([array[place] for array in inputs]) for place in range(len(inputs[0]))]
    given = [np.stack(values) for values in zip(*runs, strict=True)]
    return kinds["output"], given, arrays.get("labels")


def save(path, arrays):
    """Write an .npz file; numpy's own function takes no array that is called file."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)


def difference(given, expected):
    if expected.dtype.kind != "f":
        return float((given != expected).mean())
    largest = float(np.abs(expected).max(initial=0)) or 1.0
    return float(np.abs(given - expected).max(initial=0)) / largest


def main():
    arguments, run = sys.argv[1:], model()
    if arguments and arguments[0] != "--outputs":
        print(json.dumps({path: run_file(path, run) for path in arguments}))
        return
    expected, given, labels = run_samples(run)
    if arguments:
        save(arguments[1], {f"output_{place}": array for place, array in enumerate(given)})
    errors = [difference(*pair) for pair in zip(given, expected, strict=True)]
    result = {"samples": len(given[0]), "max_relative_error": max(errors)}
    if labels is not None:
        result["accuracy"] = float((given[0].reshape(len(labels), -1).argmax(1) == labels).mean())
    print(json.dumps(result))


if __name__ == "__main__":
    main()
