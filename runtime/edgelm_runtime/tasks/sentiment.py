"""Sentiment: a text to a label, through tokenize -> infer -> decode.

Texts are run one by one, [1, n], never padded together: DynamicQuantizeMatMul has one activation scale for the whole
tensor, so texts in one batch would change each other's answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from threading import Lock
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle
from ..errors import BundleRejected, InputError
from ..placement import DEFAULTS, Engine, LoadOptions, Receipt
from ..results import SentimentResult
from ..script import language_of
from ..session import Session, input_shapes, output_shapes, run
from ..timing import Stopwatch
from ..tokenizer import TextTokenizer, checked

MAX_WINDOWS = 64
Progress = Callable[[int], None]
Logits = NDArray[np.float32]

# No tokenizer in use has longer tokens on average; what lies beyond could not be read in MAX_WINDOWS anyway.
_CHARACTERS_PER_TOKEN = 8
# Below this many texts a second session costs more than it saves.
_MIN_POOLED = 8


class Sentiment:
    """A text classifier. Safe to share between threads.

    Raises BundleRejected when the bundle's files do not match or its graph is not a classifier, DeviceError when no
    variant runs on this machine.
    """

    def __init__(self, bundle: Bundle, options: LoadOptions = DEFAULTS) -> None:
        manifest = bundle.manifest
        self.bundle = bundle
        self.labels = manifest.labels
        self.tokenizer = TextTokenizer(bundle.read(manifest.tokenizer.file), manifest.tokenizer)
        self.engine = Engine(bundle, options)
        self.threads = self.engine.threads
        self._graph_file = self.engine.variant.file
        self._session = self.engine.session
        self._room = self._content_room()
        self._check_graph()
        self._one_core: Session | None = self._session if self.threads == 1 else None
        self._lock = Lock()

    def __call__(self, text: str) -> SentimentResult:
        """Classify one text of any length up to `tokenizer.MAX_CHARACTERS`.

        A text over the context is read in overlapping windows, whose probabilities are averaged by their tokens; the
        result's `windows` and `notes` say so. Raises InputError for empty, blank or too long text.
        """
        return self._infer_job(self._prepare(text), self._session)

    def batch(self, texts: Iterable[str], *, progress: Progress | None = None) -> list[SentimentResult]:
        """Classify many texts, longest first, on all threads; results in input order.

        `progress` is called with the number of texts done so far. Raises InputError, naming the first text by its
        number from 1, before anything is inferred.
        """
        jobs = [self._try_prepare(text) for text in texts]
        for number, job in enumerate(jobs, start=1):
            if isinstance(job, InputError):
                raise InputError(f"text {number}: {job}") from job
        return [result for result in self._run_jobs(jobs, progress) if isinstance(result, SentimentResult)]

    def try_batch(
        self, texts: Iterable[str], *, progress: Progress | None = None
    ) -> list[SentimentResult | InputError]:
        """Like `batch`, with the InputError in the place of the result for a text that cannot be accepted."""
        return self._run_jobs([self._try_prepare(text) for text in texts], progress)

    def receipt(self) -> Receipt:
        """How the bundle was loaded: variant, device, nodes by provider, threads, and why."""
        return self.engine.receipt()

    def tokenize(self, text: str) -> list[int]:
        """First stage: token ids with special tokens, not cut to the context."""
        cleaned, _ = checked(text)
        return self.tokenizer.encode(cleaned)

    def windows(self, text: str) -> list[list[int]]:
        """The rows that the model reads for `text`: one, or overlapping ones for a text over the context."""
        return self._prepare(text).windows

    def infer(self, ids: Sequence[int]) -> Logits:
        """Second stage: logits, float32 [labels], of one row of token ids with its special tokens.

        Raises InputError for no ids, more than the context, or ids outside the vocabulary.
        """
        return self._run(self._session, self._row(ids))

    def decode(self, logits: Logits) -> dict[str, float]:
        """Third stage: probabilities by label, from float32 logits [labels]."""
        return dict(zip(self.labels, (float(p) for p in softmax(np.asarray(logits))), strict=True))

    def logits(self, input_ids: Iterable[Sequence[int]]) -> Logits:
        """The level below text: logits, float32 [batch, labels], of rows of token ids with their special tokens.

        Rows may have different lengths. Raises InputError like `infer`.
        """
        rows = [self._row(ids) for ids in input_ids]
        if not rows:
            return np.empty((0, len(self.labels)), np.float32)
        outputs: list[Logits] = [np.empty(0, np.float32)] * len(rows)

        def infer_row(index: int, session: Session) -> None:
            outputs[index] = self._run(session, rows[index])

        self._in_pool(infer_row, [row.size for row in rows])
        return np.stack(outputs)

    def _content_room(self) -> int:
        """Tokens of the context that are left beside the special ones."""
        special = len(self.tokenizer.encode(""))
        room = self.tokenizer.spec.max_tokens - special
        if room < 1:
            raise BundleRejected(
                f"tokenizer.max_tokens is {self.tokenizer.spec.max_tokens} and the tokenizer adds {special} special "
                "tokens: no room for text; export the bundle again",
                what="tokenizer.max_tokens",
                expected=f"more than {special}",
                found=str(self.tokenizer.spec.max_tokens),
            )
        return room

    def _check_graph(self) -> None:
        inputs, outputs = input_shapes(self._session), output_shapes(self._session)
        labels = (outputs.get("logits") or [None])[-1]
        fits = labels == len(self.labels) or not isinstance(labels, int)
        if list(inputs) != ["input_ids"] or "logits" not in outputs or not fits:
            raise BundleRejected(
                f"{self._graph_file} is not a classifier of {len(self.labels)} labels: inputs {inputs}, outputs "
                f"{outputs}; expected input_ids [batch, sequence] and logits [batch, labels]; export it again",
                what=self._graph_file,
                expected=f"input_ids -> logits [batch, {len(self.labels)}]",
                found=f"{inputs} -> {outputs}",
            )

    def _row(self, ids: Sequence[int]) -> NDArray[np.int64]:
        """One checked row, int64 [1, n]."""
        context, size = self.tokenizer.spec.max_tokens, self.tokenizer.vocab_size
        if not 1 <= len(ids) <= context:
            raise InputError(f"a row has {len(ids)} token ids, accepted are 1 to {context}; cut it, or call with text")
        try:
            row = np.asarray(ids)
        except ValueError as error:
            raise InputError(f"a row must be a flat list of integer token ids ({error})") from None
        if row.ndim != 1 or row.dtype.kind not in "iu":
            raise InputError(f"a row must be a flat list of integer token ids, found {row.ndim}-d {row.dtype}")
        if row.min() < 0 or row.max() >= size:
            raise InputError(f"token ids go from {row.min()} to {row.max()}, accepted are 0 to {size - 1}")
        return row.astype(np.int64).reshape(1, -1)

    def _run(self, session: Session, row: NDArray[np.int64]) -> Logits:
        (logits,) = run(session, {"input_ids": row}, ("logits",))
        if logits.shape != (1, len(self.labels)) or not np.isfinite(logits).all():
            raise BundleRejected(
                f"{self._graph_file} answered {logits.shape} values, finite: {bool(np.isfinite(logits).all())}; "
                f"expected (1, {len(self.labels)}) finite ones; export it again",
                what=self._graph_file,
            )
        answer: Logits = logits[0]
        return answer

    def _prepare(self, text: str) -> _Job:
        """Check and tokenize one text, and lay its windows."""
        start = perf_counter()
        cleaned, notes = checked(text)
        # The longest text whose tokens could all be read, so that a megabyte costs no more than it can be used for.
        cut = cleaned[: MAX_WINDOWS * self._room * _CHARACTERS_PER_TOKEN]
        parts = self.tokenizer.encode_parts(cut)
        if not parts.ids:
            raise InputError("the text has no character that the model's tokenizer reads; give visible characters")
        spans = window_spans(len(parts.ids), self._room, MAX_WINDOWS)
        read = parts.ends[spans[-1][1] - 1] if spans[-1][1] < len(parts.ids) else len(cut)
        windows = [parts.prefix + parts.ids[first:last] + parts.suffix for first, last in spans]
        notes += self._window_notes(len(windows), read, len(cleaned))
        language = language_of(cut)
        if language not in self.bundle.manifest.languages:
            spoken = ", ".join(self.bundle.manifest.languages)
            notes += (f"the text looks like {language}, the bundle was trained for {spoken}",)
        return _Job(windows, language, notes, (perf_counter() - start) * 1000.0)

    def _window_notes(self, windows: int, read: int, length: int) -> tuple[str, ...]:
        notes: tuple[str, ...] = ()
        if windows > 1:
            context = self.tokenizer.spec.max_tokens
            notes += (f"longer than the model's context of {context} tokens: {windows} windows were averaged",)
        if read < length:
            notes += (f"only the first {read:,} of {length:,} characters were read",)
        return notes

    def _try_prepare(self, text: str) -> _Job | InputError:
        try:
            return self._prepare(text)
        except InputError as error:
            return error

    def _run_jobs(
        self, jobs: Sequence[_Job | InputError], progress: Progress | None
    ) -> list[SentimentResult | InputError]:
        results: list[SentimentResult | InputError | None] = [
            job if isinstance(job, InputError) else None for job in jobs
        ]

        def answer(index: int, session: Session) -> None:
            job = jobs[index]
            if isinstance(job, _Job):
                results[index] = self._infer_job(job, session)

        self._in_pool(answer, [job.tokens if isinstance(job, _Job) else 0 for job in jobs], progress)
        return [result for result in results if result is not None]

    def _infer_job(self, job: _Job, session: Session) -> SentimentResult:
        watch = Stopwatch({"tokenize": job.tokenize_ms})
        with watch("infer"):
            logits = [self._run(session, np.asarray([window], dtype=np.int64)) for window in job.windows]
        with watch("decode"):
            weights = np.asarray([len(window) for window in job.windows], np.float64)
            probabilities = np.average([softmax(row) for row in logits], axis=0, weights=weights)
            best = int(probabilities.argmax())
        return SentimentResult(
            label=self.labels[best],
            score=float(probabilities[best]),
            scores=dict(zip(self.labels, map(float, probabilities), strict=True)),
            language=job.language,
            tokens=job.tokens,
            windows=len(job.windows),
            notes=job.notes,
            bundle=self.bundle.manifest.name,
            timings=watch.timings(),
        )

    def _in_pool(
        self, work: Callable[[int, Session], None], sizes: Sequence[int], progress: Progress | None = None
    ) -> None:
        """Call `work(index, session)` for every index, largest size first, on all threads.

        Small models gain nothing from splitting one text over the cores, so each thread runs whole texts on one core.
        """
        order = sorted(range(len(sizes)), key=lambda index: -sizes[index])
        if self.engine.workers == 1 or len(order) < _MIN_POOLED:
            for done, index in enumerate(order, start=1):
                work(index, self._session)
                if progress:
                    progress(done)
            return
        from concurrent.futures import ThreadPoolExecutor, as_completed

        session = self._one_core_session()
        pool = ThreadPoolExecutor(self.engine.workers)
        try:
            futures = [pool.submit(work, index, session) for index in order]
            for done, future in enumerate(as_completed(futures), start=1):
                future.result()
                if progress:
                    progress(done)
        finally:
            # After an error or Ctrl-C the texts that wait are dropped; only those being read are waited for.
            pool.shutdown(cancel_futures=True)

    def _one_core_session(self) -> Session:
        with self._lock:
            if self._one_core is None:
                self._one_core = self.engine.one_core()
            return self._one_core


@dataclass(frozen=True)
class _Job:
    """A text that is ready to be inferred: token ids of its windows, special tokens included."""

    windows: list[list[int]]
    language: str
    notes: tuple[str, ...]
    tokenize_ms: float

    @property
    def tokens(self) -> int:
        return sum(map(len, self.windows))


def window_spans(length: int, room: int, limit: int) -> list[tuple[int, int]]:
    """Spans (first, last + 1) of `room` tokens that cover `length` tokens, neighbours a quarter over each other.

    All spans are full and evenly spread. At most `limit` spans: a longer text is covered from its start.
    """
    if length <= room:
        return [(0, length)]
    stride = room - room // 4
    last = min(length - room, (limit - 1) * stride)
    steps = max(1, -(-last // stride))
    firsts = [step * last // steps for step in range(steps + 1)] if last else [0]
    return [(first, first + room) for first in firsts]


def softmax(logits: NDArray[Any]) -> NDArray[np.float64]:
    """Probabilities in float64 along the last axis."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    probabilities: NDArray[np.float64] = shifted / shifted.sum(axis=-1, keepdims=True)
    return probabilities
