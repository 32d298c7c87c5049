"""THE CONTRACT: what a bundle says about itself in `edgelm.json`, and how that is checked. Standard library only.

A bundle is a folder. The manifest names every other file with its size and sha256. Everything that is missing or wrong
is reported at once; unknown fields are kept in `extra` and written back; an unknown format number is refused. A
format above 1 says in its field `needs_edgelm` which version reads it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import BundleRejected
from .fields import MANIFEST_NAME, Fields, check_path, parse_object

FORMAT = 1
GOLDEN_NAME = "golden.json"
MAX_MANIFEST_BYTES = 1_000_000
MAX_END_TOKENS = 64
FIRST_EDGELM = "0.1.0"
TASK_NAMES = (
    "text-classification",
    "token-classification",
    "feature-extraction",
    "text-generation",
    "text2text-generation",
)
SINGLE_LABEL, MULTI_LABEL, REGRESSION = "single_label_classification", "multi_label_classification", "regression"
PROBLEM_TYPES = (SINGLE_LABEL, MULTI_LABEL, REGRESSION)
# What makes scores of logits, as transformers' pipeline names it, and by problem where the manifest does not say.
FUNCTIONS = ("softmax", "sigmoid", "none")
FUNCTION_OF = {SINGLE_LABEL: "softmax", MULTI_LABEL: "sigmoid", REGRESSION: "none"}
# transformers' aggregation strategies of token classification; the first is that of a bundle that names none.
AGGREGATIONS = ("simple", "none", "first", "average", "max")
OUTSIDE = "O"  # the label of a token that is in no entity

TEXT, PARSE = "text", "parse"
SPECIAL_TOKENS = (TEXT, PARSE)

PROMPT_FIELD = re.compile(r"\{(\w+)\}")
_LEAST_LABELS = {
    ("text-classification", SINGLE_LABEL): 2,
    ("text-classification", MULTI_LABEL): 1,
    ("text-classification", REGRESSION): 1,
    ("token-classification", SINGLE_LABEL): 2,
}
_MAX_CONTEXT = 1 << 20
_MAX_BYTES = 1 << 36
_LISTED, _SHOWN = 50, 1_000  # problems in a message, characters of one
_SHA256 = re.compile("[0-9a-f]{64}")
_TAG = re.compile(rf"{OUTSIDE}|[BIES]-.+")


@dataclass(frozen=True)
class FileEntry:
    """Size in bytes and lower-case hexadecimal sha256 of one file."""

    size: int
    sha256: str
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TokenizerSpec:
    """The tokenizer's file and special ids; `max_tokens` is the model's context, special tokens included.

    Any of `eos_ids` ends an answer; the manifest has them as `eos_id`. `special_tokens` says what those in a text are,
    "text" or "parse"; bundles that do not say read them as text, and cut the prompt of a generator at its seams.
    With `strip_cjk_spaces` a text that is written has no blanks between Chinese or Japanese characters.
    """

    file: str
    max_tokens: int
    bos_id: int | None = None
    eos_ids: tuple[int, ...] = ()
    pad_id: int | None = None
    special_tokens: str | None = None
    strip_cjk_spaces: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class DecoderSpec:
    """What a decoder that follows an encoder begins with: `start_id`, and `forced_bos_id` if every answer begins so.

    With `forced_eos` an answer as long as it may be has its end at that length, as beam search counts it.
    """

    start_id: int
    forced_bos_id: int | None = None
    forced_eos: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EmbeddingSpec:
    """What is put before a text whose vector is wanted: one of `prompts` by its name.

    `default_prompt_name` is that where none is named.
    With `truncation` a text over the context is cut, as sentence-transformers does; else it is read in windows.
    """

    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None
    truncation: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def prompt(self) -> str:
        """What stands before a text where no prompt is named."""
        return "" if self.default_prompt_name is None else self.prompts[self.default_prompt_name]


@dataclass(frozen=True)
class Variant:
    """One graph: its precision, the providers and CPU flags (`device.isa_flags`) that it needs, its bytes.

    `weights` is the file of its large tensors; "" where they are inside. `golden` has its own answers, where they are
    not those of golden.json. `encoder` is the graph that reads the text for a text2text-generation.
    """

    name: str
    file: str
    precision: str
    providers: tuple[str, ...]
    requires: tuple[str, ...]
    size: int
    weights: str = ""
    golden: str = ""
    encoder: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def goldens(self) -> str:
        """The file with the answers that it gave where it was made."""
        return self.golden or GOLDEN_NAME

    @property
    def files(self) -> tuple[str, ...]:
        """The graph and, where there are any, its encoder and the weights outside them."""
        return tuple(name for name in (self.file, self.encoder, self.weights) if name)


@dataclass(frozen=True)
class Manifest:
    """All of `edgelm.json`. `task` is Hugging Face's name, `serves` are edgelm's tasks.

    `problem_type` is transformers': what the logits of a classifier mean. `function_to_apply` is one of `FUNCTIONS`, or
    "" for that of the problem; `activation` says which. With `pairs` it reads two texts at once.
    `aggregation` is how a token classifier's tokens become entities; `tags` has what its labels say in the scheme BIOES
    ("B-BRAND" of "BRAND_B"), and is empty where the labels are B-KIND, I-KIND or names alone.
    """

    format: int
    name: str
    version: str
    task: str
    serves: tuple[str, ...]
    family: str
    languages: tuple[str, ...]
    labels: tuple[str, ...]
    tokenizer: TokenizerSpec
    prompts: Mapping[str, str]
    generation: Mapping[str, Any]
    variants: tuple[Variant, ...]
    quality: Mapping[str, Any]
    provenance: Mapping[str, Any]
    licence: str
    files: Mapping[str, FileEntry]
    problem_type: str = SINGLE_LABEL
    function_to_apply: str = ""
    pairs: bool = False
    decoder: DecoderSpec | None = None
    embedding: EmbeddingSpec | None = None
    aggregation: str = AGGREGATIONS[0]
    tags: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def activation(self) -> str:
        """What makes scores of a text classifier's logits, one of `FUNCTIONS`."""
        return self.function_to_apply or FUNCTION_OF[self.problem_type]

    @classmethod
    def from_bytes(cls, data: bytes) -> Manifest:
        """Parse and check the bytes of `edgelm.json`; raises BundleRejected with every problem in one message."""
        return _manifest(_parse(data))

    def to_json(self) -> str:
        """JSON text, fields in a stable order, `files` sorted by name, ending with a newline."""
        known = {
            "format": self.format,
            "needs_edgelm": FIRST_EDGELM,
            "name": self.name,
            "version": self.version,
            "task": self.task,
            "serves": list(self.serves),
            "family": self.family,
            "languages": list(self.languages),
            "labels": list(self.labels),
            **({} if self.problem_type == SINGLE_LABEL else {"problem_type": self.problem_type}),
            **({"function_to_apply": self.function_to_apply} if self.function_to_apply else {}),
            **({"pairs": True} if self.pairs else {}),
            **({} if self.aggregation == AGGREGATIONS[0] else {"aggregation": self.aggregation}),
            **({"tags": dict(self.tags)} if self.tags else {}),
            **({} if self.decoder is None else {"decoder": _plain(self.decoder)}),
            **({} if self.embedding is None else {"embedding": _plain(self.embedding)}),
            "tokenizer": _plain_tokenizer(self.tokenizer),
            "prompts": dict(self.prompts),
            "generation": dict(self.generation),
            "variants": [_plain(variant) for variant in self.variants],
            "quality": dict(self.quality),
            "provenance": dict(self.provenance),
            "licence": self.licence,
            "files": {name: _plain(self.files[name]) for name in sorted(self.files)},
        }
        return json.dumps({**known, **self.extra, **known}, ensure_ascii=False, indent=2) + "\n"


