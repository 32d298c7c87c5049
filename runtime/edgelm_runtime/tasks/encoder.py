"""What all encoders' tasks share: a text, or a pair, through tokenize -> infer -> decode to a result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from ..bundle import Bundle
from ..errors import InputError
from ..placement import DEFAULTS, LoadOptions, Receipt
from ..session import Session
from ..timing import Stopwatch
from ..tokenizer import TextTokenizer, checked
from ..vetting.trial import tokenizer_content
from .observed import Answers, Observed
from .reading import Reader, Reading, Text
from .rows import Output, Progress, Rows, Values

Result = TypeVar("Result")


class Encoder(Observed, ABC, Generic[Result]):
    """A model that reads a text in one run. Safe to share between threads; the classes of the tasks say what it gives.

    Raises BundleRejected when the bundle's files do not match or its graph is not one of the task, DeviceError when no
    variant runs on this machine.
    """

    OUTPUT: ClassVar[str] = "logits"
    BY_TOKEN: ClassVar[bool] = False

    def __init__(self, bundle: Bundle, options: LoadOptions = DEFAULTS) -> None:
        self.bundle = bundle
        self.answers = Answers()
        self.labels = bundle.manifest.labels
        spec = bundle.manifest.tokenizer
        self.tokenizer = TextTokenizer(tokenizer_content(bundle), spec)
        self.reader = Reader(bundle.manifest, self.tokenizer)
        output = Output(self.OUTPUT, len(self.labels), self.BY_TOKEN)
        self.rows = Rows(bundle, options, output, self.tokenizer.vocab_size)
        self.engine = self.rows.engine
        self.threads = self.engine.threads

    def __call__(self, text: Text) -> Result:
        """Answer one text of any length up to `tokenizer.MAX_CHARACTERS`, or a pair where the bundle reads pairs.

        A text over the context is read in overlapping windows, which the result's `windows` and `notes` say. Raises
        InputError for empty, blank or too long text.
        """
        return self._answer(self.reader.read(text))

    def batch(self, texts: Iterable[Text], *, progress: Progress | None = None) -> list[Result]:
        """Answer many texts, longest first, on all threads; results in input order.

        `progress` is called with the number of texts done so far. Raises InputError, naming the first text by its
        number from 1, before anything is inferred.
        """
        return self._answers(self._all_read(texts), progress)

    def try_batch(self, texts: Iterable[Text], *, progress: Progress | None = None) -> list[Result | InputError]:
        """Like `batch`, with the InputError in the place of the result for a text that cannot be accepted."""
        return self._tried(texts, progress)

    def receipt(self) -> Receipt:
        """How the bundle was loaded: variant, device, nodes by provider, threads, and why."""
        return self.engine.receipt()

    def tokenize(self, text: str) -> list[int]:
        """First stage: token ids with special tokens, behind the bundle's default prompt, not cut to the context."""
        cleaned, _ = checked(text)
        return self.tokenizer.encode(self.reader.prompt() + cleaned)

    def windows(self, text: Text) -> list[list[int]]:
        """The rows that the model reads for `text`: one, or overlapping ones for a text over the context."""
        return [row.ids for row in self.reader.read(text).rows]

    def infer(self, ids: Sequence[int], type_ids: Sequence[int] | None = None) -> Values:
        """Second stage: the graph's output, float32, for one row of token ids with its special tokens.

        `type_ids` are the segments of a pair's tokens. Raises InputError for no ids, more than the context, or ids
        outside the vocabulary.
        """
        return self.rows.one(self.rows.checked(ids, type_ids))

    @abstractmethod
    def decode(self, values: Any) -> Any:
        """Third stage: what the graph's output for one row says."""

    def answer(self, reading: Reading, outputs: list[Values]) -> Result:
        """The result from the graph's outputs for all rows of a text that `reader` read, whoever computed them."""
        return self._result(reading, outputs, Stopwatch({"tokenize": reading.tokenize_ms}))

    @abstractmethod
    def _result(self, reading: Reading, outputs: list[Values], watch: Stopwatch) -> Result:
        """The answer from the outputs of all windows, their decoding timed by `watch`."""

    def _facts(self, reading: Reading, watch: Stopwatch) -> dict[str, Any]:
        """The fields that every result has."""
        return {
            "language": reading.language,
            "tokens": reading.tokens,
            "windows": len(reading.rows),
            "notes": reading.notes,
            "bundle": self.bundle.manifest.name,
            "timings": watch.timings(),
        }

    def outputs(self, rows: Iterable[Sequence[int]]) -> list[Values]:
        """The graph's output for each of many rows of ids, which may have different lengths. Raises like `infer`."""
        listed = [self.rows.checked(row) for row in rows]
        found: list[Any] = [None] * len(listed)

        def infer_row(index: int, session: Session) -> None:
            found[index] = self.rows.one(listed[index], session)

        self.rows.in_pool(infer_row, [len(row.ids) for row in listed])
        return found

    def _all_read(self, texts: Iterable[Text], prompt_name: str | None = None) -> list[Reading]:
        readings = []
        for number, read in enumerate((self._try_read(text, prompt_name) for text in texts), start=1):
            if isinstance(read, InputError):
                raise InputError(f"text {number}: {read}") from read
            readings.append(read)
        return readings

    def _tried(
        self, texts: Iterable[Text], progress: Progress | None, prompt_name: str | None = None
    ) -> list[Result | InputError]:
        read = [self._try_read(text, prompt_name) for text in texts]
        answers = iter(self._answers([one for one in read if isinstance(one, Reading)], progress))
        return [next(answers) if isinstance(one, Reading) else one for one in read]

    def _try_read(self, text: Text, prompt_name: str | None) -> Reading | InputError:
        try:
            return self.reader.read(text, prompt_name)
        except InputError as error:
            return error

    def _answers(self, readings: Sequence[Reading], progress: Progress | None) -> list[Result]:
        results: list[Any] = [None] * len(readings)

        def answer(index: int, session: Session) -> None:
            results[index] = self._answer(readings[index], session)

        self.rows.in_pool(answer, [reading.tokens for reading in readings], progress)
        return results

    def _answer(self, reading: Reading, session: Session | None = None) -> Result:
        watch = Stopwatch({"tokenize": reading.tokenize_ms})
        with watch("infer"):
            outputs = [self.rows.one(row, session) for row in reading.rows]
        result = self._result(reading, outputs, watch)
        self.answers.seen(result)
        return result
