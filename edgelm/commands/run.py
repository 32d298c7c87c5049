"""``edgelm run``: texts in, answers out."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

import click

from edgelm import inputs, outputs, pipes
from edgelm.answering import CLASSIFIED, WRITTEN, Model, answers, problem_of
from edgelm.inputs import Inputs, Item, Problem
from edgelm.options import loading
from edgelm.reporting import Problems, Timer
from edgelm.terminal import note
from edgelm.whole_file import Interrupted, atomic_text_file
from edgelm_runtime.files import kind_of
from edgelm_runtime.manifest import SPECIAL_TOKENS
from edgelm_runtime.tasks import ENCODERS, TASKS

GENERATION = (
    "max_new_tokens",
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "typical_p",
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
    receipt: bool
    add_bom: bool
    raw_csv: bool
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
        if self.stream and (self.output or "variants" in self.generation):
            raise click.UsageError("--stream prints text as it comes; leave out --output and --variants")
        if self.pair is not None and (self.task not in inputs.READ_PAIRS or self.text in (None, "-")):
            raise click.UsageError("--pair: only `classify TEXT --pair TEXT` reads two texts; rows have text_pair")
        if self.text is not None and self.input is not None:
            raise click.UsageError("TEXT and --input: give one of the two")
        if self.column is not None and (self.input is None or kind_of(self.input) == ".txt"):
            raise click.UsageError("--column: only the --input of a .csv or .jsonl file has columns")
        self._check_output("" if self.output is None else self.output.suffix.lower())

    def _check_output(self, kind: str) -> None:
        if (self.add_bom or self.raw_csv) and kind != ".csv":
            raise click.UsageError("--add-bom and --raw-csv: only an --output that ends in .csv has them")
        if self.receipt and not self.json and kind != ".jsonl":
            raise click.UsageError("--receipt: only --json has one; edgelm inspect BUNDLE --placement shows it too")
        if self.output is None:
            return
        if self.input is not None and _is_same(self.output, self.input):
            raise click.UsageError(f"--output {self.output} is the --input: it would be lost; name another file")
        if kind not in outputs.KINDS:
            raise click.UsageError(f"--output {self.output}: accepted are {', '.join(outputs.KINDS)}")
        if self.json and kind != ".jsonl":
            raise click.UsageError("--json with --output: the file's name must end in .jsonl")
        if not self.output.absolute().parent.is_dir():
            raise click.UsageError(f"--output {self.output}: there is no folder {self.output.absolute().parent}")


def _is_same(path: Path, other: Path) -> bool:
    return path.absolute() == other.absolute() or (path.exists() and other.exists() and path.samefile(other))


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
@click.option("--json", is_flag=True, help="Print one JSON object an input; lines of stdin may then be objects, too.")
@click.option("--receipt", is_flag=True, help="In JSON: how the bundle was loaded, with its first answer.")
@click.option("--add-bom", is_flag=True, help="Begin a .csv file with a byte order mark, so that Excel reads UTF-8.")
@click.option(
    "--raw-csv", is_flag=True, help="Leave cells of a .csv file that a spreadsheet would compute as they are."
)
@click.option("--stream", is_flag=True, help="Print the text as it is generated.")
@click.option("--timings", is_flag=True, help="Show on stderr where the time went.")
@click.option("--max-new-tokens", type=int, help="Tokens to generate at the most.")
@click.option("--temperature", type=float, help="0 always takes the most probable token; above 0 samples.")
@click.option("--top-k", type=int, help="Sample from the K most probable tokens; 0 is all.")
@click.option("--top-p", type=float, help="Sample from the most probable tokens that add up to P.")
@click.option("--min-p", type=float, help="Sample from tokens with at least P times the highest probability; 0 is all.")
@click.option("--typical-p", type=float, help="Sample from the most typical tokens that add up to P; 1 is all.")
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
    return Model(task, given, CLASSIFIED if request.task in ENCODERS else WRITTEN, _allowed(request.task))


def _allowed(task: str) -> frozenset[str]:
    """The options that a single request may have; those that are lists of token ids have no flag."""
    from edgelm_runtime.generate.options import GenerationOptions

    if task in ENCODERS:
        return frozenset(["prompt_name"] if task == "embed" else [])
    names = {one.name for one in fields(GenerationOptions)} - {"ignore_eos"}  # that one is for benchmarks
    return frozenset(names | ({"variants"} if task == "description" else set()))


def _inputs(request: Request) -> Item | Iterable[Inputs]:
    if request.input is not None:
        return [inputs.read_file(request.input, inputs.reader_for(request.task, request.column))]
    if request.text not in (None, "-"):
        return inputs.argument(str(request.text), request.pair)
    if request.text is None and (sys.stdin is None or sys.stdin.isatty()):
        raise click.UsageError("no input: give TEXT, or --input FILE, or lines in a pipe")
    reader = inputs.reader_for(request.task, None)
    read: pipes.Read = pipes.Requests(reader) if request.json else pipes.text_line
    return pipes.lines_as_they_come(sys.stdin.buffer, read)


def _answer_one(request: Request, model: Model, item: Item, timer: Timer) -> None:
    with _destination(request, one_line=False) as (writer, _):
        result = _streamed(model, item, writer) if request.stream else model.one(item)
        writer.answer(item, result, model.receipt(result) if request.receipt else None)
    if not request.json:
        note(result.notes)
    timer.one(result.timings)


def _streamed(model: Model, item: Item, writer: outputs.Writer) -> outputs.Result:
    """Write the pieces of an answer as they come. Raises what the model raises."""
    writing = model.stream(item)
    for piece in writing:
        writer.piece(item, piece)
    result: outputs.Result = writing.result
    return result


def _answer_many(request: Request, model: Model, groups: Iterable[Inputs], timer: Timer) -> None:
    source = str(request.input or "stdin")
    problems = Problems(source)
    groups = iter(groups)
    first = next(groups, Inputs(()))
    with _destination(request, one_line=True, columns=first.columns) as (writer, stream):
        for group in chain([first], groups):
            note(f"{source}: {text}" for text in group.notes)
            problems.blank += group.blank
            for entry, outcome in _outcomes(request, model, group, writer):
                if isinstance(outcome, Problem):
                    writer.refused(outcome)
                    problems.add(outcome)
                elif isinstance(entry, Item):
                    problems.answered += 1
                    writer.answer(entry, outcome, model.receipt(outcome) if request.receipt else None)
                    note(() if request.json else outcome.notes, entry.line)
                    if request.stream:
                        timer.one(outcome.timings)
            stream.flush()
    if not request.stream:
        timer.many(problems.answered)
    problems.finish()


def _outcomes(
    request: Request, model: Model, group: Inputs, writer: outputs.Writer
) -> Iterator[tuple[Item | Problem, outputs.Result | Problem]]:
    """Answer a group; a bar on stderr where that is a terminal that shows no answers at the same time."""
    if request.stream:
        for entry in group.entries:
            yield entry, entry if isinstance(entry, Problem) else _streamed_or_problem(model, entry, writer)
        return
    shown = request.input is not None and sys.stderr.isatty() and (request.output or not sys.stdout.isatty())
    with click.progressbar(
        answers(model, group.entries), length=len(group.entries), label="answers", file=sys.stderr, hidden=not shown
    ) as bar:
        yield from bar


def _streamed_or_problem(model: Model, item: Item, writer: outputs.Writer) -> outputs.Result | Problem:
    try:
        return _streamed(model, item, writer)
    except (OSError, click.ClickException):  # of stdout: nobody would read the others
        raise
    except Exception as error:
        return problem_of(item, error)


@contextmanager
def _destination(
    request: Request, *, one_line: bool, columns: tuple[str, ...] = ()
) -> Iterator[tuple[outputs.Writer, TextIO]]:
    if request.output is None:
        in_json = outputs.JsonWriter(sys.stdout)
        yield in_json if request.json else outputs.TextWriter(sys.stdout, one_line=one_line), sys.stdout
        return
    style = outputs.Style(columns, request.raw_csv)
    try:
        with atomic_text_file(request.output, add_bom=request.add_bom, keep_partial=True) as stream:
            yield outputs.file_writer(request.output.suffix.lower(), stream, style), stream
    except Interrupted as stopped:
        if stopped.kept is not None:
            note([f"interrupted; the answers until then are in {stopped.kept}"])
        raise
