"""Makes the reference model that every latency is taken beside: ``export/kits/reference.*``.

    python -m tools.data.reference_model [--out export/kits]

A small network in the style of the default space: stem, MBConvs of kernel 3 and 5, one dense 3x3
block, pool, linear. No 7x7 depthwise convolution, which LiteRT runs very slowly, so that one file
is a fair unit in both runtimes. Weights are normal at the scale that keeps activations near 1, from
a fixed seed: no value is or becomes denormal. The committed files are never made anew: calibrations
are in units of these bytes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import nn

from hwnas.architecture.architecture import Block
from hwnas.architecture.artifact import Format
from hwnas.export.compile import compile_model
from hwnas.export.verification.images import Verification
from hwnas.nn.build import Network

SEED = 20_240_229
INPUT_SHAPE = (1, 28, 28)
BLOCKS = (
    Block("conv", 1, 16, 3, 2, 1, 28),
    *(Block("mbconv", 16, 16, kernel_size, 1, 6, 14) for kernel_size in (5, 5, 3, 5, 5)),
    Block("fused_mbconv", 16, 16, 3, 1, 1, 14),
    Block("mbconv", 16, 24, 3, 2, 3, 14),
    Block("conv", 24, 64, 1, 1, 1, 7),
    Block("logits", 64, 10, 1, 1, 1, 7),
)
"""Most at 14 px: as much arithmetic as fits beside 150 KB of weights."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("export/kits"))
    folder = parser.parse_args().out
    images = torch.randn(64, *INPUT_SHAPE, generator=torch.Generator().manual_seed(SEED)).numpy()
    network = reference_network()
    with torch.no_grad():
        labels = network(torch.from_numpy(images)).argmax(dim=1).numpy()
    formats: tuple[Format, ...] = ("onnx", "tflite")
    for format in formats:
        path = folder / f"reference.{format}"
        made = compile_model(network, INPUT_SHAPE, path, verification=Verification(images, labels))
        assert made.parity is not None
        error = made.parity.max_relative_error
        print(f"{path}: {made.size_bytes} bytes, sha256 {made.sha256}, relative error {error:.1e}")
    path = folder / "reference.pt2"
    if not path.exists():  # the zip holds the time and PyTorch's version
        write_program(network, path)


def write_program(network: nn.Module, path: Path) -> None:
    """Write a program of ``torch.export`` without the places in the source that it remembers."""
    program = torch.export.export(network, (torch.zeros(1, *INPUT_SHAPE),))
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)
    torch.export.save(program, path)


def reference_network() -> nn.Module:
    """Return the network in evaluation mode with its fixed weights."""
    network = Network(BLOCKS).eval()
    generator = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                scale = (2 / module.weight[0].numel()) ** 0.5
                module.weight.normal_(0.0, scale, generator=generator)
            if isinstance(module, nn.BatchNorm2d | nn.Linear):
                module.bias.uniform_(0.01, 0.1, generator=generator)
    return network


if __name__ == "__main__":
    main()
