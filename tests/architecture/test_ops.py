"""The table of operations agrees with what the modules of blocks compute and with their files."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Literal

import msgspec
import pytest
import torch
from torch import nn

from hwnas.architecture.architecture import Block, round_channels
from hwnas.architecture.artifact import Format
from hwnas.architecture.ops import OPS
from hwnas.architecture.size import axes
from hwnas.errors import ExportError, UnknownName, UsageError
from hwnas.export.compile import compile_model
from hwnas.export.verification.images import Verification
from hwnas.nn.blocks.table import MODULES, block_module
from hwnas.nn.build import untrained

BLOCKS = (
    Block("conv", 3, 8, 3, 2, 1, 9),
    Block("conv", 8, 24, 1, 1, 1, 7, "hswish"),
    Block("mbconv", 8, 8, 3, 1, 1, 7),
    Block("mbconv", 8, 8, 5, 1, 3, 7, "relu"),
    Block("mbconv", 8, 16, 7, 2, 6, 9, "hswish", True),
    Block("mbconv", 24, 24, 3, 1, 2.5, 6, "relu6", True),
    *(Block("mbconv", 8, 16, k, 2, 3, 8, padding="same") for k in (3, 5)),
    Block("mbconv", 8, 8, 3, 1, 3, 7, "silu", True, gate="sigmoid", squeezed=2),
    Block("mbconv", 8, 8, 3, 2, 3, 8, "relu", True, padding="same", gate="sigmoid"),
    Block("mbconv", 8, 8, 3, 1, 3, 7, "hswish", True, squeezed=5, precision="int8"),
    Block("conv", 3, 8, 3, 2, 1, 10, "silu", padding="same"),
    Block("conv", 3, 8, 11, 4, 1, 27, "relu", padding=2),
    *(Block("conv", 3, 8, 4, s, 1, size, "relu") for s, size in ((4, 11), (2, 8))),
    *(Block("double_conv", 8, 12, k, s, 1.5, 7, "relu") for k, s in ((3, 1), (5, 2))),
    Block("fused_mbconv", 8, 8, 3, 1, 1, 7),
    *(Block("fused_mbconv", 8, 16, 3, 2, e, 8, "silu", padding="same") for e in (1, 2)),
    Block("fused_mbconv", 8, 16, 3, 2, 2, 9, "hswish"),
    Block("basic", 8, 8, 3, 1, 1.5, 7, "relu"),
    *(Block("basic", 4, 16, k, 2, 3, size, "relu") for k, size in ((3, 9), (5, 8))),
    Block("basic", 8, 16, 3, 1, 1, 7, "hswish"),
    Block("bottleneck", 16, 16, 3, 1, 0.25, 7, "relu"),
    *(Block("bottleneck", 8, 16, 3, s, 0.75, size, "relu") for s, size in ((1, 7), (2, 8))),
    Block("bottleneck", 12, 12, 3, 1, 1, 7, "relu", group_width=4),
    *(
        Block("bottleneck", 8, 12, 3, 2, 1.5, size, "relu", True, squeezed=2, group_width=6)
        for size in (8, 9)
    ),
    *(
        Block("uib", 8, 8, k, 1, 3, 7, "relu", start_kernel_size=start)
        for k, start in ((5, 3), (1, 5), (3, 0), (1, 0))
    ),
    *(
        Block("uib", 8, 16, k, 2, 3, size, "hswish", start_kernel_size=3)
        for k in (1, 5)
        for size in (8, 9)
    ),
    Block("uib", 8, 8, 3, 1, 1, 7, "relu", True, gate="sigmoid", squeezed=3),
    *(Block("depthwise_separable", 8, 16, 5, s, 1, 8, "relu", s == 2) for s in (1, 2)),
    Block("depthwise_separable", 8, 8, 3, 2, 1, 8, "hswish", padding="same"),
    *(Block("basic_d", 8, 12, 3, 2, 1.5, size, "relu") for size in (8, 9)),
    Block("bottleneck_d", 8, 16, 3, 2, 1, 9, "relu", True, squeezed=2, group_width=4),
    Block("basic_se", 8, 8, 3, 1, 1, 7, "relu", True, gate="sigmoid"),
    Block("basic_se", 8, 12, 3, 2, 1, 7, "relu", True, squeezed=3),
    Block("basic_se_d", 8, 12, 3, 2, 1.5, 8, "relu", True, squeezed=3),
    Block("bottleneck_se", 16, 16, 3, 1, 0.5, 7, "relu", True, squeezed=2, group_width=4),
    Block("bottleneck_se", 16, 16, 3, 1, 0.5, 7, "relu"),
    Block("bottleneck_se_d", 8, 16, 3, 2, 0.5, 9, "silu", True, gate="sigmoid"),
    Block("shuffle_unit", 8, 8, 3, 1, 0.75, 7, "relu"),
    *(Block("shuffle_unit", 6, 16, 3, 2, 1.5, size, "hswish") for size in (8, 9)),
    *(Block("convnext", 8, 8, k, 1, 4, 7, "gelu") for k in (7, 5)),
    Block("layer_norm", 8, 8, 1, 1, 1, 7),
    Block("layer_norm", 8, 8, 1, 1, 1, 1),
    *(Block("conv_bn", 3, 8, k, k, 1, 9) for k in (2, 4)),
    *(
        Block("piece", 8, width, 1, 1, 1, 9, piece=text)
        for width, text in (
            (12, "conv 4 bias / relu / conv 6 / norm / conv 6 k3 p1 from 2 / concat from 4 5"),
            (
                8,
                "conv 16 k3 p1 g8 / silu / global_pool / conv 8 bias / sigmoid / "
                "chunk 1of2 from 2 / mul from 6 5 / add from 0 7",
            ),
            (
                9,
                "conv 9 k3x5 s2 p1x2 d2 / leaky_relu v0.1 / max_pool k3 s2 p1 ceil / "
                "avg_pool k3 p1 padded / slice 2: / slice 0:2 from 4 / concat from 6 5",
            ),
            (
                8,
                "avg_pool k2 s2 / conv 8 k1x5 p0x2 / hardsigmoid / resize from 3 0 / "
                "mul from 0 4 / times v0.5 / plus v1.0 / tanh / gelu / hswish",
            ),
            (
                8,
                "global_pool / conv 1 k3 p1 from 0 / add from 1 2 / sigmoid / mul from 4 0 / "
                "conv 8 k3 s2 psame g8",
            ),
            (8, "max_pool k3 s2 ceil / max_pool k3 s2 ceil / max_pool k3 s2 ceil / conv 8"),
            (
                6,
                "conv 6 k3 s2 psame bias / relu6 / layer_norm v1e-06 / response_norm v1e-06 / "
                "scale / scale 1 / shuffle g2",
            ),
        )
    ),
    *(Block("conv_logits", 8, 5, 1, 1, 1, size, "relu") for size in (7, 1)),
    Block("conv_bn", 3, 8, 3, 1, 1, 9, padding=0),
    Block("identity", 8, 8, 1, 1, 1, 7),
    Block("logits", 8, 5, 1, 1, 1, 7),
    Block("conv_bn", 3, 8, 3, 2, 1, 9),
    Block("relu_conv_bn", 8, 6, 1, 1, 1, 7, "relu"),
    Block("factorized_reduce", 8, 6, 1, 2, 1, 8, "relu"),
    *(Block("sep_conv", 8, 8, k, s, 1, 9, "relu") for k, s in ((3, 1), (5, 2), (7, 2))),
    *(Block("dil_conv", 8, 6, k, s, 1, 9, "relu") for k, s in ((3, 1), (5, 2))),
    *(Block("conv_7x1_1x7", 8, 8, 7, s, 1, 9, "relu") for s in (1, 2)),
    *(Block(op, 8, 8, 3, s, 1, 9) for op in ("max_pool", "avg_pool_bn") for s in (1, 2)),
    Block("avg_pool", 8, 8, 3, 2, 1, 8),
    Block("max_pool_bn", 8, 8, 3, 2, 1, 8),
    Block("identity_bn", 8, 8, 1, 1, 1, 7),
    Block("none", 8, 8, 1, 2, 1, 7),
    Block("add", 8, 8, 1, 1, 3, 7),
    Block("concat", 8, 32, 1, 1, 4, 7),
    *(Block("max_pool", 8, 8, k, k, 1, size) for k, size in ((2, 9), (2, 8), (4, 9))),
    *(Block("max_pool", 8, 8, k, 2, 1, size, padding="same") for k, size in ((2, 9), (3, 8))),
    *(Block("max_pool", 8, 8, 3, 2, 1, size, padding=0) for size in (8, 9)),
    Block("global_pool", 8, 8, 1, 1, 1, 7),
    Block("conv", 8, 6, 1, 1, 1, 1, "relu"),
    Block("bare_conv", 3, 8, 3, 1, 1, 7),
    Block("dense_layer", 8, 13, 3, 1, 4, 7, "relu"),
    Block("dense_layer", 8, 12, 5, 1, 2, 7, "relu"),
    *(Block("transition", 8, 6, 2, 2, 1, size, "relu") for size in (8, 9)),
    Block("norm_logits", 8, 5, 1, 1, 1, 7, "relu"),
    Block("mix", 8, 6, 1, 1, 1, 7, "hswish"),
    *(Block("hidden", 8, 6, 1, 1, 1, size, "hswish") for size in (7, 1)),
    *(Block("hidden", 8, 6, 3, 1, 1, size, "relu") for size in (2, 3, 6, 7)),
    Block("bn_conv", 8, 6, 3, 1, 1, 7),
    Block("bn_relu_conv_bn", 8, 6, 1, 2, 1, 8, "relu"),
    Block("bn_relu_group_conv", 8, 6, 3, 1, 1, 7, "relu"),
    Block("bn_relu_sep_conv", 8, 6, 3, 2, 1, 7, "relu"),
    Block("bn_relu_dil_conv", 8, 6, 5, 1, 1, 9, "relu"),
    *(Block(op, 8, 4, 1, 1, 1, 7) for op in ("first_half", "second_half")),
    Block("pad_channels", 8, 11, 1, 1, 1, 7),
)
PADDINGS: tuple[Literal["symmetric", "same"], ...] = ("symmetric", "same")
SAMPLES = {block.op: block for block in reversed(BLOCKS)}
"""The first of `BLOCKS` of each operation."""
every_block = pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.label)


def counted_macs(module: nn.Module, images: torch.Tensor) -> int:
    """Run the module; add up the products of every convolution and linear layer."""
    macs = 0

    def count(layer: nn.Module, _: object, out: torch.Tensor) -> None:
        nonlocal macs
        assert isinstance(layer, nn.Conv2d | nn.Linear)
        macs += out[0].numel() * layer.weight[0].numel()

    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    module.eval()(images)
    return macs


@every_block
def test_macs_and_params_of_a_block_are_those_of_its_module(block: Block) -> None:
    module = block_module(block)
    images = torch.zeros(2, *block.in_shape)
    assert block.params == sum(parameter.numel() for parameter in module.parameters())
    assert block.macs == counted_macs(module, images)


@every_block
def test_the_output_of_a_module_has_the_shape_that_its_block_says(block: Block) -> None:
    images = torch.zeros(2, *block.in_shape)
    shape = tuple(block_module(block).eval()(images).shape)
    size = block.out_size
    logits = (2, block.out_channels)
    assert shape == (logits if block.spec.gives_logits else (*logits, *axes(size)))


@every_block
def test_a_block_can_be_had_from_its_key(block: Block) -> None:
    assert Block.from_key(block.key) == block


def test_the_number_of_inputs_of_a_join_is_part_of_its_key() -> None:
    for op in ("add", "concat"):
        keys = {Block(op, 8, 8, 1, 1, arity, 7).key for arity in (2, 3, 4)}
        assert len(keys) == 3
        assert [Block(op, 8, 8, 1, 1, arity, 7).num_inputs for arity in (2, 3)] == [2, 3]
    assert {block.num_inputs for block in BLOCKS if block.op not in ("add", "concat")} == {1}


def test_macs_of_an_inverted_bottleneck_are_the_hand_count() -> None:
    block = Block("mbconv", 16, 24, 5, 2, 3, 9)
    assert (block.mid_channels, block.out_size) == (48, 5)
    assert block.macs == 81 * 16 * 48 + 25 * 25 * 48 + 25 * 48 * 24
    assert block.params == 16 * 48 + 2 * 48 + 25 * 48 + 2 * 48 + 48 * 24 + 2 * 24


def test_squeeze_excite_has_a_quarter_of_its_input_rounded_to_eight_channels() -> None:
    assert Block("mbconv", 24, 24, 3, 1, 6, 7, squeeze_excite=True).se_channels == 40
    assert Block("mbconv", 8, 8, 3, 1, 1, 7, squeeze_excite=True).se_channels == 8


def test_only_a_block_of_stride_1_and_equal_width_adds_its_input() -> None:
    for op, stride, out_channels in product(
        ("conv", "mbconv", "fused_mbconv", "basic", "bottleneck", "identity", "logits"),
        (1, 2),
        (8, 16),
    ):
        fits = op in ("mbconv", "fused_mbconv", "basic", "bottleneck")
        expected = fits and stride == 1 and out_channels == 8
        assert Block(op, 8, out_channels, 3, stride, 3, 7).residual == expected


def test_padding_in_pixels_is_refused_where_the_module_has_none() -> None:
    with pytest.raises(UsageError, match="padding in pixels is only supported for conv, conv_bn"):
        block_module(Block("mbconv", 8, 8, 3, 1, 2, 7, padding=0))


def test_output_sizes_round_up() -> None:
    sizes = [Block("conv", 1, 1, 3, 2, 1, size).out_size for size in (28, 7, 8, 1)]
    assert sizes == [14, 4, 4, 1]
    even = [Block("max_pool", 1, 1, 2, 2, 1, 9, padding=padding).out_size for padding in PADDINGS]
    assert even == [4, 5]


def test_channels_round_half_up_and_never_more_than_a_tenth_down() -> None:
    given = (1, 4, 11.9, 12, 16 * 1.4, 33, 24 * 0.35, 1280 * 1.4, 11)
    # 11 -> 8 would lose 27 %, 8.4 -> 8 loses 5 %
    assert [round_channels(c) for c in given] == [8, 8, 16, 16, 24, 32, 8, 1792, 16]
    assert round_channels(10, divisor=4) == 12


def test_blocks_that_differ_in_anything_have_different_keys() -> None:
    fields = product(
        ("mbconv", "fused_mbconv"), (8, 16), (8, 16), (3, 5), (1, 2), (3, 6), (7, 14),
        ("relu6", "relu", "hswish", "silu"), (False, True),
    )  # fmt: skip
    blocks = [Block(*field) for field in fields]
    gates = product(("fp32", "int8"), ("symmetric", "same"), ("hardsigmoid", "sigmoid"), (0, 3))
    blocks += [Block("mbconv", 8, 8, 3, 2, 6, 7, "relu", True, *fields) for fields in gates]
    gates = product((False, True), (0, 2, 4), ("relu", "hswish"))
    blocks += [
        Block("bottleneck", 8, 16, 3, 1, 1, 7, act, se, group_width=width)
        for se, width, act in gates
    ]
    assert len({block.key for block in blocks}) == len(set(blocks)) == 2**10 + 2**4 - 1 + 12


def test_a_key_reads_as_documented() -> None:
    assert Block("mbconv", 32, 64, 5, 2, 6, 56).key == "mbconv k5 s2 e6 32>64 @56"
    block = Block("mbconv", 32, 64, 5, 2, 2.5, 56, "hswish", True)
    assert block.key == "mbconv k5 s2 e2.5 32>64 @56 se hswish"
    block = Block("mbconv", 32, 64, 5, 2, 6, 56, "silu", True, "int8", "same", "sigmoid", 12)
    assert block.key == "mbconv k5 s2 e6 32>64 @56 se12 sigmoid silu same int8"
    block = Block("conv", 3, 64, 11, 4, 1, 224, "relu", padding=2)
    assert block.key == "conv k11 s4 e1 3>64 @224 relu pad2"
    block = Block("bottleneck", 64, 64, 3, 1, 1, 56, "relu", True, squeezed=4, group_width=16)
    assert block.key == "bottleneck k3 s1 e1 64>64 @56 g16 se4 relu"
    assert block.groups == 4


def test_blocks_that_compute_the_same_at_every_size_are_equal() -> None:
    for kernel_size in (1, 3):
        block = Block("conv", 8, 8, kernel_size, 1, 1, 8)
        for padding in ("same", kernel_size // 2):
            assert msgspec.structs.replace(block, padding=padding) == block
    strided = Block("conv", 8, 8, 3, 2, 1, 7)
    same = msgspec.structs.replace(strided, padding="same")
    assert same != strided  # they differ at 8 px
    assert msgspec.structs.replace(strided, gate="sigmoid", squeezed=4) == strided
    gated = Block("mbconv", 24, 24, 3, 1, 6, 7, squeeze_excite=True)
    assert msgspec.structs.replace(gated, squeezed=gated.se_channels) == gated
    assert msgspec.structs.replace(gated, squeezed=6).se_channels == 6
    single = Block("bottleneck", 16, 16, 3, 1, 0.5, 7, "relu")
    assert msgspec.structs.replace(single, group_width=8) == single
    assert single.groups == 1


def test_the_json_of_a_block_of_an_earlier_version_is_the_block() -> None:
    text = b"""{"op": "mbconv", "in_channels": 8, "out_channels": 16, "kernel_size": 5, "stride": 2,
        "expand_ratio": 3.0, "in_size": 9, "activation": "hswish", "squeeze_excite": true,
        "precision": "int8"}"""
    block = Block("mbconv", 8, 16, 5, 2, 3, 9, "hswish", True, "int8")
    assert msgspec.json.decode(text, type=Block) == block
    for block in BLOCKS:
        assert msgspec.json.decode(msgspec.json.encode(block), type=Block) == block


def test_every_operation_has_a_module_and_a_block_in_these_tests() -> None:
    assert OPS.keys() == MODULES.keys() == SAMPLES.keys()


def test_every_operation_has_a_label_and_all_but_skips_have_kernels() -> None:
    assert all(op.label for op in OPS.values())
    assert {op for op, block in SAMPLES.items() if not block.kernels} == {"identity", "none"}
    assert {op for op, block in SAMPLES.items() if block.is_free} == {"identity", "none"}


@pytest.mark.parametrize("format", ["onnx", "tflite"])
@pytest.mark.parametrize(
    "block",
    [
        *(SAMPLES[op] for op in OPS if op != "none"),
        Block("bottleneck", 8, 12, 3, 2, 1.5, 8, "relu", True, squeezed=2, group_width=6),
        Block("uib", 8, 16, 1, 2, 3, 9, "hswish", start_kernel_size=3),
        Block("conv", 8, 8, 11, 4, 1, 27, "relu", padding=2),
        Block("max_pool", 8, 8, 3, 2, 1, 8, padding=0),
        *(block for block in BLOCKS if block.op == "piece"),
        *(Block("hidden", 8, 6, 3, 1, 1, size, "relu") for size in (2, 3, 6, 7)),
    ],
    ids=lambda block: block.label,
)
def test_every_operation_compiles_and_computes_the_same(
    block: Block, format: Format, tmp_path: Path
) -> None:
    stem = Block("conv", 3, block.in_channels, 1, 1, 1, block.in_size)
    tail = Block("logits", block.out_channels, 5, 1, 1, 1, block.out_size)
    blocks = (stem, block) if block.spec.gives_logits else (stem, block, tail)
    shape = stem.in_shape
    images = torch.rand(4, *shape, generator=torch.Generator().manual_seed(0)).numpy()
    labels = torch.zeros(4, dtype=torch.int64).numpy()
    path = tmp_path / f"network.{format}"
    network, verification = untrained(blocks).eval(), Verification(images, labels)
    artifact = compile_model(network, shape, path, verification=verification)
    assert artifact.parity is not None and artifact.parity.max_relative_error < 1e-4


def test_zeros_alone_leave_a_constant_that_is_not_compiled(tmp_path: Path) -> None:
    network = untrained((SAMPLES["none"],)).eval()
    shape = SAMPLES["none"].in_shape
    with pytest.raises(ExportError, match="returns a constant"):
        compile_model(network, shape, tmp_path / "zeros.onnx")


def test_an_unknown_operation_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match="no operation named 'mbcon', did you mean 'mbconv'"):
        _ = Block("mbcon", 8, 8, 3, 1, 6, 7).out_size


@pytest.mark.parametrize(
    "block",
    [
        Block("bottleneck", 8, 8, 3, 1, 1.5, 7, "relu", group_width=5),
        Block("mbconv", 8, 8, 3, 1, 2, 7, group_width=4),
    ],
    ids=["no divisor", "another operation"],
)
def test_groups_that_do_not_divide_the_inner_channels_of_a_bottleneck_are_refused(
    block: Block,
) -> None:
    with pytest.raises(UsageError, match=r"expected a divisor of the .* inner channels of a bott"):
        block_module(block)
