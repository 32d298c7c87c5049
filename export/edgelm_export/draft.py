"""What a manifest says before anything is built: the tasks that are served, prompts, languages, where it comes from."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING

from edgelm_export.architecture import graph_kind
from edgelm_export.checkpoint import Checkpoint
from edgelm_export.checkpoint.reading import GENERATORS
from edgelm_export.tagging import aggregation_of, tags_of
from edgelm_runtime.errors import InputError
from edgelm_runtime.machine import machine_kind
from edgelm_runtime.manifest import AGGREGATIONS, FORMAT, SINGLE_LABEL, Manifest, Variant

if TYPE_CHECKING:
    from edgelm_export.pipeline import ExportOptions

TOOLS = ("edgelm", "torch", "transformers", "onnx-ir", "onnxruntime")
WRITERS = ("summary", "description")
HUGGING_FACE: Mapping[str, str] = {
    "sentiment": "text-classification",
    "classify": "text-classification",
    "tag": "token-classification",
    "embed": "feature-extraction",
}
# Classes of sentiment as checkpoints name them.
SENTIMENT = re.compile(
    r"((very|extremely|somewhat|slightly|highly|strongly|mostly)[ _-])?(neg(ative)?|pos(itive)?|neu(tral)?)|mixed"
    r"|([1-5]|one|two|three|four|five)[ _-]?stars?|stars?[ _-]?[1-5]|[1-5一二三四五]颗?星"
    r"|(非常|很)?(负面?|正面?|负向|正向|消极|积极|中性|中立)(情绪|情感|评价)?|好评|中评|差评"
)
_UNNAMED = re.compile(r"label_\d+")
_FEW = 3  # classes without names are most often negative and positive, with neutral at the most


def checkpoint_task(task: str | None) -> str | None:
    """Hugging Face's name of a task of ours, where the two go together; None leaves it to the checkpoint."""
    return HUGGING_FACE.get(task, None if task in WRITERS else task) if task else None


def draft_manifest(checkpoint: Checkpoint, options: ExportOptions, variant: Variant) -> Manifest:
    """The manifest of a bundle with one variant, without quality and files.

    Raises:
        InputError: the checkpoint does not serve the task that was asked for, or a prompt is missing or wrong.
    """
    prompts = _prompts(checkpoint, options)
    aggregation, tags = _entities(checkpoint, options)
    return Manifest(
        format=FORMAT,
        name=options.name or options.out.name,
        version=options.version,
        task=checkpoint.task,
        serves=tuple(prompts) or (_served(checkpoint, options.task),),
        family=checkpoint.family,
        languages=options.languages or _languages(checkpoint),
        labels=checkpoint.labels,
        tokenizer=checkpoint.tokenizer,
        prompts=prompts,
        generation=checkpoint.generation,
        variants=(variant,),
        quality={},
        provenance={
            "checkpoint": options.origin.name,
            "graph": graph_kind(checkpoint.architecture),
            **({"labels": "given"} if options.labels else {}),
            "training_data": list(options.training_data),
            "recipe": list(options.recipe),
            "tools": {tool: version(tool) for tool in TOOLS},
            "machines": [machine_kind()],
        },
        licence=options.licence or "not stated",
        files={},
        problem_type=checkpoint.problem_type,
        function_to_apply=checkpoint.function_to_apply,
        pairs=checkpoint.wanted.pairs,
        decoder=checkpoint.decoder,
        embedding=checkpoint.embedding,
        aggregation=aggregation,
        tags=tags,
    )


def _entities(checkpoint: Checkpoint, options: ExportOptions) -> tuple[str, dict[str, str]]:
    """How the tokens of a token classifier become entities, and what its labels say."""
    if checkpoint.task == "token-classification":
        labels = checkpoint.labels
        return aggregation_of(checkpoint.folder, labels, options.aggregation), tags_of(labels)
    if options.aggregation is not None:
        raise InputError(
            f"aggregation {options.aggregation!r} is for token classifiers, the checkpoint is for {checkpoint.task}: "
            "leave it out"
        )
    return AGGREGATIONS[0], {}


def _served(checkpoint: Checkpoint, asked: str | None) -> str:
    """The task of an encoder: of a text classifier sentiment, where its classes are such, or what was asked for."""
    served = {"token-classification": "tag", "feature-extraction": "embed"}.get(checkpoint.task)
    if served is not None:
        return served
    single = checkpoint.problem_type == SINGLE_LABEL and not (checkpoint.wanted.pairs or checkpoint.function_to_apply)
    if asked == "sentiment" and not single:
        raise InputError(
            f"sentiment is one of several labels of one text; {checkpoint.folder} has the problem type "
            f"{checkpoint.problem_type}{', and reads pairs' if checkpoint.wanted.pairs else ''}: give --task classify"
        )
    if asked in ("sentiment", "classify"):
        return asked
    return "sentiment" if single and is_sentiment(checkpoint.labels) else "classify"


def is_sentiment(labels: Sequence[str]) -> bool:
    """Whether the classes are those of sentiment by their names, or are few and have none."""
    names = [label.lower() for label in labels]
    unnamed = len(names) <= _FEW and all(map(_UNNAMED.fullmatch, names))
    return unnamed or all(map(SENTIMENT.fullmatch, names))


def _prompts(checkpoint: Checkpoint, options: ExportOptions) -> dict[str, str]:
    """Templates of the served tasks; a classifier has none."""
    if checkpoint.task not in GENERATORS:
        if options.prompts or options.task in WRITERS:
            asked = ", ".join([*options.prompts, *([options.task] if options.task in WRITERS else [])])
            raise InputError(f"{asked}: the checkpoint is for {checkpoint.task}, which writes nothing: no prompts")
        return {}
    prompts = {**checkpoint.prompts, **options.prompts}
    if options.task in WRITERS:
        prompts = {task: template for task, template in prompts.items() if task == options.task}
    wrong = {task: prompt for task, prompt in prompts.items() if task not in WRITERS or not _is_template(prompt)}
    if wrong or not prompts:
        raise InputError(
            f"a generator needs a prompt for summary or description, with one {{text}}, found {wrong or 'none'}: "
            'give it as --prompt "summary={text}\\nTL;DR:", or as prompts.json in the checkpoint'
        )
    return prompts


def _is_template(prompt: object) -> bool:
    return isinstance(prompt, str) and prompt.count("{text}") == 1


def _languages(checkpoint: Checkpoint) -> tuple[str, ...]:
    """The languages, by script, that more than a twentieth of the vocabulary is written in."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(checkpoint.tokenizer_json.decode())
    pieces = [tokenizer.decode([index]) for index in range(tokenizer.get_vocab_size())]
    han = sum(any("\u4e00" <= character <= "\u9fff" for character in piece) for piece in pieces)
    latin = sum(piece.strip("#").isascii() and piece.strip("#").isalpha() and len(piece) > 3 for piece in pieces)
    found = tuple(name for name, count in (("zh", han), ("en", latin)) if count > len(pieces) / 20)
    return found or ("en",)


def read_prompt(argument: str) -> tuple[str, str]:
    r"""Split ``TASK=TEMPLATE``; ``\n`` in the template is a line end, which is hard to type in a shell.

    Raises:
        InputError: no task, or no ``{text}`` in the template.
    """
    task, found, template = argument.partition("=")
    if not found or not _is_template(template):
        raise InputError(f"--prompt {argument!r}: accepted is TASK=TEMPLATE with one {{text}} in the template")
    return task.strip(), template.replace("\\n", "\n")
