"""Does every shipped data file read: profiles, latency models, recipes, embedded images?

python -m tools.data.check
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial

import click

from hwnas.data.datasets import load_dataset
from hwnas.devices.profile import profile_files, read_profile
from hwnas.errors import HwnasError
from hwnas.export.recipe import find_recipe
from hwnas.latency_models.storage.model_file import read_model
from hwnas.shipped import shipped


@click.command()
def main() -> None:
    """Read every shipped data file and print a line for each problem."""
    problems = list(find_problems())
    for problem in problems:
        click.echo(problem, err=True)
    sys.exit(1 if problems else 0)


def find_problems() -> Iterator[str]:
    """Yield the error of each file that does not read, and each model without a card."""
    reads: list[Callable[[], object]] = [partial(load_dataset, "fashion-mnist-6k")]
    reads += [partial(read_profile, file) for file in profile_files()]
    reads += [partial(find_recipe, format) for format in ("onnx", "tflite")]
    for folder in shipped("latency_models").iterdir():
        for file in folder.iterdir() if folder.is_dir() else ():
            if file.name.endswith(".json"):
                reads.append(partial(read_model, file))
                card = file.name.removesuffix(".json") + ".md"
                if not (folder / card).is_file():
                    yield f"{folder}/{card} is missing; it must state the source of {file.name}"
    for read in reads:
        try:
            read()
        except HwnasError as error:
            yield str(error)


if __name__ == "__main__":
    main()
