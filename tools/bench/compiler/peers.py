"""Other converters, each run in a process of its own by the Python that has it.

    python peers.py PEER MODEL FILE
    python peers.py onnx2tf SMALL.onnx MODEL.onnx FILE

prints the seconds of one conversion, after that of a small network, so that no import is counted.
``onnx2tf`` (TensorFlow's converter) begins with the ONNX file that ``torch-onnx`` wrote; the
seconds are its own alone. This file needs the packages of its peer only.
"""

from __future__ import annotations

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
NEEDED = {
    "torch-onnx": "torchvision, onnxscript",
    "litert-torch": "torchvision, litert_torch",
    "onnx2tf": "onnx2tf, tensorflow",
}
"""What the peer's Python must be able to import."""


def converted(command: list[str], timeout_s: float) -> float:
    """Return the seconds that a conversion took. Raises `RuntimeError` with what it said last."""
    code, out, err = ended(command, timeout_s)
    said = out.strip().splitlines()[-1] if out.strip() else ""
    if code or not said.startswith("{"):
        raise RuntimeError((err.strip().splitlines() or ["nothing said"])[-1][:120])
    return json.loads(said)["seconds"]


def ended(command: list[str], timeout_s: float) -> tuple[int, str, str]:
    """Run a peer; one that takes longer is killed with all that it has started."""
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
    """Convert a network of torchvision by a converter of PyTorch's modules."""
    torch = import_module("torch")
    networks = import_module("networks")
    litert_torch: Any = import_module("litert_torch") if peer == "litert-torch" else None
    module, size = networks.network(name)
    taken = 0.0
    for one, pixels in ((networks.small(), 32), (module, size)):
        image, start = torch.randn(1, 3, pixels, pixels), time.perf_counter()
        if peer == "torch-onnx":
            torch.onnx.export(
                one, (image,), file, dynamo=True, external_data=False, verbose=False
            )  # fmt: skip
        else:
            nhwc = litert_torch.to_channel_last_io(one, args=[0])
            litert_torch.convert(nhwc, (image.permute(0, 2, 3, 1).contiguous(),)).export(file)
        taken = time.perf_counter() - start
    return taken


def convert_onnx(small: str, source: str, file: str) -> float:
    """Convert ONNX files by onnx2tf, which has TensorFlow write the TFLite file."""
    onnx2tf: Any = import_module("onnx2tf")
    numpy: Any = import_module("numpy")
    images = numpy.random.default_rng(0).random((20, 128, 128, 3), numpy.float32)
    for module in [module for name, module in sys.modules.items() if name.startswith("onnx2tf")]:
        if hasattr(module, "download_test_image_data"):  # from the network; it compares by them
            module.download_test_image_data = lambda: images  # pyright: ignore
    taken = 0.0
    for one in (small, source):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            onnx2tf.convert(
                input_onnx_file_path=one, output_folder_path=folder, non_verbose=True,
                copy_onnx_input_output_names_to_tflite=True,
            )  # fmt: skip
            taken = time.perf_counter() - start
            [made] = Path(folder).glob("*_float32.tflite")
            shutil.copyfile(made, file)
    return taken


if __name__ == "__main__":
    peer, *given = sys.argv[1:]
    seconds = convert_onnx(*given) if peer == "onnx2tf" else convert(peer, *given)
    print()
    print(json.dumps({"seconds": seconds}))
