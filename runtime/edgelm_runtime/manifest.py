"""THE CONTRACT: what a bundle says about itself in `edgelm.json`, and how that is checked. Standard library only.

A bundle is a folder. The manifest names every other file with its size and sha256. Everything that is missing or wrong
is reported at once; unknown fields are kept in `extra` and written back; an unknown format number is refused. A
format above 1 says in its field `needs_edgelm` which version reads it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import BundleRejected

FORMAT = 1
MANIFEST_NAME = "edgelm.json"
GOLDEN_NAME = "golden.json"
MAX_MANIFEST_BYTES = 1_000_000
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

PROMPT_FIELD = re.compile(r"\{(\w+)\}")
_LEAST_LABELS = {
    ("text-classification", SINGLE_LABEL): 2,
    ("text-classification", MULTI_LABEL): 1,
    ("text-classification", REGRESSION): 1,
    ("token-classification", SINGLE_LABEL): 2,
}
_MAX_DEPTH = 32
_MAX_CONTEXT = 1 << 20
_MAX_BYTES = 1 << 50
_SHA256 = re.compile("[0-9a-f]{64}")
_CONTROL = re.compile("[\x00-\x1f\x7f]")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_REQUIRED: Any = object()


def check_path(relative: str) -> str:
    """Return `relative` when it is a plain POSIX name inside the bundle's folder.

    Raises ValueError for an empty name, "..", ".", an absolute path, a backslash, a drive or another colon, a control
    character, a lone surrogate, and for the manifest's own name.
    """
    if not relative:
        raise ValueError("the path is empty")
    if _CONTROL.search(relative) or "\\" in relative or ":" in relative:
        raise ValueError(f"the path {relative!r} has a backslash, a colon or a control character")
    if any(part in ("", ".", "..") for part in relative.split("/")):
        raise ValueError(f"the path {relative!r} is absolute, or has an empty part, '.' or '..'")
    if relative == MANIFEST_NAME:
        raise ValueError(f"the path {relative!r} is the manifest itself")
    if _LONE_SURROGATE.search(relative):
        raise ValueError(f"the path {relative!r} has a lone surrogate")
    return relative


@dataclass(frozen=True)
class FileEntry:
    """Size in bytes and lower-case hexadecimal sha256 of one file."""

    size: int
    sha256: str
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TokenizerSpec:
    """The tokenizer's file and special ids; `max_tokens` is the model's context, special tokens included."""

    file: str
    max_tokens: int
    bos_id: int | None = None
    eos_id: int | None = None
    pad_id: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Variant:
    """One graph: its precision, the providers and CPU flags (`device.isa_flags`) that it needs, its bytes.

    `weights` is the file of its large tensors; "" where they are inside. `golden` has its own answers, where they are
    not those of golden.json.
    """

    name: str
    file: str
    precision: str
    providers: tuple[str, ...]
    requires: tuple[str, ...]
    size: int
    weights: str = ""
    golden: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def goldens(self) -> str:
        """The file with the answers that it gave where it was made."""
        return self.golden or GOLDEN_NAME

    @property
    def files(self) -> tuple[str, ...]:
        """The graph and, where they are outside, its weights."""
        return (self.file, self.weights) if self.weights else (self.file,)


@dataclass(frozen=True)
class Manifest:
    """All of `edgelm.json`. `task` is Hugging Face's name, `serves` are edgelm's tasks.

    `problem_type` is transformers': what the logits of a classifier mean. With `pairs` it reads two texts at once.
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
    pairs: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

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
            **({"pairs": True} if self.pairs else {}),
            "tokenizer": _plain(self.tokenizer),
            "prompts": dict(self.prompts),
            "generation": dict(self.generation),
            "variants": [_plain(variant) for variant in self.variants],
            "quality": dict(self.quality),
            "provenance": dict(self.provenance),
            "licence": self.licence,
            "files": {name: _plain(self.files[name]) for name in sorted(self.files)},
        }
        return json.dumps({**known, **self.extra, **known}, ensure_ascii=False, indent=2) + "\n"


