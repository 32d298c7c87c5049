"""The report of a profile: what `edgelm profile --json` prints, and every page, table and comparison is made from.

A part that was not measured is None, and `left_out` says why. Times are milliseconds of wall clock, sizes bytes.
Fields may be added under the same `schema`; a field that changes its meaning raises it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .summary import Histogram, Summary

SCHEMA = 1


@dataclass(frozen=True)
class Subject:
    """What was measured. `sha256` is of the manifest, which names every byte of the bundle; `why` says how the variant
    was chosen."""

    bundle: str
    sha256: str
    task: str
    variant: str
    precision: str
    device: str
    provider: str
    threads: int
    low_priority: bool
    edgelm: str
    onnxruntime: str
    notes: tuple[str, ...]
    why: str = ""


@dataclass(frozen=True)
class Machine:
    """Where. `governor` and `mhz` (of the fastest core, while one is busy, at the beginning and at the end) are ""
    and empty where the system does not tell; `throttled` is None there, else whether heat slowed the processor."""

    cpu: str
    isa: tuple[str, ...]
    cores: int
    memory: int
    system: str
    python: str
    governor: str
    mhz: tuple[float, ...]
    throttled: bool | None

    @property
    def identity(self) -> tuple[Any, ...]:
        """What has to be the same for two reports to be compared."""
        return self.cpu, self.isa, self.cores, self.system


@dataclass(frozen=True)
class Inputs:
    """The texts: where they come from ("goldens" or a file's name), and their lengths in tokens."""

    source: str
    count: int
    tokens: Summary
    lengths: Histogram


@dataclass(frozen=True)
class ColdStart:
    """From nothing to the first answer, each sample from a fresh process.

    `stages` in their order: interpreter, imports, verification, session, goldens, first_answer, exit; each sample's sum
    is its `total`, from the process's start to its end.
    """

    stages: Mapping[str, Summary]
    total: Summary


@dataclass(frozen=True)
class Steady:
    """Answers one after the other, all else warm. `stages` of `total`, in the order in which they come.

    A round is an answer to each of `texts` values; `rounds` are ms an answer, one sample a round. The interval of each
    median is theirs, to scale: the texts differ, and how much says nothing about how sure the median is. `drift` is
    the second half of the rounds against the first: 0.1 is 10 % slower.
    """

    stages: Mapping[str, Summary]
    total: Summary
    latencies: Histogram
    rounds: Summary
    texts: int
    drift: float


@dataclass(frozen=True)
class Generation:
    """What a text costs by token, one sample an answer, the prompts new to the model.

    `time_per_output_token` is of the tokens after the first; `tokens_per_second` of whole answers, the prompt's time
    included. `lookup` is the share of proposed tokens that were right, `prefix_hits` the share of prompts whose
    beginning was known; None where there were none.
    """

    time_to_first_token: Summary
    time_per_output_token: Summary
    tokens_per_second: Summary
    output_tokens: Summary
    lookup: float | None
    prefix_hits: float | None


@dataclass(frozen=True)
class SingleStream:
    """MLPerf's single stream: one text at a time; its figure is the 90th percentile."""

    latency: Summary


@dataclass(frozen=True)
class ServerTry:
    """One arrival rate that was tried: texts a second, and their latency from arrival to answer.

    A try ends with the answer that decides it: `kept` is False as soon as more than one in a hundred was late.
    """

    rate: float
    latency: Summary
    kept: bool


@dataclass(frozen=True)
class Server:
    """MLPerf's server: `rate` is the highest Poisson arrival rate, texts a second, whose 99th percentile stayed under
    `limit`; 0 where none did.

    Whoever arrives waits in one queue for the first of `workers` threads, which share the model. `note` says what the
    rate is worth less for, "" where nothing.
    """

    limit: float
    rate: float
    workers: int
    tries: tuple[ServerTry, ...]
    note: str


@dataclass(frozen=True)
class Offline:
    """MLPerf's offline: all texts are there at once; texts a second."""

    texts_per_second: Summary
    batch: int


@dataclass(frozen=True)
class Scenarios:
    """Those that were asked for."""

    single_stream: SingleStream | None
    server: Server | None
    offline: Offline | None


@dataclass(frozen=True)
class Throughput:
    """Texts a second of one way to call: so many texts in a call, so many threads."""

    batch: int
    threads: int
    texts_per_second: Summary


@dataclass(frozen=True)
class MemoryPoint:
    """Resident bytes after so many seconds and so many answers."""

    seconds: float
    answers: int
    resident: int


@dataclass(frozen=True)
class Memory:
    """Resident memory of a process that does nothing but answer.

    `growth` is bytes per 1,000 answers, by a line through the second half of the points, since buffers settle at first;
    `noise` is how far that may be off: less than that was not seen. Where a system tells the peak alone the rest is
    None, and there is no point.
    """

    imported: int | None
    loaded: int | None
    peak: int
    growth: float | None
    noise: float | None
    points: tuple[MemoryPoint, ...]


@dataclass(frozen=True)
class Energy:
    """Joules an answer of the whole processor, what it takes when idle included, by the counters named `source`; watts
    while answering one text after the other, and while nothing is asked."""

    source: str
    joules_per_answer: float
    watts: float
    idle_watts: float


@dataclass(frozen=True)
class Operator:
    """Nodes of one operator with the same shapes, `name` is one of them: `calls` in one answer, which take `ms` by
    their median; `share` is of the time of all operators."""

    name: str
    op_type: str
    provider: str
    shapes: str
    calls: float
    ms: float
    share: float


@dataclass(frozen=True)
class Operators:
    """The most expensive ones of the graph, and how many there are besides; `measured` is their total, `outside` what a
    run takes beyond it, both ms of one answer (texts end after 64 tokens). All of it is with onnxruntime's profile on,
    which adds `overhead`, a part of an answer's time; below 0 it is noise."""

    top: tuple[Operator, ...]
    others: int
    measured: float
    outside: float
    overhead: float = 0.0


@dataclass(frozen=True)
class Point:
    """All runs of one operator in one run of the graph: weights that they read, multiply-adds, and ms."""

    name: str
    bytes: int
    operations: int
    ms: float


@dataclass(frozen=True)
class Ceiling:
    """How far from what this machine could do: `bytes` (of weights) and `operations` (multiply-adds) of the model in
    one run (of one token, where text is generated), and the rates that were measured here, per second, on the same
    threads: `read_bandwidth` with a buffer as large as the weights, which a cache may hold, `int8_rate` with one large
    product.

    `floor` is the time that the slower of the two takes, ms; `share` of it is reached: floor / what a run takes;
    `bound` is "memory" or "arithmetic". `points` are the operators that take the longest, with onnxruntime's profile
    on.
    """

    read_bandwidth: float
    int8_rate: float
    bytes: int
    operations: int
    floor: float
    run: float
    share: float
    bound: str
    points: tuple[Point, ...] = ()


@dataclass(frozen=True)
class Trust:
    """Whether the numbers are to be trusted: `verdict` is VALID or NOISY, `reasons` say why, `excluded` what does not
    count. `load` is the part of the usable cores that others took while this was measured, `width` the interval of the
    median answer as a part of it; None where unknown."""

    verdict: str
    reasons: tuple[str, ...]
    excluded: tuple[str, ...]
    load: float | None
    width: float | None


@dataclass(frozen=True)
class Advice:
    """Something that a trial showed: what to do, and the gain that was measured."""

    text: str
    change: str
    before: float
    after: float
    unit: str


@dataclass(frozen=True)
class Report:
    """All that one profile found. `complete` is False where it was interrupted: what there is then still counts.

    `tried` are the changes that trials for `advice` made, as a user types them, whatever they showed.
    """

    schema: int
    created: str
    seconds: float
    complete: bool
    subject: Subject
    machine: Machine
    inputs: Inputs
    cold: ColdStart | None = None
    steady: Steady | None = None
    generation: Generation | None = None
    scenarios: Scenarios | None = None
    throughput: tuple[Throughput, ...] | None = None
    memory: Memory | None = None
    energy: Energy | None = None
    operators: Operators | None = None
    ceiling: Ceiling | None = None
    advice: tuple[Advice, ...] | None = None
    tried: tuple[str, ...] = ()
    trust: Trust | None = None
    left_out: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists, strings and numbers for JSON."""
        return asdict(self)
