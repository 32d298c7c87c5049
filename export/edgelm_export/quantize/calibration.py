"""Spans of activations for static scales, from texts: their extremes, or what entropy or a percentile cuts them to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgelm_export.finetune.data import check_fields, read_rows
from edgelm_export.notes import note
from edgelm_export.quantize.ranges import ROOM, Span
from edgelm_runtime.errors import InputError
from edgelm_runtime.script import language_of

METHODS = ("minmax", "entropy", "percentile")
MIN_TEXTS = 8
MAX_TEXTS = 512
BINS, QUANTIZED_BINS, PERCENTILE = 2048, 128, 99.99


class Calibration:
    """Collects the inputs of every linear layer by name, and gives the span of each."""

    def __init__(self, method: str) -> None:
        from onnxruntime.quantization.calibrate import HistogramCollector

        self._method = method
        self._extremes: dict[str, Span] = {}
        # onnxruntime's own histograms (Migacz, 2017, for the entropy); extremes need none.
        kind = "percentile" if method == "minmax" else method
        self._histograms = HistogramCollector(kind, False, BINS, QUANTIZED_BINS, PERCENTILE, "same")

    def collect(self, name: str, values: NDArray[np.float32]) -> None:
        """Take the inputs of one layer for one text."""
        low, high = float(values.min()), float(values.max())
        known = self._extremes.get(name, (low, high))
        self._extremes[name] = min(low, known[0]), max(high, known[1])
        if self._method != "minmax":
            self._histograms.collect_value({name: values})

    def spans(self) -> Mapping[str, Span]:
        """(smallest, largest) of every layer's inputs: the extremes and ROOM beyond, or less than was seen."""
        if self._method == "minmax":
            return {name: (ROOM * low, ROOM * high) for name, (low, high) in self._extremes.items()}
        with redirect_stdout(StringIO()):  # it reports its settings there
            found = getattr(self._histograms, f"compute_{self._method}")()
        return {
            name: (max(float(cut[0]), self._extremes[name][0]), min(float(cut[1]), self._extremes[name][1]))
            for name, cut in found.items()
        }


def calibration_texts(path: Path, languages: Sequence[str]) -> list[str]:
    """The texts of a calibration file: lines of a .txt, the field ``text`` of a .jsonl or .csv; at most MAX_TEXTS.

    Where most are in none of the bundle's ``languages``, by script, standard error says so.

    Raises:
        InputError: the file cannot be read, or has fewer than MIN_TEXTS texts.
    """
    texts = [str(row["text"]) for row in check_fields(read_rows([path]), ("text",))]
    if len(texts) < MIN_TEXTS:
        raise InputError(
            f"{path} has {len(texts)} texts to calibrate with, accepted: at least {MIN_TEXTS}, better a hundred; "
            "what the device will read, in a .txt with one a line, a .jsonl or a .csv"
        )
    strange = [text for text in texts if language_of(text) not in languages]
    if 2 * len(strange) > len(texts):
        note(
            f"{path}: {len(strange)} of {len(texts)} texts look like {language_of(strange[0])}, the "
            f"bundle is for {', '.join(languages)}: scales fit what they are measured on; give what a device reads"
        )
    step = max(1, len(texts) // MAX_TEXTS)
    return texts[::step][:MAX_TEXTS]
