"""Runs TFLite files in the installed runtime of this Python; the standard library and numpy only.

    python run_files.py ARCHIVE FOLDER RUNTIME

``FOLDER/NAME.tflite`` is run on each image of ``FOLDER/NAME.images.npy`` ``[N, H, W, C]`` with
the worker in ``ARCHIVE`` (`hwnas.devices.worker.archive`); outputs go to
``FOLDER/NAME.outputs.npy``.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

import numpy as np


def main(archive: str, folder: str, package: str) -> None:
    sys.path.insert(0, archive)
    worker = importlib.import_module("hwnas.devices.worker.runtimes.open")
    assert importlib.util.find_spec("ai_edge_litert") is None, "not another runtime"
    for path in sorted(Path(folder).glob("*.tflite")):
        model = worker.open_model(str(path), "litert")
        outputs = []
        for image in np.load(path.with_suffix(".images.npy")):
            model.set_inputs([image[None]])
            model.run()
            outputs.append(model.outputs()[0])
        np.save(path.with_suffix(".outputs.npy"), np.concatenate(outputs))
        print(path.name, model.version)
        assert package in model.version, model.version


if __name__ == "__main__":
    main(*sys.argv[1:])
