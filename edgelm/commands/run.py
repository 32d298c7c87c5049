"""``edgelm run``: texts in, answers out."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import click

from edgelm import inputs, outputs, pipes
from edgelm.answering import CLASSIFIED, WRITTEN, Model, answers
from edgelm.inputs import Inputs, Item, Problem
from edgelm.options import loading
from edgelm.reporting import Problems, Timer, note
from edgelm_runtime.errors import InputError
from edgelm_runtime.files import kind_of
from edgelm_runtime.manifest import SPECIAL_TOKENS
from edgelm_runtime.tasks import ENCODERS, TASKS

GENERATION = (
    "max_new_tokens",
    "temperature",
    "top_k",
    "top_p",
    "repetition_penalty",
    "no_repeat_ngram_size",
    "coverage_bonus",
    "quote_bonus",
    "prompt_lookup_num_tokens",
    "context_shift",
    "num_beams",
    "length_penalty",
    "early_stopping",
    "min_new_tokens",
    "deadline_ms",
    "banned",
    "must_include",
    "absolute_terms",
    "facts",
    "seed",
    "stop",
    "variants",
)
EXAMPLES = """\b
Examples:
  edgelm run sentiment "物流很快，质量也好"
  edgelm run description "name: satellite 25; type: laptop; drive: 320 gb" --stream
  edgelm run sentiment --input reviews.csv --column review --output answers.csv
