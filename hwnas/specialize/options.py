"""The options of a run: one table from which the command line is made, read and written again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, get_args

from hwnas.export.recipe import Calibration
from hwnas.specialize.spec import AmpName, EffortName, Precision
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
    """The option's name; for a switch the flags of ``True`` and, if it has one, of ``False``:
    ``--a/--no-a``."""
    group: str
    help: str
    default: str = ""
    """Text for the help: the value without the option."""
    metavar: str = ""
    """Placeholder of the value, with its unit; empty for a switch or a choice."""
    expected: str = ""
    """Text for the error message: the expected form of a value."""
    parse: Callable[[Any], Any] = str
    """Return the value of the field; ``None`` for an invalid text."""
    format: Callable[[Any], Any] = str
    """Return the text from which ``parse`` reads the same value."""
    choices: tuple[str, ...] = ()
    repeated: bool = False
    """Whether it may be given several times; then ``parse`` takes all words."""

    @property
    def switch(self) -> bool:
        return not self.metavar and not self.choices

    def words(self, value: Any) -> list[str]:
        """Return the arguments of a command line that give the field this value."""
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
        "How latency enters the search: lagrangian adapts its weight until the budget is kept, "
        "add#linear adds it to the loss with a fixed weight, hinge only what is over the budget, "
        "mul#log multiplies the loss by a power of its logarithm.",
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