def _plain(part: FileEntry | DecoderSpec | EmbeddingSpec | Variant) -> dict[str, Any]:
    """A part as a JSON object, its unknown fields at the end."""
    values = {key: value for key, value in vars(part).items() if key != "extra" and value != ""}
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
    return {**plain, **part.extra, **plain}


def _plain_tokenizer(spec: TokenizerSpec) -> dict[str, Any]:
    """The tokenizer as a JSON object: its `eos_id` is null, an id, or a list of several."""
    ends = spec.eos_ids
    known = {
        "file": spec.file,
        "max_tokens": spec.max_tokens,
        "bos_id": spec.bos_id,
        "eos_id": list(ends) if len(ends) > 1 else next(iter(ends), None),
        "pad_id": spec.pad_id,
        **({} if spec.special_tokens is None else {"special_tokens": spec.special_tokens}),
        **({"strip_cjk_spaces": True} if spec.strip_cjk_spaces else {}),
    }
    return {**known, **spec.extra, **known}


def _rejected(problems: list[str]) -> BundleRejected:
    shown = [problem if len(problem) <= _SHOWN else f"{problem[:_SHOWN]}…" for problem in problems[:_LISTED]]
    shown += [f"and {len(problems) - _LISTED:,} more"] if len(problems) > _LISTED else []
    listed = "".join(f"\n  - {problem}" for problem in shown)
    message = f"{MANIFEST_NAME} does not describe a bundle of format {FORMAT}:{listed}\n  Export the bundle again."
    return BundleRejected(message, what=MANIFEST_NAME, expected=f"format {FORMAT}", found="; ".join(shown))


