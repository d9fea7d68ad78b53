"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hwnas.cli.framework.command import option
from hwnas.cli.framework.params import DATA, IMAGE_SHAPE, INPUT_SHAPE, NAMES, PATH, WAIT
from hwnas.errors import UsageError

if TYPE_CHECKING:
    from hwnas.devices.runner import InputShape, Progress
    from hwnas.export.graph.interface import InputShapes


def _input_shapes(group: str, help: str) -> Any:
    return option(
        "--input-shape", "input_shapes", group=group, multiple=True, type=INPUT_SHAPE, help=help
    )


def input_shape_option(group: str) -> Any:
    return _input_shapes(
        group,
        "Input shape of a module of your own code, without the batch: 3x224x224, or "
        "NAME=3x224x224 for each of several inputs; ids=32:int64 for integers.",
    )


def file_shape_option(group: str) -> Any:
    return _input_shapes(
        group,
        "Shape, without the batch and in the file's order of axes, of inputs that take any "
        "size: 3x224x224, or NAME=3x224x224.",
    )


image_shape_option = option(
    "--input-shape",
    "input_shape",
    group="Network",
    type=IMAGE_SHAPE,
    help="Channels, height and width of the images of module:factory.",
)
genotype_data_option = option(
    "--data",
    group="Network",
    type=DATA,
    default="fashion-mnist-6k",
    help="Data set that sets the input shape and number of classes of a genotype.",
)


output_names_option = option(
    "--output-names",
    group="Network",
    type=NAMES,
    default_help="as the module names them",
    help="Names of the outputs.",
)


def checkpoint_option(group: str) -> Any:
    return option("--checkpoint", group=group, type=PATH, help="Weights to load (.safetensors).")


def skip_broken_option(group: str) -> Any:
    return option(
        "--skip-broken", group=group, is_flag=True, help="Leave out images that can't be read."
    )


def group_by_option(group: str) -> Any:
    return option(
        "--group-by",
        group=group,
        default="",
        metavar="GROUP",
        default_help="each image for itself",
        help="Keep images of a group, such as one person, in one split: a column of the list, or a "
        r"pattern in file names such as 'person(\d+)'.",
    )


def wait_idle_in(group: str) -> Any:
    return option(
        "--wait-idle",
        "wait_idle_s",
        group=group,
        type=WAIT,
        default=0.0,
        default_help="measure at once",
        help="Wait at most this time, such as 10m, for a quiet core of this machine.",
    )


wait_idle_option = wait_idle_in("Measurement")


def file_shapes(values: Sequence[tuple[str | None, str]]) -> tuple[InputShape, ...]:
    """Return the values of ``--input-shape`` for a model file, which states its types."""
    from hwnas.devices.runner import InputShape

    shapes: list[InputShape] = []
    for name, shape in values:
        sizes, colon, dtype = shape.partition(":")
        if colon:
            raise UsageError(f"--input-shape: a file states its types; leave out :{dtype}")
        shapes.append(InputShape(name, tuple(map(int, sizes.split("x")))))
    return tuple(shapes)


def named_shapes(values: Sequence[tuple[str | None, str]]) -> InputShapes | None:
    """Return the values of ``--input-shape`` as `hwnas.export` takes them; None for no values."""
    names = [name for name, _ in values]
    shapes = [_sizes(shape) for _, shape in values]
    if None in names and any(name is not None for name in names):
        raise UsageError("--input-shape: name all inputs, or none of them")
    if len(set(names)) < len(names) and None not in names:
        raise UsageError(f"--input-shape: a name is given twice: {', '.join(map(str, names))}")
    if None not in names and names:
        return dict(zip(map(str, names), shapes, strict=True))
    return (shapes[0] if len(shapes) == 1 else shapes) if shapes else None


def _sizes(shape: str) -> Any:
    return shape if ":" in shape else tuple(map(int, shape.split("x")))


@contextmanager
def progress_bar(title: str, quiet: bool) -> Iterator[Progress]:
    """Show a bar on a terminal while files are measured, unless ``quiet``."""
    from rich.console import Console
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    with Bar(console=console, transient=True, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
