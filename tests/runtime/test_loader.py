"""What is no bundle's name is said to be none."""

from __future__ import annotations

import pytest

from edgelm_runtime import load
from edgelm_runtime.errors import BundleNotFound


@pytest.mark.parametrize("name", ["nowhere", "x" * 10_000, "a\0b", "\udcff", "", " " * 5])
def test_what_names_no_bundle_is_said_to(name: str) -> None:
    with pytest.raises(BundleNotFound, match="there is no bundle") as caught:
        load(name)
    assert len(str(caught.value)) < 1_000
