"""One answer on its way to a person: what is counted, what is to be written, and its text piece by piece."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from time import perf_counter

from ..errors import InputError
from ..generate.constraints import Constraint
from ..generate.control import Control
from ..generate.guides import Guide
from ..generate.options import GenerationOptions
from ..generate.stop import SentenceFilter, StopFilter, WordFilter
from ..results import Lookup, TextResult
from ..text_stream import TextStream
from ..timing import Stopwatch, ended
from ..tokenizer import TextTokenizer


@dataclass
class Account:
    """What is counted and noted while one input is answered; it becomes the TextResult."""

    language: str
    notes: list[str] = field(default_factory=list)
    control: Control = field(default_factory=Control)
    watch: Stopwatch = field(default_factory=Stopwatch)
    prompt_tokens: int = 0
    tokens: int = 0
    windows: int = 1
    finish_reason: str = ""
    time_to_first_token: float | None = None
    proposed: int = 0
    accepted: int = 0
    must_include: tuple[str, ...] = ()

    def took(self, infer_ms: float, detokenize_ms: float) -> None:
        """Add what an answer's runs and its text took; both lie within the time of prefill and decode."""
        self.watch.add("infer", infer_ms)
        self.watch.add("detokenize", detokenize_ms)

    def finish(self, reader: Reader, reason: str) -> str:
        """Take note of how an answer ended, and return the text that its reader held back."""
        ended = "stop" if reader.stopped else reason
        # An answer that the limit or the deadline cut is not undone by a later one that ended by itself.
        if ended != "stop" or not self.finish_reason:
            self.finish_reason = ended
        return reader.rest(ended)

    def missing(self, *texts: str) -> list[str]:
        """What must be included and is not in all of the texts; letters count as their small forms."""
        written = [text.lower() for text in texts]
        return [phrase for phrase in self.must_include if not all(phrase.strip().lower() in one for one in written)]

    def result(self, bundle: str, text: str, variants: tuple[str, ...] = ()) -> TextResult:
        """The finished result: `prompt_tokens`, `tokens` and `timings` are sums over windows and variants."""
        if missing := self.missing(*(variants or (text,))):
            self.notes.append(
                f"{', '.join(missing)} is not in the answer, which the {self.finish_reason or 'end'} cut before it"
            )
        timings = self._timings()
        if self.time_to_first_token is not None:
            timings["time_to_first_token"] = self.time_to_first_token
        return TextResult(
            text=text,
            variants=variants,
            finish_reason=self.finish_reason,
            language=self.language,
            prompt_tokens=self.prompt_tokens,
            tokens=self.tokens,
            windows=self.windows,
            notes=tuple(self.notes),
            bundle=bundle,
            timings=timings,
            lookup=Lookup(self.proposed, self.accepted),
        )

    def _timings(self) -> dict[str, float]:
        """Milliseconds by stage. What prefill and decode did beside runs and text is choosing tokens: `sample`."""
        timings = self.watch.timings()
        written = timings.get("prefill", 0.0) + timings.get("decode", 0.0)
        infer, detokenize, total = (timings.pop(name, 0.0) for name in ("infer", "detokenize", "total"))
        sample = max(0.0, written - infer - detokenize)
        return {**timings, "infer": infer, "sample": sample, "detokenize": detokenize, "total": total}


@dataclass(frozen=True)
class Job:
    """One answer to be written: its account, the prompt's ids, the options, and what holds it to its source."""

    account: Account
    prompt: Sequence[int]
    options: GenerationOptions
    guide: Guide | None
    constraint: Constraint | None = None


class Writing(Iterator[str]):
    """The pieces of one answer as they are made. No piece ends inside a character.

    After the last piece `result` is the TextResult, whose `text` is the pieces joined; before it is None. With a
    deadline the pieces are whole sentences.
    """

    def __init__(self, pieces: Generator[str, None, TextResult], control: Control) -> None:
        self._pieces = pieces
        self._control = control
        self.result: TextResult | None = None

    def __next__(self) -> str:
        try:
            return next(self._pieces)
        except StopIteration as end:
            self.result = self.result or end.value
            raise StopIteration from None
        except ValueError as error:
            if "already executing" not in str(error):
                raise
            raise InputError("two threads read one stream at a time; give each a stream of its own") from None

    def close(self) -> None:
        """End early and free the buffers; there is no result then. A thread that waits for a piece gets a Cancelled."""
        try:
            self._pieces.close()
        except ValueError:  # that thread is inside: it ends at its next token, and frees them
            self._control.cancel()
        else:
            self._control.close()

    def cancel(self) -> None:
        """End from another thread: whoever waits for the next piece gets a Cancelled."""
        self._control.cancel()

    def finish(self) -> TextResult:
        """Make the pieces that are left and return the result. Raises InputError after `close`."""
        for _ in self:
            continue
        if self.result is None:
            raise InputError("the stream was closed before its end, so there is no result; start a new one")
        return self.result


class Reader:
    """Text of an answer as its tokens come, up to the first stop string."""

    def __init__(self, tokenizer: TextTokenizer, options: GenerationOptions) -> None:
        self._text = TextStream(tokenizer)
        self._stop = StopFilter(options.stop)
        # What the limit cuts is half a number, which is another one.
        self._words = WordFilter() if options.facts == "locked" else None
        self._sentences = None if options.deadline_ms is None else SentenceFilter()
        self.piece = ""
        self.pieces: list[str] = []
        self.ms = 0.0

    @property
    def stopped(self) -> bool:
        return self._stop.found

    def read(self, token: int) -> bool:
        """Take one token; `piece` is then the text that may be shown. True when a stop string was completed.

        `ms` adds up what that takes.
        """
        start = perf_counter()
        piece = self._stop.push(self._text.push(token))
        piece = piece if self._words is None else self._words.push(piece)
        self.piece = piece if self._sentences is None else self._sentences.push(piece)
        self.ms += ended("detokenize", start)
        return self._stop.found

    def collect(self, token: int) -> bool:
        """Like `read`, and the piece joins `pieces`."""
        ended = self.read(token)
        self.pieces.append(self.piece)
        return ended

    def rest(self, ended: str) -> str:
        """The text that was held back, at the end of the answer.

        Of one that the deadline `ended`, whole sentences only; with locked facts a word that was cut is left out.
        """
        text = self._stop.push(self._text.flush()) + self._stop.flush()
        if self._words is not None:
            text = self._words.push(text) + ("" if ended != "stop" else self._words.flush())
        if self._sentences is None:
            return text
        cut = ended == "deadline"
        return self._sentences.push(text) + (self._sentences.whole() if cut else self._sentences.flush())
