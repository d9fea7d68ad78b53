"""Classify images with an ONNX file of hwnas. Needs onnxruntime, numpy and Pillow, not hwnas.

Keep ``image_pixels.py`` beside it.

    python classify_onnxruntime.py model.onnx image.png [...]

The file states what it takes (size, normalisation, names of the classes).
"""

import json
import sys

import numpy as np
import onnxruntime
from image_pixels import read_pixels


def main(model, *images):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    stated = json.loads(session.get_modelmeta().custom_metadata_map["hwnas.input"])
    for path in images:
        [logits] = session.run(None, {stated["name"]: prepared(path, stated)})
        print(path, stated["labels"][int(logits[0].argmax())])


def prepared(path, stated):
    """Return the image as float32 ``[1, C, H, W]``."""
    _, channels, height, width = stated["shape"]
    values = read_pixels(path, channels, height, width).astype(np.float32)
    if stated["takes"] == "normalised":
        mean, std = (np.array(stated[key], np.float32)[:, None, None] for key in ("mean", "std"))
        values = (values / 255 - mean) / std
    return values[None]


if __name__ == "__main__":
    main(*sys.argv[1:])
