"""The batch of a ``trtexec`` run, from the input shapes in its log.

An explicit batch is the first axis of the bound shape (``Created input binding for x with
dimensions 8x3x224x224``; ``Input inference shape: x=8x3x224x224``). The implicit batch of TensorRT
7 is ``Batch: 8`` in the inference options. ``Batch: 1`` alone has no meaning, because it is printed
for every loaded engine, whatever its batch.
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
    """The input shapes and the batch option in a log."""

    shapes: dict[str, tuple[int, ...]] = {}
    """By input name."""
    option: int | None = None
    """The option ``--batch``; None for an explicit batch."""

    def batch(self, path: str, input_shape: tuple[int, ...]) -> int | None:
        """Return the number of inputs per call, or None if the log does not state it.

        ``input_shape``: channels, height and width of the network's input. Raises `InvalidFile`
        for a log of a network with another input.
        """
        if not self.shapes:
            return self.option if (self.option or 1) > 1 else None
        if len(self.shapes) > 1:
            raise InvalidFile(
                path,
                f"is the log of a network with {len(self.shapes)} inputs "
                f"({', '.join(self.shapes)}), expected one",
            )
        [shape] = self.shapes.values()
        if shape[1:] == input_shape and shape[0] > 0:
            return shape[0]
        if shape == input_shape:
            return self.option or 1
        raise InvalidFile(
            path,
            f"has an input of shape {_format_shape(shape)}, expected "
            f"{_format_shape(input_shape)} after the batch",
        )


def read_inputs(text: str) -> TimedInputs:
    """Read the text of one run; bound shapes take precedence over requested ones."""
    requested, bound = (
        {match["name"]: tuple(map(int, match["shape"].split("x"))) for match in matches}
        for matches in (_REQUESTED.finditer(text), _BOUND.finditer(text))
    )
    option = _OPTION.search(text)
    return TimedInputs(bound or requested, int(option[1]) if option else None)


def batch_device(device: str, batch: int) -> str:
    """Return the device name for a batch: ``orin`` for 1, ``orin-batch8`` for 8.

    Each batch has a latency model of its own and therefore a device name, e.g. ``v100-batch64``.
    Raises `UsageError` for a name that ends in another batch.
    """
    _, mark, named = device.rpartition("-batch")
    is_number = mark and named.isascii() and named.isdigit() and len(named) < 10
    device_batch = int(named) if is_number else None
    if device_batch == batch or (device_batch is None and batch == 1):
        return device
    if device_batch is None:
        return f"{device}-batch{batch}"
    raise UsageError(
        f"the device {device!r} is for batch {device_batch}, the log has batch {batch}"
    )


def _format_shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