"""


@dataclass(frozen=True)
class Request:
    """What was asked for on the command line."""

    task: str
    text: str | None
    pair: str | None
    bundle: str | None
    device: str
    use_variant: str | None
    threads: int | None
    allow_fallback: bool
    low_priority: bool
    aggregation: str | None
    special_tokens: str | None
    prompt_name: str | None
    input: Path | None
    output: Path | None
    column: str | None
    json: bool
    stream: bool
    timings: bool
    generation: Mapping[str, Any]

    def check(self) -> None:
        """Refuse combinations that contradict themselves. Raises click.UsageError."""
        if self.task in ENCODERS and (self.generation or self.stream):
            given = [*self.generation, *["stream"] * self.stream]
            raise click.UsageError(f"{_flags(given)}: {self.task} generates no text; summary and description do")
        if self.prompt_name is not None and self.task != "embed":
            raise click.UsageError(f"--prompt-name: {self.task} has no such prompts; embed has")
        if "variants" in self.generation and self.task != "description":
            raise click.UsageError(f"--variants: {self.task} has one answer; description has variants")
        if self.stream and (self.json or self.output or "variants" in self.generation):
            raise click.UsageError("--stream prints text as it comes; leave out --json, --output and --variants")
        if self.pair is not None and (self.task not in inputs.READ_PAIRS or self.text in (None, "-")):
            raise click.UsageError("--pair: only `classify TEXT --pair TEXT` reads two texts; rows have text_pair")
        if self.text is not None and self.input is not None:
            raise click.UsageError("TEXT and --input: give one of the two")
        if self.column is not None and (self.input is None or kind_of(self.input) == ".txt"):
            raise click.UsageError("--column: only the --input of a .csv or .jsonl file has columns")
        if self.output is not None:
            self._check_output(self.output)

    def _check_output(self, output: Path) -> None:
        if self.input is not None and output.absolute() == self.input.absolute():
            raise click.UsageError(f"--output {output} is the --input: it would be lost; name another file")
        if output.suffix.lower() not in outputs.KINDS:
            raise click.UsageError(f"--output {output}: accepted are {', '.join(outputs.KINDS)}")
        if self.json and output.suffix.lower() != ".jsonl":
            raise click.UsageError("--json with --output: the file's name must end in .jsonl")
        if not output.absolute().parent.is_dir():
            raise click.UsageError(f"--output {output}: there is no folder {output.absolute().parent}")


def _flags(names: Iterable[str]) -> str:
    return ", ".join("--" + name.replace("_", "-") for name in names)


@click.command("run", epilog=EXAMPLES, short_help="Text in, answer out.")
@click.argument("task", type=click.Choice(TASKS), metavar="TASK")
@click.argument("text", required=False)
@click.option("--pair", metavar="TEXT", help="The second text, for classify with a bundle that reads pairs.")
@click.option(
    "--bundle",
    metavar="BUNDLE",
    help="A bundle: its folder (./sentiment where named like a default), or a default name.",
)
@loading
@click.option(
    "--aggregation",
    type=click.Choice(["none", "simple", "first", "average", "max"]),
    help="How tag makes entities of tokens.  [default: as the bundle says]",
)
@click.option(
    "--special-tokens",
    type=click.Choice(SPECIAL_TOKENS),
    help="[SEP] and the like in a text: characters, or special tokens.  [default: as the bundle says]",
)
@click.option(
    "--prompt-name", metavar="NAME", help="The prompt before every text, for embed.  [default: as the bundle says]"
)
@click.option(
    "--input",
    type=click.Path(path_type=Path),
    help="A .txt (one input a line), .jsonl, .csv or .tsv file, each also .gz.",
)
@click.option("--output", type=click.Path(path_type=Path), help="Write a .txt, .jsonl or .csv file, not to stdout.")
@click.option("--column", help="The column to read.  [default: text; for description attributes, or the whole row]")
@click.option("--json", is_flag=True, help="Print one JSON object per input.")
@click.option("--stream", is_flag=True, help="Print the text as it is generated.")
@click.option("--timings", is_flag=True, help="Show on stderr where the time went.")
@click.option("--max-new-tokens", type=int, help="Tokens to generate at the most.")
@click.option("--temperature", type=float, help="0 always takes the most probable token; above 0 samples.")
@click.option("--top-k", type=int, help="Sample from the K most probable tokens; 0 is all.")
@click.option("--top-p", type=float, help="Sample from the most probable tokens that add up to P.")
@click.option("--repetition-penalty", type=float, help="Above 1 makes tokens already used less probable.")
@click.option("--no-repeat-ngram-size", type=int, help="Repeat no sequence of N tokens; 0 allows all.")
@click.option("--coverage-bonus", type=float, help="How much a description leans to naming every value; 0 is off.")
@click.option("--quote-bonus", type=float, help="How much a summary leans to the words of its text; 0 is off.")
@click.option(
    "--prompt-lookup-num-tokens", type=int, help="Tokens to guess at a time from what stood before; 0 is off."
)
@click.option("--context-shift", is_flag=True, help="Write on past the context, forgetting the oldest half of it.")
@click.option("--num-beams", type=int, help="Keep the N most probable beginnings (beam search); 1 keeps one.")
@click.option("--length-penalty", type=float, help="Of beam search: above 0 favours long answers, below 0 short ones.")
@click.option("--early-stopping", is_flag=True, help="Of beam search: end with the first N whole answers.")
@click.option("--min-new-tokens", type=int, help="Tokens before which the answer does not end by itself.")
@click.option("--deadline-ms", type=float, help="Answer within this time, cut after the last whole sentence.")
@click.option("--banned", type=click.Path(path_type=Path), help="A file of phrases not to be said, one a line.")
@click.option("--must-include", multiple=True, help="A phrase that the answer has to hold (repeatable).")
@click.option("--absolute-terms", is_flag=True, help="Let a Chinese description say what advertising law forbids.")
@click.option(
    "--facts",
    type=click.Choice(["free", "locked"]),
    help="locked: numbers, units, prices and names (Latin words in "
    "Chinese; words with a capital or a digit in English) from the input only. Lower-case English names are not seen.",
)
@click.option("--seed", type=int, help="The same seed gives the same sample.")
@click.option("--stop", multiple=True, help="End before this text (repeatable).")
@click.option("--variants", type=click.IntRange(min=1), help="Sample N descriptions.")
def command(task: str, text: str | None, **given: Any) -> None:
    """Answer TEXT, the lines of stdin (TEXT is - or left out in a pipe), or a file.

    TASK is sentiment, classify, tag, embed, summary or description; classify, tag and embed need
    --bundle. A description is made from attributes: "name: value; name: value",
    "类型#裙*颜色#白色", or a JSON object. The rows of a file for pairs have text and text_pair.
    Exit code 5: a line could not be answered (named on stderr, the others are answered).
    """
    chosen = {name: given.pop(name) for name in GENERATION}
    # 0 is a value: only what was left out is left out.
    generation = {
        name: value for name, value in chosen.items() if value is not None and value is not False and value != ()
    }
    if "banned" in generation:
        generation["banned"] = inputs.phrases(generation["banned"])
    request = Request(task=task, text=text, generation=generation, **given)
    request.check()
    items = _inputs(request)
    timer = Timer(request.timings)
    model = _load(request)
    if isinstance(items, Item):
        _answer_one(request, model, items, timer)
    else:
        _answer_many(request, model, items, timer)


def _load(request: Request) -> Model:
    from edgelm_runtime.generate.options import GenerationOptions
    from edgelm_runtime.loader import load

    options = {name: value for name, value in request.generation.items() if name != "variants"}
    GenerationOptions.from_mapping({}, **options)  # refused once here, not once for every input
    where = request.task if request.bundle is None else request.bundle
    task = load(
        where,
        task=request.task,
        device=request.device,
        variant=request.use_variant,
        threads=request.threads,
        allow_fallback=request.allow_fallback,
        low_priority=request.low_priority,
        aggregation=request.aggregation,
        special_tokens=request.special_tokens,
    )
    given = dict(request.generation)
    if request.prompt_name is not None:
        task.reader.prompt(request.prompt_name)  # refused once as well
        given["prompt_name"] = request.prompt_name
    group = CLASSIFIED if request.task in ENCODERS else WRITTEN
    return Model(task, given, group=1 if "variants" in given else group)


def _inputs(request: Request) -> Item | Iterable[Inputs]:
    if request.input is not None:
        return [inputs.read_file(request.input, inputs.reader_for(request.task, request.column))]
    if request.text not in (None, "-"):
        return inputs.argument(str(request.text), request.pair)
    if request.text is None and (sys.stdin is None or sys.stdin.isatty()):
        raise click.UsageError("no input: give TEXT, or --input FILE, or lines in a pipe")
    return pipes.lines_as_they_come(sys.stdin.buffer, pipes.text_line)


def _answer_one(request: Request, model: Model, item: Item, timer: Timer) -> None:
    if request.stream:
        _stream_one(model, item, timer)
        return
    result = model.one(item)
    with _destination(request, model, one_line=False) as (write, _):
        write(item, result)
    if not request.json:
        note(result.notes)
    timer.one(result.timings)


def _stream_one(model: Model, item: Item, timer: Timer) -> None:
    writing = model.task.stream(item.value, **model.options)
    for piece in writing:
        click.echo(piece, nl=False)
    click.echo()
    note(writing.result.notes, item.line)
    timer.one(writing.result.timings)


def _answer_many(request: Request, model: Model, groups: Iterable[Inputs], timer: Timer) -> None:
    problems = Problems(str(request.input or "stdin"))
    with _destination(request, model, one_line=True) as (write, stream):
        for group in groups:
            note(f"{request.input or 'stdin'}: {text}" for text in group.notes)
            problems.add(*group.problems)
            problems.blank += group.blank
            for item, outcome in _outcomes(request, model, group, timer):
                if isinstance(outcome, Problem):
                    problems.add(outcome)
                    continue
                problems.answered += 1
                if outcome is not None:
                    write(item, outcome)
                    note(() if request.json else outcome.notes, item.line)
            stream.flush()
    if not request.stream:
        timer.many(problems.answered)
    problems.finish()


def _outcomes(
    request: Request, model: Model, group: Inputs, timer: Timer
) -> Iterator[tuple[Item, outputs.Result | Problem | None]]:
    """Answer a group; a bar on stderr where that is a terminal that shows no answers at the same time."""
    if request.stream:
        for item in group.items:
            yield item, _streamed(model, item, timer)
        return
    shown = request.input is not None and sys.stderr.isatty() and (request.output or not sys.stdout.isatty())
    with click.progressbar(
        answers(model, group.items), length=len(group.items), label="answers", file=sys.stderr, hidden=not shown
    ) as bar:
        yield from bar


def _streamed(model: Model, item: Item, timer: Timer) -> Problem | None:
    try:
        _stream_one(model, item, timer)
    except InputError as error:
        return Problem(item.line, str(error))
    return None


@contextmanager
def _destination(request: Request, model: Model, *, one_line: bool) -> Iterator[tuple[outputs.Writer, TextIO]]:
    if request.output is not None:
        with outputs.atomic_text_file(request.output) as stream:
            yield outputs.file_writer(request.output.suffix.lower(), stream, model.receipt), stream
        return
    in_json = outputs.json_writer(sys.stdout, model.receipt)
    write = in_json if request.json else outputs.text_writer(sys.stdout, one_line=one_line)
    yield write, sys.stdout
