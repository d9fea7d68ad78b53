"""Which operators of a file stay in float32: places, norms and decisions do, features do not."""

from __future__ import annotations

from hwnas.export.quantization.float_rules import Operator, float_operators, kind_of


def in_float32(text: str, *outputs: str, **ranges: tuple[float, float]) -> str:
    """Return what stays in float32 of operators ``NAME = KIND INPUT...``, one a line; - is a
    constant."""
    operators: list[Operator] = []
    for line in text.strip().splitlines():
        name, _, call = line.strip().partition(" = ")
        kind, *inputs = call.split()
        given = tuple("" if each == "-" else each for each in inputs)
        operators.append(Operator(kind_of(kind, given), given, (name,)))
    return " ".join(sorted(float_operators(operators, outputs, ranges)))


def test_a_network_of_convolutions_and_sums_is_all_integers() -> None:
    text = """
    a = Conv x - -
    b = Relu a
    c = Conv b - -
    d = Add c b
    e = Div d -
    f = GlobalAveragePool e
    """
    assert in_float32(text, "f") == ""


def test_a_norm_is_float_with_its_statistics_and_its_gain() -> None:
    text = """
    a = Conv x - -
    mean = ReduceMean a
    centred = Sub a mean
    squared = Mul centred centred
    variance = ReduceMean squared
    more = Add variance -
    root = Sqrt more
    normed = Div centred root
    scaled = Mul normed -
    b = Conv scaled - -
    """
    assert in_float32(text, "b") == "centred mean more normed root scaled squared variance"


def test_coordinates_are_float_back_to_the_layer_that_computes_them() -> None:
    text = """
    feature = Conv x - -
    offset = Conv feature - -
    grid = Add offset -
    moved = Transpose grid
    sampled = GridSample feature moved
    other = Conv offset - -
    """
    assert in_float32(text, "sampled", "other") == "grid moved offset"


def test_a_network_s_input_of_coordinates_is_float() -> None:
    assert in_float32("sampled = GridSample x grid", "sampled") == "grid"


def test_a_product_of_two_values_passes_coordinates_on_and_one_with_weights_ends_them() -> None:
    text = """
    theta = MatMul x -
    grid = MatMul - theta
    sampled = GridSample y grid
    """
    assert in_float32(text, "sampled") == "grid theta"


def test_a_product_that_is_divided_by_is_float_and_a_layer_is_not() -> None:
    text = """
    both = MatMul query context
    top = Slice both -
    sum = Slice both -
    more = Add sum -
    ratio = Div top more
    layer = Gemm ratio - -
    """
    assert in_float32(text, "layer") == "both more ratio sum top"
    assert in_float32("a = Gemm x - -\nb = Add a -\nc = Div y b", "c") == "b c"


def test_what_follows_from_an_index_is_float_and_the_scores_are_not() -> None:
    text = """
    score = Conv x - -
    best = TopK score
    row = Div best -
    whole = Floor row
    step = Mul whole -
    column = Sub best step
    """
    assert in_float32(text, "whole", "column") == "best column row step whole"


def test_a_value_and_its_maximum_are_rounded_alike_where_they_are_compared() -> None:
    text = """
    heat = Sigmoid x
    largest = MaxPool heat
    peak = Equal largest heat
    """
    assert in_float32(text, "peak") == "heat largest peak"


def test_the_residual_sums_between_norms_are_float() -> None:
    text = """
    first = Conv x - -
    norm1 = LayerNormalization first
    inner = Gemm norm1 - -
    second = Add first inner
    norm2 = LayerNormalization second
    outer = Gemm norm2 - -
    third = Add second outer
    norm3 = LayerNormalization third
    """
    assert in_float32(text, "norm3") == "norm1 norm2 norm3 second third"


def test_the_moves_behind_a_norm_are_of_integers_where_a_layer_reads_them() -> None:
    text = """
    a = Conv x - -
    b = LayerNormalization a
    c = Reshape b
    d = Transpose c
    e = Conv d - -
    """
    assert in_float32(text, "e") == "b"


def test_a_softmax_is_float_except_as_the_output() -> None:
    assert in_float32("a = Softmax x\nb = MatMul a x", "b") == "a"
    assert in_float32("a = Softmax x", "a") == ""


def test_an_output_that_joins_unlike_ranges_is_float_and_a_hidden_map_is_not() -> None:
    text = """
    box = Conv x - -
    score = Sigmoid x
    both = Concat box score
    turned = Transpose both
    """
    assert in_float32(text, "turned", box=(0, 320), score=(0, 1)) == "both score turned"
    assert in_float32(text, "turned", box=(0, 2), score=(0, 1)) == ""
    assert in_float32(f"{text}next = Conv turned - -", "next", box=(0, 320), score=(0, 1)) == ""
