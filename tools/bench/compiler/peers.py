"""One conversion by another converter, run in a process of its own by the Python that has it.

    python peers.py PEER MODEL FILE
    python peers.py onnx2tf SMALL.onnx MODEL.onnx FILE

Prints the seconds of one conversion, which follows that of a small network, so that imports are not
counted. ``onnx2tf`` (TensorFlow's converter) starts from the ONNX file that ``torch-onnx`` wrote;
its seconds exclude the writing of that file. This module imports only the packages of its peer.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

PEERS = {"onnx": ("torch-onnx",), "tflite": ("litert-torch", "onnx2tf")}
PEER_IMPORTS = {
    "torch-onnx": "torchvision, onnxscript",
    "litert-torch": "torchvision, litert_torch",
    "onnx2tf": "onnx2tf, tensorflow",
}
"""Modules that the Python of a peer must be able to import."""


def conversion_s(command: list[str], timeout_s: float) -> float:
    """Return the seconds of a conversion. Raises `RuntimeError` with the last line of its error."""
    code, out, err = run_peer(command, timeout_s)
    last = out.strip().splitlines()[-1] if out.strip() else ""
    if code or not last.startswith("{"):
        raise RuntimeError((err.strip().splitlines() or ["no message"])[-1][:120])
    return json.loads(last)["seconds"]


def run_peer(command: list[str], timeout_s: float) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr; after ``timeout_s`` all its processes are killed."""
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        out, err = child.communicate(timeout=timeout_s)
    except BaseException:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        raise
    return child.returncode, out, err


def convert(peer: str, name: str, file: str) -> float:
    """Convert a network of torchvision with a converter of PyTorch modules; return the seconds."""
    torch = import_module("torch")
    networks = import_module("networks")
    litert_torch: Any = import_module("litert_torch") if peer == "litert-torch" else None
    network, size = networks.torchvision_network(name)
    seconds = 0.0
    for module, pixels in ((networks.small_network(), 32), (network, size)):
        image, start = torch.randn(1, 3, pixels, pixels), time.perf_counter()
        if peer == "torch-onnx":
            torch.onnx.export(
                module, (image,), file, dynamo=True, external_data=False, verbose=False
            )
        else:
            nhwc = litert_torch.to_channel_last_io(module, args=[0])
            litert_torch.convert(nhwc, (image.permute(0, 2, 3, 1).contiguous(),)).export(file)
        seconds = time.perf_counter() - start
    return seconds


def convert_onnx(small: str, source: str, file: str) -> float:
    """Convert ONNX files with onnx2tf, which writes TFLite by TensorFlow; return the seconds."""
    onnx2tf: Any = import_module("onnx2tf")
    numpy: Any = import_module("numpy")
    images = numpy.random.default_rng(0).random((20, 128, 128, 3), numpy.float32)
    for module in [module for name, module in sys.modules.items() if name.startswith("onnx2tf")]:
        if hasattr(module, "download_test_image_data"):  # would download images to compare with
            module.download_test_image_data = lambda: images  # pyright: ignore
    seconds = 0.0
    for onnx_file in (small, source):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            onnx2tf.convert(
                input_onnx_file_path=onnx_file,
                output_folder_path=folder,
                non_verbose=True,
                copy_onnx_input_output_names_to_tflite=True,
            )
            seconds = time.perf_counter() - start
            [tflite_file] = Path(folder).glob("*_float32.tflite")
            shutil.copyfile(tflite_file, file)
    return seconds


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("peer", choices=PEER_IMPORTS)
    parser.add_argument("arguments", nargs="+", help="As shown above.")
    options = parser.parse_args()
    if options.peer == "onnx2tf":
        seconds = convert_onnx(*options.arguments)
    else:
        seconds = convert(options.peer, *options.arguments)
    print()
    print(json.dumps({"seconds": seconds}))
