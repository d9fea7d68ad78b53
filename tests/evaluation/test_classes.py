"""Classes of a data set and outputs of a file are matched by name."""

from __future__ import annotations

import pytest

from hwnas.errors import UsageError
from hwnas.evaluation.classes import check_outputs, match_classes


def test_order_does_not_matter_and_the_data_may_have_fewer_classes() -> None:
    assert match_classes("m", ("cat", "dog", "eel"), "d", ("eel", "cat")).tolist() == [2, 0]


def test_a_class_that_the_file_has_not_is_named_with_the_nearest() -> None:
    message = "m.onnx: has no class 'dogs' of pets, did you mean 'dog'?; its classes are cat, dog"
    with pytest.raises(UsageError) as caught:
        match_classes("m.onnx", ("cat", "dog"), "pets", ("cat", "dogs"))
    assert str(caught.value) == message


def test_no_class_in_common_suggests_to_rename_them() -> None:
    labels = tuple(map(str, range(10)))
    with pytest.raises(UsageError, match=r"none of the classes of pets \(cat, dog\); its classes"):
        match_classes("m.onnx", labels, "pets", ("cat", "dog"))


def test_a_file_without_names_has_an_output_for_each_class() -> None:
    check_outputs("m.onnx", 2, "pets", ("cat", "dog"))
    with pytest.raises(UsageError, match=r"1000 outputs without names, pets has 2 classes"):
        check_outputs("m.onnx", 1000, "pets", ("cat", "dog"))
