"""The options of a run: one table from which the command line is made, read and written again."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

import msgspec

from hwnas.errors import UsageError
from hwnas.export.recipe import Calibration
from hwnas.pretrained.sources import is_source
from hwnas.specialize.spec import AmpName, EffortName, Precision, RunSpec, Scalar, read_spec
from hwnas.specialize.values import (
    BUDGET_FORM,
    THREADS_FORM,
    format_budget,
    format_share,
    format_wait_s,
    list_parser,
    list_writer,
    parse_budget,
    parse_count,
    parse_factor,
    parse_fraction,
    parse_integer,
    parse_positive,
    parse_precisions,
    parse_strategy_options,
    parse_targets,
    parse_threads,
    parse_wait_s,
    parse_words,
    strategy_option_words,
)

OBJECTIVES = ("lagrangian", "add#linear", "mul#log", "hinge")


class RunOption(NamedTuple):
    """A field of `RunSpec` on the command line."""

    field: str
    flag: str
    """For a switch, the flags of ``True`` and of ``False`` where there is one: ``--a/--no-a``."""
    group: str
    help: str
    default: str = ""
    """What happens without the option."""
    metavar: str = ""
    """Placeholder of the value, with its unit; empty for a switch or a choice."""
    expected: str = ""
    """What a value must be, for the error message."""
    parse: Callable[[Any], Any] = str
    """Return the value of the field, ``None`` for text that has none."""
    format: Callable[[Any], Any] = str
    """Return the text from which ``parse`` reads the same value."""
    choices: tuple[str, ...] = ()
    repeated: bool = False
    """Whether it may be given several times; then ``parse`` takes all words."""

    @property
    def switch(self) -> bool:
        return not self.metavar and not self.choices

    def words(self, value: Any) -> list[str]:
        """Return what gives the field this value on a command line."""
        if self.switch:
            on, _, off = self.flag.partition("/")
            return [flag for flag in (on if value else off,) if flag]
        texts = self.format(value) if self.repeated else [self.format(value)]
        return [word for text in texts for word in (self.flag, text)]


GOAL, SEARCH, TRAINING, INT8 = "What to make", "Search", "Training", "Files and int8"

OPTIONS = (
    RunOption(
        "targets",
        "--target",
        GOAL,
        "Device, by name or profile file. Several targets give one network each.",
        "host-cpu",
        "DEVICE",
        parse=parse_targets,
        format=list,
        repeated=True,
    ),
    RunOption(
        "budgets",
        "--budget",
        GOAL,
        "Latency such as 80ms or 900us, or 50% of the largest network's. Several budgets, as in "
        "10ms,20ms, give one network each.",
        "the latency of the space's default network",
        "DURATION|SHARE",
        BUDGET_FORM,
        list_parser(parse_budget),
        list_writer(format_budget),
    ),
    RunOption(
        "data",
        "--data",
        GOAL,
        "Name of a data set, folder of images, list (.csv), tar shards, or .npz or .packed file.",
        "fashion-mnist-6k",
        "DATA",
    ),
    RunOption(
        "pretrained",
        "--from",
        GOAL,
        "Trained network to tune on the data and cut to the budget: a name of `hwnas networks "
        "list`, the folder of a run or training, a weights file, module:factory, or scratch for "
        "none.",
        "photos start from a network whose weights are on this machine, other data from scratch",
        "NETWORK",
    ),
    RunOption(
        "siblings",
        "--siblings",
        GOAL,
        "Smaller trained networks to tune and measure beside what is cut, such as "
        "mobilenet_v3_small,mnasnet0_5; the best network is delivered.",
        "none",
        "NETWORK,…",
        parse=parse_words,
        format=list_writer(str),
    ),
    RunOption(
        "effort",
        "--effort",
        GOAL,
        "How much is searched and trained.",
        "quick",
        choices=get_args(EffortName),
    ),
    RunOption(
        "minutes",
        "--minutes",
        GOAL,
        "Time that the run should take; epochs and networks are planned from measured speed.",
        "as long as the effort takes",
        "M",
        "a positive number of minutes",
        parse_factor,
        lambda minutes: f"{minutes!r}",
    ),
    RunOption(
        "seed", "--seed", GOAL, "Seed of all random numbers.", "0", "N", "an integer", parse_integer
    ),
    RunOption(
        "space", "--space", SEARCH, "Search space: a name or a TOML file.", "mobile", "SPACE"
    ),
    RunOption(
        "strategy",
        "--strategy",
        SEARCH,
        "Search strategy. Spaces of cells take proxyless, random, darts, darts-2, pc-darts and "
        "ista; cells-norm takes ista-one-stage.",
        "proxyless",
        "STRATEGY",
    ),
    RunOption(
        "strategy_options",
        "--option",
        SEARCH,
        "Option of the strategy, such as estimator=two for proxyless, or shrink=false and "
        "ray=HOST:PORT for eas. Repeatable.",
        "the strategy's defaults",
        "KEY=VALUE",
        "KEY=VALUE, like estimator=two",
        parse_strategy_options,
        strategy_option_words,
        repeated=True,
    ),
    RunOption(
        "objective",
        "--objective",
        SEARCH,
        "How latency enters the search.",
        "the strategy's own",
        choices=OBJECTIVES,
    ),
    RunOption(
        "resolutions",
        "--resolution",
        SEARCH,
        "Height and width of the images, such as 24,28,32; the best network is delivered.",
        "the data set's, or the target's",
        "PIXELS",
        "pixels, like 24,28,32",
        list_parser(parse_positive),
        list_writer(str),
    ),
    RunOption(
        "width_mults",
        "--width-mult",
        SEARCH,
        "Factor of all widths of the space, such as 0.75,1,1.5; the best network is delivered.",
        "1; with --effort standard or full up to 3 where a budget in ms allows it",
        "FACTOR",
        "positive numbers, like 0.75,1",
        list_parser(parse_factor),
        list_writer(lambda width: f"{width!r}"),
    ),
    RunOption(
        "share_weights",
        "--share-weights/--separate-weights",
        SEARCH,
        "Whether candidates of a block share weights in the supernet.",
        "shared",
    ),
    RunOption(
        "latency_model",
        "--latency-model",
        SEARCH,
        "Latency model: a file, or a name such as pixel1/table-2018.",
        "the target's own",
        "MODEL",
    ),
    RunOption(
        "raw",
        "--raw",
        SEARCH,
        "Compare the budget with this run's own clock, not with calibrated latency.",
    ),
    RunOption(
        "wait_idle_s",
        "--wait-idle",
        SEARCH,
        "Wait at most this time, such as 10m, for a quiet core before latencies are measured here.",
        "measure at once",
        "TIME",
        "a positive time with its unit, such as 90s, 10m or 1h",
        parse_wait_s,
        format_wait_s,
    ),
    RunOption(
        "skip_broken",
        "--skip-broken",
        TRAINING,
        "Leave out images that can't be read.",
    ),
    RunOption(
        "group_by",
        "--group-by",
        TRAINING,
        "Keep images of a group, such as one person, in one split: a column of the list, or a "
        r"pattern in file names such as 'person(\d+)'.",
        "each image for itself",
        "GROUP",
    ),
    RunOption(
        "flip",
        "--flip/--no-flip",
        TRAINING,
        "Mirror training images at random.",
        "colour images are mirrored, grey ones are not",
    ),
    RunOption(
        "device",
        "--device",
        TRAINING,
        "Device that searches and trains: cpu, cuda, cuda:N or mps.",
        "the first CUDA device, else the CPU",
        "DEVICE",
    ),
    RunOption(
        "amp",
        "--amp",
        TRAINING,
        "Precision of training steps.",
        "bf16 on GPUs that have it, else float32",
        choices=get_args(AmpName),
    ),
    RunOption(
        "threads",
        "--threads",
        TRAINING,
        "Threads that train the supernet.",
        "auto: measured for images of 112 px and more, else 1",
        "N|auto",
        THREADS_FORM,
        parse_threads,
    ),
    RunOption(
        "precisions",
        "--precision",
        INT8,
        "fp32, int8, or auto for the better of the two.",
        "fp32",
        "fp32|int8|auto",
        f"{', '.join(get_args(Precision))} or auto",
        parse_precisions,
        list_writer(str),
    ),
    RunOption(
        "calibration",
        "--calibration",
        INT8,
        "How int8 ranges are measured: minmax takes the extremes, percentile and entropy cut off "
        "rare values.",
        "minmax",
        choices=get_args(Calibration),
    ),
    RunOption(
        "max_drop",
        "--max-drop",
        INT8,
        "Accuracy that int8 may lose, such as 1%.",
        "2%",
        "SHARE",
        "a share between 0% and 100%, like 2%",
        parse_fraction,
        format_share,
    ),
    RunOption(
        "tune_epochs",
        "--tune-epochs",
        INT8,
        "Epochs of fine-tuning for an int8 file that loses more than that.",
        "2",
        "N",
        "0 or more epochs",
        parse_count,
    ),
    RunOption(
        "pixels",
        "--pixels",
        INT8,
        "Make files that take pixels from 0 to 255 and normalise them themselves.",
    ),
)


MOVABLE = ("device", "amp", "wait_idle_s")
"""Fields that may differ when a run is resumed: checkpoints move between devices."""


def command_words(spec: RunSpec) -> Iterator[str]:
    """Yield the arguments of ``hwnas specialize`` that make ``spec``, its defaults left out."""
    default = RunSpec()
    for option in OPTIONS:
        value = getattr(spec, option.field)
        if value != getattr(default, option.field) or option.field in ("targets", "data"):
            yield from option.words(value)


def command_line(spec: RunSpec) -> str:
    """Return the command that repeats a run."""
    named = msgspec.structs.replace(spec, data=_named_data(spec.data))
    return shlex.join(["hwnas", "specialize", *command_words(named)])


def _named_data(data: str) -> str:
    """Return the data as a user names them."""
    from hwnas.data.photos.sources.answers import photos_of

    return photos_of(data)


def parse_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of `RunSpec` that a command line gives.

    ``values`` are those of each option, ``None`` or ``()`` where it is not given. Paths are made
    absolute, because a run may be resumed from another folder.
    """
    fields: dict[str, Any] = {}
    for option in OPTIONS:
        value = values[option.field]
        if value is None or value == ():
            continue
        if option.repeated and (value := option.parse(value)) is None:
            raise UsageError(f"{option.flag}: expected {option.expected}")
        fields[option.field] = value
    for field in ("data", "pretrained", "space", "latency_model"):
        if field in fields:
            fields[field] = _absolute(fields[field])
    if siblings := fields.get("siblings"):
        fields["siblings"] = tuple(map(_absolute, siblings))
    return fields


