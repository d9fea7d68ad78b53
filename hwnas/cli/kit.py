"""`hwnas kit`: build the native runner that measures on phones."""

from __future__ import annotations

from pathlib import Path

import click

from hwnas.cli.framework.command import command, option


@command(
    "kit",
    example=(
        "hwnas kit --abi x86_64",
        "hwnas kit --abi arm64-v8a --wheel ai_edge_litert-2.1.0-manylinux_2_27_aarch64.whl",
    ),
)
@option("--abi", metavar="ABI", default="arm64-v8a", help="Instruction set, in Android's names.")
@option(
    "--runtime",
    default="litert",
    type=click.Choice(["litert", "onnxruntime"]),
    help="Runtime that the runner calls.",
)
@option(
    "--wheel",
    type=click.Path(dir_okay=False, path_type=Path),
    default_help="the installed package",
    help="Wheel of the runtime for that ABI; its library becomes part of the kit.",
)
@option(
    "--compiler",
    metavar="PROGRAM",
    default="",
    default_help="gcc, or a cross compiler for arm64-v8a",
    help="C compiler for the device, e.g. the NDK's clang.",
)
def kit(abi: str, runtime: str, wheel: Path | None, compiler: str) -> None:
    """Compile the native runner for an ABI. Runs on a device push it there.

    For this machine's own ABI gcc is enough. For 64-bit Arm, get the wheel of the runtime first:

    \b
      pip download --no-deps --only-binary=:all: --platform manylinux_2_27_aarch64 ai-edge-litert
    """
    from hwnas.devices.runners.native_kit import KITS, build_kit

    folder = build_kit(abi, wheel, compiler, runtime)
    click.echo(f"{folder}: {KITS[runtime].program} and {KITS[runtime].library} for {abi}")
