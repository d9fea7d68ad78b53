"""Classify images with a TFLite file of hwnas. Needs ai-edge-litert, numpy and Pillow, not hwnas.

Keep ``image_pixels.py`` beside it.

    python classify_litert.py model.tflite image.png [...]

The file states what it takes (size, normalisation, names of the classes).
"""

import json
import sys
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from image_pixels import read_pixels


def main(model, *images):
    stated = note(model)
    interpreter = Interpreter(model_path=model)
    interpreter.allocate_tensors()
    [taken], [given] = interpreter.get_input_details(), interpreter.get_output_details()
    for path in images:
        interpreter.set_tensor(taken["index"], prepared(path, stated, taken))
        interpreter.invoke()
        logits = interpreter.get_tensor(given["index"])[0]  # int8 keeps their order
        print(path, stated["labels"][int(logits.argmax())])


def note(model):
    """Return what hwnas wrote into the file's metadata."""
    file = schema.Model.GetRootAs(Path(model).read_bytes(), 0)
    for number in range(file.MetadataLength()):
        entry = file.Metadata(number)
        if entry.Name() == b"hwnas.input":
            return json.loads(bytes(file.Buffers(entry.Buffer()).DataAsNumpy()))
    sys.exit(f"{model}: does not say what it takes")


def prepared(path, stated, taken):
    """Return the image as ``[1, H, W, C]`` in the type of the input."""
    _, height, width, channels = stated["shape"]
    pixels = read_pixels(path, channels, height, width).transpose(1, 2, 0)
    values = pixels[None].astype(np.float32)
    if stated["takes"] == "normalised":
        values = (values / 255 - np.float32(stated["mean"])) / np.float32(stated["std"])
    scale, zero = taken["quantization"]
    if scale:  # an int8 file: real = scale * (value - zero)
        values = np.clip(np.rint(values / scale) + zero, -128, 127)
    return values.astype(taken["dtype"])


if __name__ == "__main__":
    main(*sys.argv[1:])
