"""A space in int8: the same choices under other keys."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from hwnas.architecture.block import Block
from hwnas.latency_models.features import shapes, unsupported
from hwnas.latency_models.storage.store import measured_folder
from hwnas.profiling.bench import compile_untrained
from hwnas.profiling.sampling import distinct_blocks
from hwnas.spaces.cells.space import cell_space
from hwnas.spaces.int8 import in_float, in_precision
from hwnas.spaces.mobile.space import mobile_space

FLOAT = mobile_space((1, 28, 28), 10)
INT8 = in_precision(FLOAT, "int8")


@pytest.mark.parametrize("activation", ["relu6", "relu", "hswish"])
@pytest.mark.parametrize("squeeze_excite", [False, True])
def test_an_int8_block_is_read_back_from_its_key(activation: str, squeeze_excite: bool) -> None:
    block = Block("mbconv", 32, 64, 5, 2, 6, 56, activation, squeeze_excite, "int8")
    assert block.key.endswith(" int8")
    assert Block.from_key(block.key) == block


def test_the_key_of_a_float_block_is_what_it_was_before_there_was_int8() -> None:
    assert Block("mbconv", 32, 64, 5, 2, 6, 56).key == "mbconv k5 s2 e6 32>64 @56"


@pytest.mark.parametrize("float_space", [FLOAT, cell_space((3, 32, 32), 10)])
def test_every_block_of_an_int8_space_is_in_int8(float_space: object) -> None:
    space = in_precision(float_space, "int8")  # type: ignore[arg-type]
    assert {block.precision for block in distinct_blocks(space)} == {"int8"}
    network = space.architecture(space.random(Random(0)))
    assert network.precision == "int8"
    baselines = [baseline.architecture.precision for baseline in space.baselines()]
    assert set(baselines) <= {"int8"}


def test_the_same_choices_are_another_architecture_of_the_same_size() -> None:
    genotype = FLOAT.random(Random(1))
    ours, theirs = INT8.architecture(genotype), FLOAT.architecture(genotype)
    assert ours.digest != theirs.digest
    assert (ours.macs, ours.params, ours.genotype) == (theirs.macs, theirs.params, theirs.genotype)


def test_a_search_trains_the_float_space() -> None:
    assert in_float(INT8) is FLOAT and in_float(FLOAT) is FLOAT


def test_measurements_of_the_two_are_kept_apart() -> None:
    names = [measured_folder("host-cpu", space).name for space in (FLOAT, INT8)]
    assert names == ["mobile-1x28-10", "mobile-1x28-10-int8"]


def test_a_float_model_does_not_speak_of_int8_blocks() -> None:
    float_blocks, int8_blocks = distinct_blocks(FLOAT), distinct_blocks(INT8)
    assert unsupported(int8_blocks, float_blocks) == ["int8"]
    both, _ = shapes([float_blocks[0], int8_blocks[0]])
    assert (both[0] != both[1]).sum() == 1


def test_blocks_are_timed_in_their_precision(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_quantizer")
    from ai_edge_litert.interpreter import Interpreter

    for space, inside in ((FLOAT, "float32"), (INT8, "int8")):
        path = tmp_path / f"{inside}.tflite"
        compile_untrained((space.fixed[0],), (), path)
        details = Interpreter(model_path=str(path)).get_input_details()
        assert details[0]["dtype"].__name__ == inside
