"""What a generated text costs by token: the first, those after it, and what lookup and the prefix cache gave."""

from __future__ import annotations

from . import report
from .rounds import answered, that_fit
from .subject import Deadline, NotMeasured, Subject
from .summary import summarize


def measure(subject: Subject, deadline: Deadline) -> report.Generation | None:
    """One sample an answer; None where answers are no text.

    An answer in several windows is left out: its first token comes after whole other answers. Raises NotMeasured where
    no answer has a first token of its own, and what answering raises.
    """
    if not subject.generates:
        return None
    values = that_fit(subject, deadline, 1)
    prefixes = subject.model.generator.prefixes
    asked, hits = prefixes.asked, prefixes.hits
    every = [(result, ms) for result, ms in answered(subject, values, deadline)]
    asked, hits = prefixes.asked - asked, prefixes.hits - hits
    written = [
        (result, ms, result.timings["time_to_first_token"])
        for result, ms in every
        if result.windows == 1 and result.tokens > 1 and "time_to_first_token" in result.timings
    ]
    if not written:
        raise NotMeasured("no answer has two tokens that come one after the other: beams, windows, or too short ones")
    proposed = sum(result.lookup.proposed for result, _ in every)
    accepted = sum(result.lookup.accepted for result, _ in every)
    return report.Generation(
        time_to_first_token=summarize([first for _, _, first in written]),
        time_per_output_token=summarize([(ms - first) / (result.tokens - 1) for result, ms, first in written]),
        tokens_per_second=summarize([1000 * result.tokens / ms for result, ms, _ in written]),
        output_tokens=summarize([float(result.tokens) for result, _, _ in written]),
        lookup=accepted / proposed if proposed else None,
        prefix_hits=hits / asked if prefixes.limit_bytes and asked else None,
    )