def _plain(part: FileEntry | TokenizerSpec | Variant) -> dict[str, Any]:
    """A part as a JSON object, its unknown fields at the end."""
    values = {key: value for key, value in vars(part).items() if key != "extra" and value != ""}
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}
    return {**plain, **part.extra, **plain}


def _rejected(problems: list[str]) -> BundleRejected:
    listed = "".join(f"\n  - {problem}" for problem in problems)
    message = f"{MANIFEST_NAME} does not describe a bundle of format {FORMAT}:{listed}\nExport the bundle again."
    return BundleRejected(message, what=MANIFEST_NAME, expected=f"format {FORMAT}", found="; ".join(problems))


def _parse(data: bytes) -> dict[str, Any]:
    """JSON object of the manifest, shallow, finite and valid Unicode all through."""
    if len(data) > MAX_MANIFEST_BYTES:
        raise _rejected([f"it has {len(data):,} bytes, at most {MAX_MANIFEST_BYTES:,} are accepted"])
    try:
        parsed = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except RecursionError:
        raise _rejected([f"it is nested deeper than {_MAX_DEPTH} levels"]) from None
    except ValueError as error:
        raise _rejected([f"it is not valid JSON in UTF-8 ({error})"]) from None
    if not isinstance(parsed, dict):
        raise _rejected([f"it must be a JSON object, found {_kind(parsed)}"])
    problem = _first_unsound(parsed)
    if problem:
        raise _rejected([problem])
    return parsed


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return found


def _refuse_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _first_unsound(root: Any) -> str:
    """The first value that could not be written back: too deep, not finite, not Unicode. "" when all is sound."""
    stack: list[tuple[Any, int]] = [(root, 1)]
    while stack:
        value, depth = stack.pop()
        if depth > _MAX_DEPTH:
            return f"it is nested deeper than {_MAX_DEPTH} levels"
        if isinstance(value, dict):
            stack += [(inner, depth + 1) for inner in value.values()]
            stack += [(key, depth) for key in value]
        elif isinstance(value, list):
            stack += [(inner, depth + 1) for inner in value]
        elif isinstance(value, float) and not math.isfinite(value):
            return "it has a number outside the range of float64"
        elif isinstance(value, str) and _LONE_SURROGATE.search(value):
            return f"the text {value[:40]!r} has a lone surrogate"
    return ""


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


class _Fields:
    """Takes typed fields out of one JSON object; notes every problem and goes on with a harmless value."""

    def __init__(self, values: Any, where: str, problems: list[str]) -> None:
        self._where = where
        self._values: dict[str, Any] = values if isinstance(values, dict) else {}
        self._taken: set[str] = set()
        self._problems = problems
        if not isinstance(values, dict):
            self._problems.append(f"{where} must be an object, found {_kind(values)}")
            self._problems = []

    def problem(self, key: str, text: str) -> None:
        self._problems.append(f"{self._where}.{key} {text}" if self._where else f"{key} {text}")

    def _take(self, key: str, default: Any) -> Any:
        self._taken.add(key)
        if key in self._values:
            return self._values[key]
        if default is _REQUIRED:
            self.problem(key, "is missing")
            return None
        return default

    def _wrong(self, key: str, expected: str, value: Any) -> None:
        if key in self._values:
            self.problem(key, f"must be {expected}, found {_kind(value)} {json.dumps(value)[:60]}")

    def text(self, key: str) -> str:
        value = self._take(key, _REQUIRED)
        if isinstance(value, str) and value.strip() and not _CONTROL.search(value):
            return value
        self._wrong(key, "text on one line", value)
        return ""

    def path(self, key: str, *, required: bool = True) -> str:
        value = self.text(key) if required or key in self._values else ""
        try:
            return check_path(value) if value else ""
        except ValueError as error:
            self.problem(key, f"must name a file inside the folder: {error}")
            return ""

    def number(self, key: str, low: int, high: int) -> int:
        value = self._take(key, _REQUIRED)
        if type(value) is int and low <= value <= high:
            return value
        self._wrong(key, f"an integer from {low} to {high}", value)
        return low

    def token_id(self, key: str) -> int | None:
        value = self._take(key, None)
        if value is None or (type(value) is int and 0 <= value < 1 << 31):
            return value
        self._wrong(key, "a token id or null", value)
        return None

    def texts(self, key: str, *, empty: bool, required: bool = True) -> tuple[str, ...]:
        value = self._take(key, _REQUIRED if required else [])
        strings = isinstance(value, list) and all(isinstance(item, str) and item.strip() for item in value)
        if strings and (value or empty) and len(set(value)) == len(value):
            return tuple(value)
        self._wrong(key, f"a list of {'' if empty else 'at least one of '}different non-empty strings", value)
        return ()

    def choice(self, key: str, accepted: Sequence[str]) -> str:
        """One of `accepted`; the first where it is left out."""
        value = self._take(key, accepted[0])
        if value in accepted:
            return str(value)
        self._wrong(key, f"one of {', '.join(accepted)}", value)
        return accepted[0]

    def flag(self, key: str) -> bool:
        value = self._take(key, False)
        if isinstance(value, bool):
            return value
        self._wrong(key, "true or false", value)
        return False

    def mapping(self, key: str, *, required: bool = True) -> dict[str, Any]:
        value = self._take(key, _REQUIRED if required else {})
        if isinstance(value, dict):
            return value
        self._wrong(key, "an object", value)
        return {}

    def objects(self, key: str) -> list[Any]:
        value = self._take(key, _REQUIRED)
        if isinstance(value, list) and value:
            return value
        self._wrong(key, "a list of at least one object", value)
        return []

    def part(self, key: str) -> _Fields:
        """The fields of an object inside; when it is missing, only that is reported."""
        value = self._take(key, _REQUIRED)
        return _Fields(value, key, self._problems if key in self._values else [])

    def rest(self) -> dict[str, Any]:
        return {key: value for key, value in self._values.items() if key not in self._taken | {"needs_edgelm"}}


