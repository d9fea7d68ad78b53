"""Runs the model of this folder: its samples, or images given as .npy files (uint8 [C, H, W]).

Needs numpy and onnxruntime or ai-edge-litert. Prints one JSON line.
"""

import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
SAID = json.loads((HERE / "preprocess.json").read_text())


def model():
    """Return a function from one input with its batch axis to the outputs."""
    if SAID["runtime"] == "onnxruntime":
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
        found = interpreter.get_tensor(out["index"])
        return (found.astype(np.float32) - zero) * scale if scale else found

    return call


def quantized(array, tensor):
    scale, zero = tensor["quantization"]
    if not scale:
        return array
    limits = np.iinfo(tensor["dtype"])
    return np.clip(np.rint(array / scale) + zero, limits.min, limits.max).astype(tensor["dtype"])


def outputs(images):
    mean, std = (np.array(SAID[key], np.float32)[:, None, None] for key in ("mean", "std"))
    inputs = (images.astype(np.float32) / SAID["scale"] - mean) / std
    if SAID["layout"] == "NHWC":
        inputs = inputs.transpose(0, 2, 3, 1)
    run = model()
    return np.stack([run(np.ascontiguousarray(one[None])).reshape(-1) for one in inputs])


def main():
    labels = (HERE / "labels.txt").read_text().splitlines()
    if sys.argv[1:]:
        images = np.stack([np.load(file, allow_pickle=False) for file in sys.argv[1:]])
        found = [labels[index] for index in outputs(images).argmax(1)]
        print(json.dumps(dict(zip(sys.argv[1:], found, strict=True))))
        return
    with np.load(HERE / "samples.npz", allow_pickle=False) as samples:
        found = outputs(samples["images"])
        right = float((found.argmax(1) == samples["labels"]).mean())
    print(json.dumps({"accuracy": right, "outputs": found.tolist()}))


if __name__ == "__main__":
    main()