def _parse(data: bytes) -> dict[str, Any]:
    try:
        return parse_object(data, MAX_MANIFEST_BYTES)
    except ValueError as error:
        raise _rejected([str(error)]) from None


def _manifest(values: dict[str, Any]) -> Manifest:
    _check_format(values)
    problems: list[str] = []
    fields = Fields(values, "", problems)
    manifest = Manifest(
        format=fields.number("format", FORMAT, FORMAT),
        name=fields.text("name"),
        version=fields.text("version"),
        task=fields.text("task"),
        serves=fields.texts("serves", empty=False),
        family=fields.text("family"),
        languages=fields.texts("languages", empty=False),
        labels=fields.texts("labels", empty=True, required=False),
        tokenizer=_tokenizer(fields.part("tokenizer")),
        prompts=fields.mapping("prompts", required=False),
        generation=fields.mapping("generation", required=False),
        variants=tuple(
            _variant(Fields(item, f"variants[{index}]", problems))
            for index, item in enumerate(fields.objects("variants"))
        ),
        quality=fields.mapping("quality"),
        provenance=fields.mapping("provenance"),
        licence=fields.text("licence"),
        files=_files(fields.mapping("files"), problems),
        problem_type=fields.choice("problem_type", PROBLEM_TYPES),
        function_to_apply=fields.choice("function_to_apply", ("", *FUNCTIONS)),
        pairs=fields.flag("pairs"),
        decoder=_decoder(fields.part("decoder")) if "decoder" in values else None,
        embedding=_embedding(fields.part("embedding")) if "embedding" in values else None,
        aggregation=fields.choice("aggregation", AGGREGATIONS),
        tags=fields.mapping("tags", required=False),
        extra=fields.rest(),
    )
    problems += _disagreements(manifest)
    if problems:
        raise _rejected(problems)
    return manifest


def _check_format(values: dict[str, Any]) -> None:
    """Refuse another format before anything else is looked at: its fields may mean something different."""
    found = values.get("format")
    if type(found) is not int or found == FORMAT:
        return
    needs = values.get("needs_edgelm")
    version = f"edgelm {needs} or newer" if isinstance(needs, str) and needs else "a newer edgelm"
    advice = f"install {version}" if found > FORMAT else "export the bundle again"
    raise BundleRejected(
        f"the bundle has format {found}, this edgelm reads format {FORMAT}; {advice}",
        what="format",
        expected=str(FORMAT),
        found=str(found),
    )


def _tokenizer(fields: Fields) -> TokenizerSpec:
    return TokenizerSpec(
        file=fields.path("file"),
        max_tokens=fields.number("max_tokens", 1, _MAX_CONTEXT),
        bos_id=fields.token_id("bos_id"),
        eos_ids=fields.token_ids("eos_id", MAX_END_TOKENS),
        pad_id=fields.token_id("pad_id"),
        special_tokens=fields.optional_choice("special_tokens", SPECIAL_TOKENS),
        strip_cjk_spaces=fields.flag("strip_cjk_spaces"),
        extra=fields.rest(),
    )


