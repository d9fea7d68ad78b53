"""Blocks by Keras and TensorFlow's converter, run by the Python that has them.

    python keras_blocks.py BLOCKS.json FOLDER

Writes each block as a TFLite file into FOLDER, runs it for a plain table of latencies (median of
50 calls after 10), and prints a line of JSON: processor seconds of the import, of each conversion
and of each table row, and TensorFlow's version. Imports TensorFlow only.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
WARM_CALLS, CALLS = 10, 50


def layers(keras: Any, block: dict[str, Any], x: Any) -> Any:
    """Return the output of a block with batch norms, as hwnas's spaces have it."""
    own, size, stride = keras.layers, block["kernel_size"], block["stride"]
    inner = round(block["in_channels"] * block["expand_ratio"])

    def normed(x: Any, active: bool = True) -> Any:
        x = own.BatchNormalization()(x)
        return own.ReLU(6.0)(x) if active else x

    def conv(x: Any, channels: int, size: int = 1, stride: int = 1) -> Any:
        return own.Conv2D(channels, size, stride, padding="same", use_bias=False)(x)

    if block["op"] == "conv":
        return normed(conv(x, block["out_channels"], size, stride))
    start = x
    if block["op"] == "fused_mbconv":
        x = normed(conv(x, inner, size, stride))
    else:
        if block["expand_ratio"] != 1:
            x = normed(conv(x, inner))
        x = normed(own.DepthwiseConv2D(size, stride, padding="same", use_bias=False)(x))
    x = normed(conv(x, block["out_channels"]), active=False)
    same = stride == 1 and block["in_channels"] == block["out_channels"]
    return own.Add()([start, x]) if same else x


def main() -> None:
    tensorflow: Any = import_module("tensorflow")
    keras = tensorflow.keras
    blocks = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    converted_s: list[float] = []
    timed_s: list[float] = []
    for number, block in enumerate(blocks):
        begun_s = time.process_time()
        shape = (block["in_size"], block["in_size"], block["in_channels"])
        start = keras.Input(shape, batch_size=1)
        model = keras.Model(start, layers(keras, block, start))
        content = tensorflow.lite.TFLiteConverter.from_keras_model(model).convert()
        (Path(sys.argv[2]) / f"{number}.tflite").write_bytes(content)
        converted_s.append(time.process_time() - begun_s)
        begun_s = time.process_time()
        row_ms(tensorflow, content)
        timed_s.append(time.process_time() - begun_s)
    print(
        json.dumps(
            {
                "converted_s": converted_s,
                "timed_s": timed_s,
                "version": tensorflow.__version__,
            }
        )
    )


def row_ms(tensorflow: Any, content: bytes) -> float:
    """Return the latency of a file, on one thread."""
    interpreter = tensorflow.lite.Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    times_ms: list[float] = []
    for _ in range(WARM_CALLS + CALLS):
        begun = time.perf_counter()
        interpreter.invoke()
        times_ms.append(1e3 * (time.perf_counter() - begun))
    return sorted(times_ms[WARM_CALLS:])[CALLS // 2]


if __name__ == "__main__":
    main()