def _absolute(name: str) -> str:
    """Return the absolute path of what exists and is no network's name, else ``name``."""
    exists = Path(name).exists() and not is_source(name)
    return str(Path(name).resolve()) if exists else name


def resumed_spec(folder: Path, fields: dict[str, Any]) -> RunSpec:
    """Return the specification of the run in ``folder``, with which ``fields`` must agree."""
    before = read_spec(folder)
    if fields.get("data") == _named_data(before.data):
        fields = {**fields, "data": before.data}
    if options := fields.get("strategy_options"):
        fields = {**fields, "strategy_options": {**before.strategy_options, **options}}
    now = msgspec.structs.replace(before, **fields)
    check_resumed(folder, before, now)
    return now


def check_resumed(folder: Path, before: RunSpec, now: RunSpec) -> None:
    """Raise `UsageError` if a run would be resumed with another specification."""
    for option in OPTIONS:
        old, new = (getattr(spec, option.field) for spec in (before, now))
        if old == new:
            continue
        if option.field in MOVABLE:
            continue
        if option.field == "strategy_options" and _same_result(now.strategy, old, new):
            continue
        old_words, new_words = (
            f"no {option.flag.partition('/')[0]}"
            if value in (None, (), "", {})
            else " ".join(option.words(value))
            for value in (old, new)
        )
        raise UsageError(
            f"{folder}: the run to resume has {old_words}, not {new_words}; leave the option out, "
            "or start a new run with another --out"
        )


def _same_result(strategy: str, old: dict[str, Scalar], new: dict[str, Scalar]) -> bool:
    """Whether options of a strategy differ only where that changes no result."""
    from hwnas.search.registry import parse_options

    changed = {key for key in {*old, *new} if old.get(key) != new.get(key)}
    return changed <= parse_options(strategy, {}).without_effect
