"""What a profile is of: a bundle, loaded as it would be for `edgelm run`, and the texts that it is asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from time import perf_counter
from typing import Any

from ..bundle import Bundle
from ..errors import InputError
from ..goldens import golden_inputs
from ..machine import usable_cores
from ..placement import LoadOptions
from ..verify import checked_here
from . import report
from .summary import histogram, summarize


class NotMeasured(Exception):
    """A part that cannot be measured here; the message is the reason, as `left_out` of the report says it.

    `found` is what of the part could be measured after all.
    """

    def __init__(self, reason: str, found: Any = None) -> None:
        super().__init__(reason)
        self.found = found


class Interrupted(KeyboardInterrupt):
    """The user's Ctrl-C within a part; `found` is what was measured of it until then."""

    def __init__(self, found: Any) -> None:
        super().__init__()
        self.found = found


@dataclass(frozen=True)
class Subject:
    """A bundle with a task, how it is loaded, the values that it answers, and where these come from.

    `notes` are what the report is to say besides.
    """

    bundle: Bundle
    task: str
    options: LoadOptions
    values: Sequence[Any]
    source: str
    notes: tuple[str, ...] = ()

    @cached_property
    def model(self) -> Any:
        """The model, as `edgelm.load` gives it."""
        return checked_here(self.bundle, self.task, self.options)

    @property
    def generates(self) -> bool:
        """Whether answers are text."""
        return hasattr(self.model, "generator")

    def answer(self, value: Any) -> Any:
        """One answer, as `edgelm run` gives it."""
        return self.model(value)

    def batch(self, values: Sequence[Any]) -> list[Any]:
        """Answers to several values in one call."""
        answers: list[Any] = self.model.batch(values)
        return answers

    def forget(self) -> None:
        """Let the model forget what it read: a customer's text comes once, a profile's comes every round."""
        if self.generates:
            self.model.generator.prefixes.forget()

    def loaded(self, **changes: Any) -> Subject:
        """The same with other LoadOptions, its model loaded. Raises BundleRejected and DeviceError."""
        other = replace(self, options=replace(self.options, **changes))
        other.forget()
        return other

    def facts(self) -> report.Subject:
        """How the report names it."""
        receipt = self.model.receipt()
        return report.Subject(
            bundle=receipt.bundle,
            sha256=self.bundle.sha256,
            task=self.task,
            variant=receipt.variant,
            precision=receipt.precision,
            device=receipt.device,
            provider=receipt.provider,
            threads=receipt.threads,
            low_priority=self.options.low_priority,
            edgelm=version("edgelm"),
            onnxruntime=receipt.onnxruntime,
            notes=(*receipt.notes, *self.notes, *self._crowded(receipt.threads)),
            why=receipt.why,
        )

    def _crowded(self, threads: int) -> Iterator[str]:
        if threads > usable_cores():
            yield f"threads {threads} are more than the {usable_cores()} usable cores: they wait for each other"

    def inputs(self) -> report.Inputs:
        """The values and their lengths in tokens, as the tokenizer counts them."""
        lengths = [float(self.tokens(value)) for value in self.values]
        return report.Inputs(self.source, len(lengths), summarize(lengths), histogram(lengths, 10))

    def tokens(self, value: Any) -> int:
        """How many tokens the model reads for a value. Raises InputError for one that it refuses."""
        if self.generates:
            return len(self.model.tokenize(value))
        return sum(len(row) for row in self.model.windows(value))


def subject_of(
    bundle: Bundle,
    task: str,
    options: LoadOptions,
    values: Sequence[Any] | None,
    source: str,
    notes: tuple[str, ...] = (),
) -> Subject:
    """The subject of `values`, or of the bundle's golden inputs where there are none.

    Raises InputError for an empty list, or values that the model refuses; and what loading raises.
    """
    found = Subject(bundle, task, options, () if values is None else values, source, notes)
    if values is None:
        found = replace(found, values=golden_inputs(bundle, task, found.model), source="goldens")
    if not found.values:
        raise InputError(f"{source} has no input to profile with; one a line is accepted")
    for place, value in enumerate(found.values, start=1):
        try:
            found.tokens(value)
        except InputError as error:
            raise InputError(f"{source}, input {place}: {error}") from error
    return found


class Deadline:
    """A time that comes. `over()` says that it has."""

    def __init__(self, seconds: float) -> None:
        self._end = perf_counter() + seconds

    @property
    def left(self) -> float:
        """Seconds until then, at least 0."""
        return max(0.0, self._end - perf_counter())

    def over(self) -> bool:
        """Whether it has come."""
        return perf_counter() >= self._end