def _manifest(values: dict[str, Any]) -> Manifest:
    _check_format(values)
    problems: list[str] = []
    fields = _Fields(values, "", problems)
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
            _variant(_Fields(item, f"variants[{index}]", problems))
            for index, item in enumerate(fields.objects("variants"))
        ),
        quality=fields.mapping("quality"),
        provenance=fields.mapping("provenance"),
        licence=fields.text("licence"),
        files=_files(fields.mapping("files"), problems),
        problem_type=fields.choice("problem_type", PROBLEM_TYPES),
        pairs=fields.flag("pairs"),
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


def _tokenizer(fields: _Fields) -> TokenizerSpec:
    return TokenizerSpec(
        file=fields.path("file"),
        max_tokens=fields.number("max_tokens", 1, _MAX_CONTEXT),
        bos_id=fields.token_id("bos_id"),
        eos_id=fields.token_id("eos_id"),
        pad_id=fields.token_id("pad_id"),
        extra=fields.rest(),
    )


def _variant(fields: _Fields) -> Variant:
    return Variant(
        name=fields.text("name"),
        file=fields.path("file"),
        precision=fields.text("precision"),
        providers=fields.texts("providers", empty=False),
        requires=fields.texts("requires", empty=True, required=False),
        size=fields.number("size", 0, _MAX_BYTES),
        weights=fields.path("weights", required=False),
        golden=fields.path("golden", required=False),
        extra=fields.rest(),
    )


def _files(values: dict[str, Any], problems: list[str]) -> dict[str, FileEntry]:
    files: dict[str, FileEntry] = {}
    for name, entry in values.items():
        try:
            check_path(name)
        except ValueError as error:
            problems.append(f"files: {error}")
            continue
        fields = _Fields(entry, f"files[{name!r}]", problems)
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
    if manifest.task == "text-generation":
        absent = [task for task in manifest.serves if task not in manifest.prompts]
        problems += [f"prompts[{task!r}] is missing, and the bundle serves that task" for task in absent]
    names = [variant.name for variant in manifest.variants]
    if len(set(names)) != len(names):
        problems.append(f"variants must have different names, found {', '.join(names)}")
    variants = manifest.variants
    named = {manifest.tokenizer.file, GOLDEN_NAME, *(name for one in variants for name in (*one.files, one.goldens))}
    absent = sorted(name for name in named if name and name not in manifest.files)
    return problems + [f"files has no entry for {name!r}" for name in absent]
