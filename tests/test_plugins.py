"""Built-in extensions are declared as anybody's are, and each can be had by its name."""

from __future__ import annotations

import pytest

from hwnas.errors import UnknownName
from hwnas.plugins import GROUPS, load, names


@pytest.mark.parametrize("kind", GROUPS)
def test_every_declared_extension_is_there(kind: str) -> None:
    assert names(kind)
    for name in names(kind):
        assert callable(load(kind, name))


def test_an_unknown_name_says_the_nearest() -> None:
    with pytest.raises(UnknownName, match="no strategy named 'proxyles', did you mean 'proxyless'"):
        load("strategy", "proxyles")
