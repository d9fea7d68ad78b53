"""Runs the model of this folder: its samples, or images (any size, or .npy of uint8 [C, H, W]).

Needs numpy and onnxruntime or ai-edge-litert, and Pillow for images. Prints one JSON line: for each
image its label and the outputs of all classes, in the order of labels.txt.
"""

import json
import sys
from pathlib import Path

import numpy as np
from image_pixels import read_pixels

HERE = Path(__file__).resolve().parent
CONFIG = json.loads((HERE / "preprocess.json").read_text(encoding="utf-8"))


def model():
    """Return a function from one input with its batch axis to the outputs."""
    if CONFIG["runtime"] == "onnxruntime":
        import onnxruntime

        session = onnxruntime.InferenceSession(
            str(HERE / "model.onnx"), providers=["CPUExecutionProvider"]
        )
        name = session.get_inputs()[0].name
        return lambda array: session.run(None, {name: array})[0]
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(HERE / "model.tflite"))
    interpreter.allocate_tensors()
    into, out = interpreter.get_input_details()[0], interpreter.get_output_details()[0]

    def call(array):
        interpreter.set_tensor(into["index"], quantized(array, into))
        interpreter.invoke()
        scale, zero = out["quantization"]
        values = interpreter.get_tensor(out["index"])
        return (values.astype(np.float32) - zero) * scale if scale else values

    return call


def quantized(array, tensor):
    scale, zero = tensor["quantization"]
    if not scale:
        return array
    limits = np.iinfo(tensor["dtype"])
    return np.clip(np.rint(array / scale) + zero, limits.min, limits.max).astype(tensor["dtype"])


def outputs(images):
    """Return the outputs [N, classes] of uint8 images [N, C, H, W]."""
    mean, std = (np.array(CONFIG[key], np.float32)[:, None, None] for key in ("mean", "std"))
    inputs = (images.astype(np.float32) / np.float32(CONFIG["scale"]) - mean) / std
    if CONFIG["layout"] == "NHWC":
        inputs = inputs.transpose(0, 2, 3, 1)
    run = model()
    return np.stack([run(np.ascontiguousarray(each[None])).reshape(-1) for each in inputs])


def main():
    if sys.argv[1:]:
        labels = (HERE / "labels.txt").read_text(encoding="utf-8").split("\n")
        images = np.stack([read_pixels(file, *CONFIG["shape"]) for file in sys.argv[1:]])
        results = {
            file: {"label": labels[int(row.argmax())], "outputs": row.tolist()}
            for file, row in zip(sys.argv[1:], outputs(images), strict=True)
        }
        print(json.dumps(results))
        return
    with np.load(HERE / "samples.npz", allow_pickle=False) as samples:
        results = outputs(samples["images"])
        accuracy = float((results.argmax(1) == samples["labels"]).mean())
    print(json.dumps({"accuracy": accuracy, "outputs": results.tolist()}))


if __name__ == "__main__":
    main()
