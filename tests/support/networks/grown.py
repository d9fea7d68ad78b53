"""A space of grown networks, small enough to enumerate."""

from __future__ import annotations

from hwnas.spaces.grown.chain import plain_blocks
from hwnas.spaces.grown.space import GrownSpace, GrownStage, Layer


def small_space(
    size: int = 12, start: int = 4, depth: int = 2, widths: tuple[int, ...] = (4, 8)
) -> GrownSpace:
    """Return a space of two stages of up to ``depth`` convolutions, and one of 6 or 12 units."""
    stages = [
        GrownStage(
            widths=widths,
            kernels=(1, 3),
            depth=depth,
            start=(Layer(start, 3),),
            default=(Layer(8, 3),),
            pool=pool,
        )
        for pool in (2, 1)
    ]
    fc = GrownStage(
        widths=(6, 12),
        kernels=(1,),
        depth=1,
        start=(Layer(6, 1),),
        default=(Layer(12, 1),),
        fully_connected=True,
    )
    return GrownSpace("small", (1, size, size), 3, (*stages, fc), "plain", plain_blocks, (), 2, 2)
