"""Check every file in the data folders: profiles, latency models, recipes, embedded images.

python -m tools.data.check
"""

from __future__ import annotations

import sys

import click

from hwnas.data.datasets import load_dataset
from hwnas.devices.profile import profile_files, read_profile
from hwnas.errors import HwnasError
from hwnas.export.recipe import find_recipe
from hwnas.latency_models.storage.model_file import read_model
from hwnas.shipped import shipped


@click.command()
def main() -> None:
    """Read everything that is shipped; one line for each file that is wrong."""
    wrong = [*_profiles(), *_models(), *_recipes(), *_images()]
    for line in wrong:
        click.echo(line, err=True)
    sys.exit(1 if wrong else 0)


def _profiles() -> list[str]:
    return [line for file in profile_files() if (line := _problem(lambda f=file: read_profile(f)))]


def _models() -> list[str]:
    wrong: list[str] = []
    for folder in shipped("latency_models").iterdir():
        if not folder.is_dir():
            continue
        for file in folder.iterdir():
            if file.name.endswith(".json"):
                about = file.name.removesuffix(".json") + ".md"
                if not (folder / about).is_file():
                    wrong.append(f"{folder}/{about} is missing: say where the numbers come from")
                read = lambda f=file: read_model(f)  # noqa: E731
                wrong += [line for line in [_problem(read)] if line]
    return wrong


def _recipes() -> list[str]:
    formats = ("onnx", "tflite")
    return [line for name in formats if (line := _problem(lambda n=name: find_recipe(n)))]


def _images() -> list[str]:
    return [line for line in [_problem(lambda: load_dataset("fashion-mnist-6k"))] if line]


def _problem(read: object) -> str | None:
    try:
        read()  # type: ignore[operator]
    except HwnasError as error:
        return str(error)
    return None


if __name__ == "__main__":
    main()
