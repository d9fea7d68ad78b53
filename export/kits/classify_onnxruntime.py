"""Classify images with an ONNX file of hwnas. Needs onnxruntime, numpy and Pillow, not hwnas.

    python classify_onnxruntime.py model.onnx image.png [...]

What the file takes (size, normalisation, names of the classes) it says itself.
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image


def main(model, *images):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    said = json.loads(session.get_modelmeta().custom_metadata_map["hwnas.input"])
    for path in images:
        [logits] = session.run(None, {said["name"]: prepared(path, said)})
        print(path, said["labels"][int(logits[0].argmax())])


def prepared(path, said):
    """Return the image as float32 ``[1, C, H, W]``."""
    _, channels, height, width = said["shape"]
    image = Image.open(path).convert("L" if channels == 1 else "RGB").resize((width, height))
    pixels = np.asarray(image, np.float32).reshape(height, width, channels)
    if said["takes"] == "normalised":
        pixels = (pixels / 255 - np.float32(said["mean"])) / np.float32(said["std"])
    return pixels.transpose(2, 0, 1)[None].astype(np.float32)


if __name__ == "__main__":
    main(*sys.argv[1:])
