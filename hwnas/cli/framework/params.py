"""Types of the values that commands take: names that complete in the shell, numbers with units.

A name is not checked here: the function that looks it up raises `UnknownName` with the nearest
one. Names are listed without importing torch, so that completion is quick.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem


class Name(click.ParamType):
    """A name that is known to some registry, or a path."""

    def __init__(self, metavar: str, known: Callable[[], Iterable[str]], paths: bool = True):
        self.name, self.known, self.paths = metavar, known, paths

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return self.name

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return the names that continue the last word of a list such as ``fp32,in``."""
        before, comma, word = incomplete.rpartition(",")
        items = [
            CompletionItem(f"{before}{comma}{name}")
            for name in sorted(self.known())
            if name.startswith(word)
        ]
        return [*items, CompletionItem(incomplete, type="file")] if self.paths else items


class FilePrecision(click.Choice[str]):
    """A precision of files; one that is not offered gets the reason."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if str(value).lower() == "int4":
            self.fail(
                "int4 is not offered: 15 levels for each channel lose too much accuracy; the "
                "smallest files are those of int8-weights",
                param,
                ctx,
            )
        return super().convert(value, param, ctx)


EXPONENT = re.compile(r"([0-9.]+)[eE]([+-]?[0-9]{1,2})")


def _in_digits(match: re.Match[str]) -> str:
    """Return a number such as ``1e3`` without its exponent."""
    try:
        return f"{Decimal(match[0]):f}"
    except ArithmeticError:  # no number
        return match[0]


class Value(click.ParamType):
    """A value that ``parse`` reads from a word; it returns ``None`` for a word that it can't."""

    def __init__(self, metavar: str, parse: Callable[[str], Any], expected: str) -> None:
        self.name, self.parse, self.expected = metavar, parse, expected

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        return self.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):  # a default
            return value
        result = self.parse(value)
        if result is None:
            self.fail(f"{value!r}: expected {self.expected}{self._hint(value)}", param, ctx)
        return result

    def _hint(self, value: str) -> str:
        """Return how a value that is almost right is written."""
        for rule, form in (
            ("decimals have a point", value.replace(",", ".")),
            ("units are in small letters", value.lower()),
            ("numbers are written in digits", EXPONENT.sub(_in_digits, value)),
        ):
            if form != value and self.parse(form) is not None:
                return f"; {rule}: {form}"
        return ""


class Number(click.FloatRange):
    """A finite number within a range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


def parse_share(text: str) -> float | None:
    from hwnas.specialize import values

    return values.parse_share(text)


def parse_fraction(text: str) -> float | None:
    from hwnas.specialize import values

    return values.parse_fraction(text)


def parse_duration_ms(text: str) -> float | None:
    from hwnas.specialize import values

    return values.parse_duration_ms(text)


def parse_wait_s(text: str) -> float | None:
    """Read ``90s``, ``10m`` or ``1h``."""
    from hwnas.specialize import values

    return values.parse_wait_s(text)


def parse_input_shape(text: str) -> tuple[str | None, str] | None:
    """Read ``3x224x224``, ``x=3x224x224`` or ``ids=32:int64``."""
    name, equals, shape = text.rpartition("=")
    match = re.fullmatch(r"(\d+(?:x\d+)*)(?::\w+)?", shape.strip().lower())
    if match is None or not all(map(int, match[1].split("x"))) or (equals and not name.strip()):
        return None
    return name.strip() or None, match[0]


def parse_image_shape(text: str) -> tuple[int, int, int] | None:
    """Read ``3x224x224``."""
    match = re.fullmatch(r"(\d+)x(\d+)x(\d+)", text.strip().lower())
    sizes = tuple(map(int, match.groups())) if match else ()
    return sizes if all(sizes) and len(sizes) == 3 else None


def parse_names(text: str) -> tuple[str, ...] | None:
    """Read ``boxes,scores``."""
    names = tuple(word.strip() for word in text.split(","))
    return names if all(names) else None


def parse_counts(text: str) -> tuple[int, ...] | None:
    """Read ``1,8,32``, without repeats."""
    words = [word.strip() for word in text.split(",")]
    if not all(re.fullmatch("[0-9]{1,5}", word) and 0 < int(word) <= 65536 for word in words):
        return None
    return tuple(dict.fromkeys(map(int, words)))


def parse_layers(text: str) -> tuple[str, ...] | None:
    """Read ``features.0,classifier``."""
    words = tuple(dict.fromkeys(word.strip() for word in text.split(",")))
    return words if all(words) else None


def _devices() -> Iterable[str]:
    from hwnas.devices.profile import profile_files

    return {file.name.removesuffix(".toml") for file in profile_files()}


def _spaces() -> Iterable[str]:
    from hwnas.plugins import names
    from hwnas.spaces.mobile.toml_file import chain_names
    from hwnas.spaces.tree.toml_file import tree_names

    return {*names("space"), *chain_names(), *tree_names()}


def _strategies() -> Iterable[str]:
    from hwnas.plugins import names

    return names("strategy")


def _data() -> Iterable[str]:
    from hwnas.data.datasets import NAMED

    return NAMED


def _networks() -> Iterable[str]:
    from hwnas.networks.names import network_names

    return network_names()


def _pretrained() -> Iterable[str]:
    from hwnas.pretrained.sources import sources

    return [source.name for source in sources()]


def _latency_models() -> Iterable[str]:
    from hwnas.latency_models.storage.registry import known_models

    return known_models()


PATH = click.Path(path_type=Path)
FILE = click.Path(dir_okay=False, path_type=Path)
PRECISION = click.Choice(["fp32", "int8"])
FILE_PRECISION = FilePrecision(["fp32", "fp16", "int8-weights", "int8-dynamic", "int8"])

TARGET = Name("DEVICE", _devices)
SPACE = Name("SPACE", _spaces)
STRATEGY = Name("STRATEGY", _strategies, paths=False)
DATA = Name("DATA", _data)
NETWORK = Name("NETWORK", _networks)
PRETRAINED = Name("NETWORK", _pretrained)
LATENCY_MODEL = Name("MODEL", _latency_models)

SHARE = Value("SHARE", parse_share, "a share such as 5% or 0.05")
"""A float, 0.05 for ``5%``."""
FRACTION = Value("SHARE", parse_fraction, "a share between 0% and 100%, such as 5% or 0.05")
"""A float between 0 and 1."""
DURATION = Value("DURATION", parse_duration_ms, "a positive time with its unit, such as 80ms")
"""A float, in milliseconds."""
WAIT = Value("TIME", parse_wait_s, "a positive time with its unit, such as 90s, 10m or 1h")
"""A float, in seconds."""
CALIBRATION = click.Choice(["minmax", "percentile", "entropy"])
LAYERS = Value("LAYERS", parse_layers, "names of layers such as features.0,classifier, or auto")
"""A tuple of words."""
INPUT_SHAPE = Value(
    "[NAME=]SHAPE", parse_input_shape, "a shape without the batch, such as 3x224x224 or x=3x224x224"
)
"""A pair of a name, or None, and the shape as it is written."""
IMAGE_SHAPE = Value("CxHxW", parse_image_shape, "channels, height and width, such as 3x224x224")
NAMES = Value("NAME,NAME...", parse_names, "names with commas between them, such as boxes,scores")
COUNTS = Value("N,N...", parse_counts, "numbers from 1 on, such as 1,8,32,64")