def _variant(fields: Fields) -> Variant:
    return Variant(
        name=fields.text("name"),
        file=fields.path("file"),
        precision=fields.text("precision"),
        providers=fields.texts("providers", empty=False),
        requires=fields.texts("requires", empty=True, required=False),
        size=fields.number("size", 0, _MAX_BYTES),
        weights=fields.path("weights", required=False),
        golden=fields.path("golden", required=False),
        encoder=fields.path("encoder", required=False),
        extra=fields.rest(),
    )


def _decoder(fields: Fields) -> DecoderSpec:
    return DecoderSpec(
        start_id=fields.number("start_id", 0, (1 << 31) - 1),
        forced_bos_id=fields.token_id("forced_bos_id"),
        forced_eos=fields.flag("forced_eos"),
        extra=fields.rest(),
    )


def _embedding(fields: Fields) -> EmbeddingSpec:
    prompts = fields.mapping("prompts", required=False)
    for name, prompt in prompts.items():
        if not isinstance(prompt, str):
            fields.problem(f"prompts[{name!r}]", "must be a string")
    default = fields.text("default_prompt_name", required=False)
    if default and default not in prompts:
        fields.problem("default_prompt_name", f"must be one of the prompts, found {default!r}")
    return EmbeddingSpec(prompts, default or None, fields.flag("truncation"), fields.rest())


def _files(values: dict[str, Any], problems: list[str]) -> dict[str, FileEntry]:
    files: dict[str, FileEntry] = {}
    for name, entry in values.items():
        try:
            check_path(name)
        except ValueError as error:
            problems.append(f"files: {error}")
            continue
        fields = Fields(entry, f"files[{name!r}]", problems)
        size, sha256 = fields.number("size", 0, _MAX_BYTES), fields.text("sha256")
        if sha256 and not _SHA256.fullmatch(sha256):
            fields.problem("sha256", f"must be 64 lower-case hexadecimal digits, found {sha256[:80]!r}")
        files[name] = FileEntry(size, sha256, fields.rest())
    return files


def _disagreements(manifest: Manifest) -> list[str]:
    """Problems between fields that are each well formed."""
    problems: list[str] = []
    if manifest.task and manifest.task not in TASK_NAMES:
        problems.append(f"task must be one of {', '.join(TASK_NAMES)}, found {manifest.task!r}")
    least = _LEAST_LABELS.get((manifest.task, manifest.problem_type), 0)
    if len(manifest.labels) < least:
        problems.append(f"labels must name at least {('one class', 'two classes')[least - 1]} for {manifest.task}")
    for task, prompt in manifest.prompts.items():
        if not isinstance(prompt, str) or PROMPT_FIELD.findall(prompt) != ["text"]:
            problems.append(f"prompts[{task!r}] must be a string with {{text}} exactly once and no other field")
    if manifest.task in ("text-generation", "text2text-generation"):
        absent = [task for task in manifest.serves if task not in manifest.prompts]
        problems += [f"prompts[{task!r}] is missing, and the bundle serves that task" for task in absent]
    encodes = manifest.task == "text2text-generation"
    if {encodes} != {manifest.decoder is not None, *(bool(variant.encoder) for variant in manifest.variants)}:
        problems.append("decoder, and the encoder of every variant, belong to text2text-generation, which needs both")
    if manifest.tags and manifest.tags.keys() != set(manifest.labels):
        problems.append("tags must have every label, and nothing else")
    wrong = [tag for tag in manifest.tags.values() if not isinstance(tag, str) or not _TAG.fullmatch(tag)]
    if wrong:
        problems.append(f"tags must be O, or B-, I-, E- or S- and a name, found {str(wrong[0])[:60]!r}")
    if manifest.embedding is not None and manifest.task != "feature-extraction":
        problems.append(f"embedding belongs to feature-extraction, and the task is {manifest.task}")
    names = [variant.name for variant in manifest.variants]
    if len(set(names)) != len(names):
        problems.append(f"variants must have different names, found {', '.join(names)}")
    variants = manifest.variants
    named = {manifest.tokenizer.file, GOLDEN_NAME, *(name for one in variants for name in (*one.files, one.goldens))}
    absent = sorted(name for name in named if name and name not in manifest.files)
    return problems + [f"files has no entry for {name!r}" for name in absent]
