"""`hwnas kit`: build the native runner that measures on phones."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("kit")
@click.option("--abi", default="arm64-v8a", show_default=True, help="Processor of the device.")
@click.option("--runtime", default="litert", show_default=True,
              type=click.Choice(["litert", "onnxruntime"]))  # fmt: skip
@click.option(
    "--wheel", type=click.Path(path_type=Path), help="The runtime's for that ABI, for its library."
)
@click.option("--compiler", default="", help="C compiler, e.g. the NDK's clang for the device.")
def kit(abi: str, runtime: str, wheel: Path | None, compiler: str) -> None:
    """Compile the native runner for a kind of device; runs on it are pushed from there.

    \b
    This machine's own ABI needs gcc only. For 64-bit ARM Linux:
      pip download --no-deps --only-binary=:all: --platform manylinux_2_27_aarch64 ai-edge-litert
      hwnas kit --abi arm64-v8a --wheel ai_edge_litert-*.whl
    """
    from hwnas.devices.runners.native_kit import KITS, build_kit

    folder = build_kit(abi, wheel, compiler, runtime)
    click.echo(f"{folder}: {KITS[runtime].program} and {KITS[runtime].library} for {abi}")
