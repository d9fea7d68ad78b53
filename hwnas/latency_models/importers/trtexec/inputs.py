"""How many inputs a call of ``trtexec`` computed, by what its log says of the network's inputs.

With an explicit batch it is the first axis of the shape that was bound (``Created input binding
for x with dimensions 8x3x224x224``; ``Input inference shape: x=8x3x224x224``), with TensorRT 7's
implicit one ``Batch: 8`` of the inference options. ``Batch: 1`` alone says nothing: it is printed
of every engine that is loaded, whatever its batch.
"""

from __future__ import annotations

import re

import msgspec

from hwnas.errors import InvalidFile, UsageError

_SHAPE = r"(?P<shape>\d{1,9}(?:x\d{1,9}){0,7})\b"
_BOUND = re.compile(
    rf"(?:Created input|Input) binding for (?P<name>\S{{1,500}}) with dimensions {_SHAPE}"
)
_REQUESTED = re.compile(rf"Input inference shape[^:\n]{{0,40}}: ?(?P<name>\S{{1,500}})={_SHAPE}")
_OPTION = re.compile(r"\] Batch: (\d{1,9})\b")


class TimedInputs(msgspec.Struct, frozen=True):
    """What a log says of the inputs of a call."""

    shapes: dict[str, tuple[int, ...]] = {}
    """By the input's name."""
    option: int | None = None
    """``--batch`` as the log has it; None for an explicit batch."""

    def batch(self, path: str, input_shape: tuple[int, ...]) -> int | None:
        """Return the inputs of a call; None where the log doesn't say it.

        ``input_shape``: channels, height and width that the network takes. Raises `InvalidFile`
        for a log of a network that takes something else.
        """
        if not self.shapes:
            return self.option if (self.option or 1) > 1 else None
        if len(self.shapes) > 1:
            raise InvalidFile(
                path, f"is of a network of {len(self.shapes)} inputs ({', '.join(self.shapes)}), "
                "expected one"
            )  # fmt: skip
        [shape] = self.shapes.values()
        if shape[1:] == input_shape and shape[0] > 0:
            return shape[0]
        if shape == input_shape:
            return self.option or 1
        raise InvalidFile(
            path, f"is of an input of {_crossed(shape)}, the network takes {_crossed(input_shape)} "
            "(with any batch before it)"
        )  # fmt: skip


def read_inputs(text: str) -> TimedInputs:
    """Read the text of one run; bound shapes take precedence over requested ones."""
    requested, bound = (
        {match["name"]: tuple(map(int, match["shape"].split("x"))) for match in matches}
        for matches in (_REQUESTED.finditer(text), _BOUND.finditer(text))
    )
    option = _OPTION.search(text)
    return TimedInputs(bound or requested, int(option[1]) if option else None)


def batch_device(device: str, batch: int) -> str:
    """Return the name of a device at a batch: ``orin``, at 8 ``orin-batch8``.

    A call of another batch has another latency, so it is another device, as ``v100-batch64`` is.
    Raises `UsageError` for a name that says another batch.
    """
    _, mark, named = device.rpartition("-batch")
    says = int(named) if mark and named.isascii() and named.isdigit() and len(named) < 10 else None
    if says == batch or (says is None and batch == 1):
        return device
    if says is None:
        return f"{device}-batch{batch}"
    raise UsageError(f"{device} is the name of a device at batch {says}, the log is of {batch}")


def _crossed(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
