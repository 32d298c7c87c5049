"""Subjects of profiles: the tiny bundles, with one thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from edgelm_runtime.bundle import open_bundle
from edgelm_runtime.placement import LoadOptions
from edgelm_runtime.profile.subject import Subject, subject_of

ONE_THREAD = LoadOptions("cpu", threads=1)
Make = Callable[..., Subject]


@pytest.fixture
def classifier(tiny_classifier: Path) -> Make:
    """The tiny classifier with values; with its golden ones where there are none."""

    def make(values: Sequence[Any] | None = None, folder: Path = tiny_classifier) -> Subject:
        return subject_of(open_bundle(folder, verify="lazy"), "sentiment", ONE_THREAD, values, "a test")

    return make


@pytest.fixture
def generator(tiny_generator: Path) -> Make:
    """The tiny generator, writing summaries of its golden texts."""

    def make(values: Sequence[Any] | None = None) -> Subject:
        return subject_of(open_bundle(tiny_generator, verify="lazy"), "summary", ONE_THREAD, values, "a test")

    return make
