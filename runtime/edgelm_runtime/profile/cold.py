"""From nothing to the first answer, again and again, each time in a fresh process."""

from __future__ import annotations

from . import report
from .fresh import Fresh, ask
from .subject import Deadline, Subject
from .summary import summarize

LEAST, MOST = 3, 15
STAGES = ("interpreter", "imports", "verification", "session", "goldens", "first_answer", "exit")


def measure(subject: Subject, deadline: Deadline) -> report.ColdStart:
    """As many processes as fit, at least LEAST. Each loads as `edgelm.load` does and answers the first value.

    Verification is reading and hashing what is loaded, session the tokenizer and onnxruntime's session, goldens the
    golden answers where the bundle was never verified on this kind of machine. Raises what loading and answering raise,
    and NotMeasured where no process can be started.
    """
    samples: list[dict[str, float]] = []
    while len(samples) < LEAST or (len(samples) < MOST and not deadline.over()):
        samples.append(_stages(ask(subject, subject.values[:1], None)))
    totals = [sum(sample.values()) for sample in samples]
    return report.ColdStart(
        {name: summarize([sample[name] for sample in samples]) for name in STAGES}, summarize(totals)
    )


def _stages(fresh: Fresh) -> dict[str, float]:
    """Milliseconds by stage; what lies between the stages that the process counted is put to its end."""
    reply = fresh.reply
    found = {name: reply["stages"][name] for name in STAGES if name in reply["stages"]}
    found["interpreter"] = 1000 * (reply["began"] - fresh.start)
    found["exit"] = 1000 * (fresh.end - fresh.start) - sum(found.values())
    return found
