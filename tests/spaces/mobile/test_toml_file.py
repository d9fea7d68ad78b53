"""Spaces of TOML files: what is shipped is what was published, what is wrong is named."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest
import torch

from hwnas.architecture.architecture import Block, Genotype
from hwnas.errors import InvalidFile, UnknownName, UsageError
from hwnas.nn.supernet import Supernet
from hwnas.spaces.find import find_space
from hwnas.spaces.mobile.space import mobile_space
from hwnas.spaces.mobile.toml_file import chain_names, chain_space
from tests.support.paths import SHARED_DATA

PUBLISHED = SHARED_DATA / "ofa"
needs_shared = pytest.mark.skipif(not PUBLISHED.is_dir(), reason="shared/data/ofa is not here")
OFA = chain_space("ofa", (3, 224, 224), 1000)
TINY = """
name = "tiny"
title = "A chain of two decisions"
resolution = { least = 8, most = 64, step = 4 }
stem = { width = 8 }
head = { width = 16 }
options = [{ kernel_size = [3, 5], expand_ratio = [3] }]
stages = [{ width = 8, depth = 2, least_depth = 1 }]
"""


def written(folder: Path, text: str) -> str:
    file = folder / "my_space.toml"
    file.write_text(text)
    return str(file)


def test_the_space_of_proxylessnas_is_mobile_at_224_px() -> None:
    space, mobile = chain_space("proxyless", (3, 224, 224), 1000), mobile_space((3, 224, 224), 1000)
    assert space.blocks == mobile.blocks and space.fixed == mobile.fixed
    assert space.size == 6**6 * 7**15 == pytest.approx(2.2e17, rel=0.02)


def test_the_space_of_once_for_all_has_its_stages_and_elastic_depth() -> None:
    assert [len(row) for row in OFA.blocks] == [9, 9, 10, 10] * 5
    networks = sum(9**depth for depth in (2, 3, 4)) ** 5
    assert networks == pytest.approx(2e19, rel=0.1)
    # skipping the third or the fourth block is the same network, so there are a few choices more
    assert networks < OFA.size == (9 * 9 * 10 * 10) ** 5
    seen = [(row[0].squeeze_excite, row[0].activation, row[0].out_size) for row in OFA.blocks[::4]]
    assert seen == [
        (False, "relu", 56), (True, "relu", 28), (False, "hswish", 14), (True, "hswish", 14),
        (True, "hswish", 7),
    ]  # fmt: skip


@needs_shared
def test_the_space_of_once_for_all_has_the_blocks_of_its_published_latency_table() -> None:
    keys: set[str] = set(
        json.loads((PUBLISHED / "lut_note10_17res.json").read_bytes())["tables"]["224"]
    )
    for block in (site.block for site in OFA.sites()):
        if block.op == "mbconv":
            assert table_key(block) in keys
            keys -= set()
    used = {table_key(site.block) for site in OFA.sites() if site.block.op == "mbconv"}
    first = "expanded_conv-input:112x112x24-output:112x112x24-expand:24-kernel:3-stride:1"
    blocks = {key for key in keys if key.startswith("expanded_conv") and not key.startswith(first)}
    assert used == blocks


def table_key(block: Block) -> str:
    size, out = block.in_size, block.out_size
    hard = int(block.activation == "hswish")
    return (
        f"expanded_conv-input:{size}x{size}x{block.in_channels}-output:{out}x{out}x"
        f"{block.out_channels}-expand:{block.mid_channels}-kernel:{block.kernel_size}-stride:"
        f"{block.stride}-idskip:{int(block.residual)}-se:{int(block.squeeze_excite)}-hs:{hard}"
    )


def test_a_supernet_of_mobilenet_v3_blocks_gives_its_networks(tmp_path: Path) -> None:
    text = TINY.replace("head = { width = 16 }", "head = { width = 16, mix_width = 24 }").replace(
        "expand_ratio = [3]", 'expand_ratio = [3], activation = "hswish", squeeze_excite = true'
    )
    space = chain_space(written(tmp_path, text), (1, 12, 12), 3)
    torch.manual_seed(0)
    supernet, images = Supernet(space).eval(), torch.randn(2, 1, 12, 12)
    for genotype in (space.random(Random(seed)) for seed in range(4)):
        network = supernet.extract(genotype).eval()
        torch.testing.assert_close(network(images), supernet(images, genotype.choices))
        assert [block.op for block in space.architecture(genotype).blocks[-2:]] == ["mix", "logits"]


def test_blocks_below_the_least_depth_cannot_be_skipped(tmp_path: Path) -> None:
    rows = chain_space(written(tmp_path, TINY), (1, 12, 12), 3).decisions
    assert [row.candidates[-1] for row in rows] == ["mb k5 e3", "skip"]


def test_a_changed_file_is_another_space(tmp_path: Path) -> None:
    space = chain_space(written(tmp_path, TINY), (1, 12, 12), 3)
    changed = chain_space(written(tmp_path, TINY.replace("16", "32")), (1, 12, 12), 3)
    assert space.name != changed.name and space.name.startswith("tiny-")
    with pytest.raises(UsageError, match="does not fit"):
        changed.architecture(Genotype(space.name, (0, 0)))


def test_a_width_multiplier_scales_all_widths_to_multiples_of_8(tmp_path: Path) -> None:
    text = "width_mult = 1.5\n" + TINY
    space = chain_space(written(tmp_path, text), (1, 12, 12), 3)
    assert (space.stem[0].out_channels, space.stages[0].width, space.head_width) == (16, 16, 24)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("depth = 2", "dept = 2"), r"unknown field `dept` - at `\$.stages\[0\]`|missing required"),
        (
            ("depth = 2", 'depth = "two"'),
            r"Expected `int`, got `str` - at `\$.stages\[\d\].depth`",
        ),
        (("[3, 5]", "[3, 4]"), r"Invalid enum value 4 - at `\$.options\[\d\].kernel_size"),
        (("[3, 5]", "[3, 3]"), r"expected each candidate once - at `\$.options`"),
        (
            ("least_depth = 1", "least_depth = 3"),
            r"at most the depth, 2, got 3 - at `\$.stages\[0\]",
        ),
        (("stem = { width = 8 }", "stem = { width = 0 }"), r"`int` >= 1 - at `\$.stem.width`"),
        (('name = "tiny"', 'name = "A space"'), r"matching regex .* at `\$.name`"),
        (("stages = [", "stages = ["[:-1]), "my_space.toml: "),
    ],
)
def test_a_wrong_field_is_named_with_its_file_and_place(
    change: tuple[str, str], message: str, tmp_path: Path
) -> None:
    assert change[0] in TINY
    with pytest.raises(InvalidFile, match=message) as caught:
        chain_space(written(tmp_path, TINY.replace(*change)), (1, 12, 12), 3)
    assert "my_space.toml: " in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [4, 13, 68])
def test_an_image_size_that_the_space_is_not_for_is_one_clear_error(
    size: int, tmp_path: Path
) -> None:
    with pytest.raises(
        UsageError, match=r"resolution is 8 to 64 px in steps of 4, the images have"
    ):
        chain_space(written(tmp_path, TINY), (1, size, size), 3)


def test_a_misspelt_space_gets_the_nearest_name() -> None:
    with pytest.raises(UnknownName, match="did you mean 'mobile'"):
        find_space("mobil", (1, 28, 28), 10)
    with pytest.raises(InvalidFile, match=r"none\.toml: No such file"):
        find_space("none.toml", (1, 28, 28), 10)


@pytest.mark.parametrize("name", chain_names())
def test_every_shipped_space_is_called_as_its_file(name: str) -> None:
    space = find_space(name, (3, 224, 224), 1000)
    assert space.name.rsplit("-", 1)[0] == name
    assert space.architecture(space.default).macs > 0
