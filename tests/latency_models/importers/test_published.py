"""Published tables are read whole, and sum up to what their authors say."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import pytest

from hwnas.architecture.architecture import Block
from hwnas.latency_models.importers import read_observations
from hwnas.spaces.json_networks import read_once_for_all
from tests.support.data.table_files import by_key
from tests.support.paths import SHARED_DATA

PIXEL1 = SHARED_DATA / "proxylessnas" / "pixel1_mobile_trim.yaml"
OFA = SHARED_DATA / "ofa"
needs_pixel1 = pytest.mark.skipif(
    not PIXEL1.is_file(), reason="shared/data/proxylessnas is not here"
)
needs_ofa = pytest.mark.skipif(not OFA.is_dir(), reason="shared/data/ofa is not here")


@needs_pixel1
def test_pixel1_sums_are_the_golden_ones() -> None:
    rows = {key: observation.ms for key, observation in by_key(read_observations(PIXEL1)).items()}
    assert len(rows) == 72
    golden = json.loads((SHARED_DATA / "proxyless_published.json").read_text())["pixel1_lut_golden"]
    widths, strides = (24, 40, 80, 96, 192, 320), (2, 2, 2, 1, 2, 1)
    for name, kernel, ratio, depth in (
        ("smallest_k3e3_depth1", 3, 3, 1),
        ("k5e6_depth2", 5, 6, 2),
        ("largest_k7e6_depth4", 7, 6, 4),
    ):
        blocks = [Block("conv", 3, 32, 3, 2, 1, 224), Block("mbconv", 32, 16, 3, 1, 1, 112)]
        for width, stride in zip(widths, strides, strict=True):
            for place in range(1 if width == 320 else depth):
                before = blocks[-1]
                blocks.append(
                    Block("mbconv", before.out_channels, width, kernel, 1 if place else stride,
                          ratio, before.out_size)
                )  # fmt: skip
        blocks += [Block("conv", 320, 1280, 1, 1, 1, 7), Block("logits", 1280, 1000, 1, 1, 1, 7)]
        total = sum(rows[block.key] for block in blocks)
        assert total == pytest.approx(golden[name]["lut_sum_ms"], abs=1e-9)


@cache
def note10(resolution: int) -> dict[str, float]:
    imported = read_observations(OFA / "lut_note10_17res.json", resolution=resolution)
    return {key: observation.ms for key, observation in by_key(imported).items()}


@needs_ofa
def test_every_device_and_resolution_of_once_for_all_is_read_whole() -> None:
    for device in ("note10", "jetson_cpu", "jetson_gpu"):
        file = OFA / f"lut_{device}_17res.json"
        tables: Any = json.loads(file.read_text())["tables"]
        imported = read_observations(file)
        assert (imported.dialect, len(imported.observations)) == ("ofa", 17 * 95)
        total = sum(row["mean"] for table in tables.values() for row in table.values())
        assert sum(observation.ms for observation in imported.observations) == pytest.approx(total)


@needs_ofa
def test_a_network_on_note10_is_the_sum_of_the_tables_own_rows() -> None:
    """By the names that the authors' formula gives, and by our blocks."""
    tables: Any = json.loads((OFA / "lut_note10_17res.json").read_text())["tables"]
    covered = 0
    for network in read_once_for_all(OFA / "ofa_specialized.json"):
        size, blocks = network.architecture.input_shape[1], network.architecture.blocks
        table = tables.get(str(size), {})
        names = [name for block in blocks for name in ofa_names(block)]
        if all(name in table for name in names):
            total = sum(note10(size)[block.key] for block in blocks)
            assert total == pytest.approx(sum(table[name]["mean"] for name in names), abs=1e-9)
            covered += 1
            if network.note10_table_ms is not None:
                # the collection has it in microseconds
                assert round(total, 3) == network.note10_table_ms
        else:
            assert network.note10_table_ms is None
    assert covered == 6


def ofa_names(block: Block) -> list[str]:
    """Name the layers of a block as Once-for-all does."""
    size, out = block.in_size, block.out_size
    c_in, c_out = block.in_channels, block.out_channels
    if block.op == "mbconv":
        return [
            f"expanded_conv-input:{size}x{size}x{c_in}-output:{out}x{out}x{c_out}"
            f"-expand:{block.mid_channels}-kernel:{block.kernel_size}-stride:{block.stride}"
            f"-idskip:{block.residual:d}-se:{block.squeeze_excite:d}"
            f"-hs:{block.activation == 'hswish':d}"
        ]
    if block.op == "mix":
        return [
            f"AvgPool2D-input:{size}x{size}x{c_in}-output:1x1x{c_in}",
            f"Conv_2-input:1x1x{c_in}-output:1x1x{c_out}",
        ]
    if block.op == "logits":
        return [f"Logits-input:{size}x{size}x{c_in}-output:{c_out}"]
    kind = "Conv" if block.kernel_size == 3 else "Conv_1"
    return [f"{kind}-input:{size}x{size}x{c_in}-output:{out}x{out}x{c_out}"]
