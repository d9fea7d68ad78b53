"""Make the reference models beside which latencies are measured: ``export/kits/reference*``.

    python -m tools.data.reference_model [--out export/kits]

A small network in the style of the default space: stem, MBConvs with kernels of 3 and 5, one dense
3x3 block, pool, linear. It has no 7x7 depthwise convolution, which is very slow in LiteRT, so that
one file is a fair unit in both runtimes. Weights are normal with a fixed seed, at the scale that
keeps activations near 1, so that no value is or becomes denormal. The committed files are never
replaced: calibrations are relative to exactly these files.

The larger ones, for slower networks, and the memory probe are the same network on larger images.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

import click
import torch
from torch import nn

from hwnas.architecture.architecture import Block
from hwnas.architecture.artifact import Format
from hwnas.devices.runner import LARGER_SIZES, PROBE_SIZE
from hwnas.export.compile import compile_model
from hwnas.export.verification.images import Verification
from hwnas.nn.build import Network
from tools.lib.options import out_option

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
"""Most blocks are at 14 px: as much arithmetic as fits with 150 KB of weights."""


@click.command()
@out_option(Path("export/kits"), "Folder to write to.")
def main(out: Path) -> None:
    """Make the reference models that OUT lacks."""
    images = torch.randn(64, *INPUT_SHAPE, generator=torch.Generator().manual_seed(SEED)).numpy()
    network = reference_network()
    with torch.no_grad():
        labels = network(torch.from_numpy(images)).argmax(dim=1).numpy()
    formats: tuple[Format, ...] = ("onnx", "tflite")
    for format, size in product(formats, (*LARGER_SIZES, PROBE_SIZE)):
        path = out / f"reference_{size}.{format}"
        if not path.exists():
            artifact = compile_model(network, (1, size, size), path)
            click.echo(f"{path}: {artifact.size_bytes} bytes, sha256 {artifact.sha256}")
    for format in formats:
        path = out / f"reference.{format}"
        if path.exists():
            continue
        verification = Verification(images, labels)
        artifact = compile_model(network, INPUT_SHAPE, path, verification=verification)
        assert artifact.parity is not None
        error = artifact.parity.max_relative_error
        click.echo(
            f"{path}: {artifact.size_bytes} bytes, sha256 {artifact.sha256}, "
            f"relative error {error:.1e}"
        )
    path = out / "reference.pt2"
    if not path.exists():  # never equal: the zip file contains the time and PyTorch's version
        write_program(network, path)


def write_program(network: nn.Module, path: Path) -> None:
    """Write a program of ``torch.export`` without its stack traces, which name source files."""
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
