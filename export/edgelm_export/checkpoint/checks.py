"""What is looked at before any work, listed once: an export stops at the first problem, a diagnosis has them all."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from edgelm_export import families
from edgelm_export.architecture import ONNX_FILES, ORIGINS, graph_file, graph_kind, is_onnx
from edgelm_export.checkpoint import setfit
from edgelm_export.checkpoint.config import own_code, read_json, readable_folder, reason_of
from edgelm_export.checkpoint.crossencoder import is_marked
from edgelm_export.checkpoint.ends import absent_ends
from edgelm_export.checkpoint.labels import notes_on
from edgelm_export.checkpoint.needs import check_disk, check_memory, export_needs
from edgelm_export.checkpoint.reading import GENERATORS, Reading
from edgelm_export.checkpoint.tensors import SHOWN, Comparison, is_of_head, not_finite
from edgelm_export.families import Dense, LayerNorm, VectorLayer
from edgelm_export.notes import note
from edgelm_export.tagging import aggregation_of, tags_of
from edgelm_runtime.errors import EdgeLMError, UnsupportedCheckpoint
from edgelm_runtime.guarded import is_foreign
from edgelm_runtime.manifest import OUTSIDE, TEXT
from edgelm_runtime.tasks.entities import marks_of


@dataclass(frozen=True)
class Finding:
    """What a check found. ``state`` is "ok", "note" or "problem"; the text of a problem says what to do."""

    check: str
    state: str
    text: str


# Case, accents, scripts, spaces, numbers: what tokenizers differ in.
PROBES = ("The Box is RED", "déjà vu", "质量很好，值得买", "two  spaces\nand a line", "3 for 12.50!")


_LONGEST = 60  # characters of a default
_SHOWN = 8  # special tokens by name


class Note(Exception):
    """Raised by a check for what does not prevent an export and should be known."""


def examine(reading: Reading) -> list[Finding]:
    """The findings of every check. One that fails for the reason of an earlier one is left out."""
    findings: list[Finding] = []
    for name, check in CHECKS.items():
        try:
            finding = Finding(name, "ok", _checked(name, check, reading))
        except Note as note:
            finding = Finding(name, "note", str(note))
        except UnsupportedCheckpoint as error:
            finding = Finding(name, "problem", str(error))
        if finding.text not in {earlier.text for earlier in findings}:
            findings.append(finding)
    return findings


def require(reading: Reading) -> None:
    """Raise UnsupportedCheckpoint for the first problem; notes go to stderr."""
    for name, check in CHECKS.items():
        try:
            _checked(name, check, reading)
        except Note as found:
            if name != "prompts":  # these may be among the export's options
                note(f"{name}: {found}")


def _checked(name: str, check: Callable[[Reading], str], reading: Reading) -> str:
    """What a check found. What it trips over, a field of a kind that nobody writes, is a problem of the checkpoint."""
    try:
        return check(reading)
    except BaseException as error:
        if isinstance(error, Note | EdgeLMError) or not is_foreign(error):
            raise
        raise UnsupportedCheckpoint(
            f"{reading.root}: its {name} cannot be read ({type(error).__name__}: {reason_of(error)}); a field of its "
            "JSON files may be of the wrong kind: save the checkpoint again with save_pretrained"
        ) from error


def _folder(reading: Reading) -> str:
    sentence = reading.sentence
    readable_folder(reading.folder)
    return "readable" if sentence is None else "readable, of sentence-transformers"


def _config(reading: Reading) -> str:
    model_type = str(reading.config["model_type"])
    written = read_json(reading.folder / "config.json").get("transformers_version")  # the other one is completed
    found = f"{model_type}, written by transformers {written}" if written else model_type
    if code := own_code(reading.folder):
        raise Note(f"{found}; auto_map names {', '.join(code)}, which is not run: transformers' own class is used")
    return found


def _architecture(reading: Reading) -> str:
    kind, model_type = graph_kind(reading.family), str(reading.config["model_type"])
    found = f"{model_type}: {ORIGINS[kind]}"
    if kind == "traced" and model_type in families.supported():
        found = f"{model_type}: for {reading.task} the graph is traced with transformers' ONNX exporter"
    if kind != "imported":
        return found
    taken = graph_file(reading.folder)
    others = sorted(path.name for name in ONNX_FILES for path in (reading.folder / name).parent.glob("*.onnx"))
    left = [name for name in others if name != taken.name]
    if left:
        raise Note(f"{found} {taken.relative_to(reading.folder)}; left where they are: {', '.join(left)}")
    return f"{found} {taken.relative_to(reading.folder)}"


def _task(reading: Reading) -> str:
    if reading.task == "text-classification":
        return _classifier(reading)
    if reading.task != "feature-extraction":
        return reading.task
    sentence = reading.sentence
    if sentence is None:
        raise Note(
            f"{reading.task} with {reading.poolings[0]} pooling: the folder has no modules.json that says otherwise"
        )
    parts = [f"{' + '.join(sentence.poolings)} pooling", *map(_described, reading.layers)]
    spec = sentence.embedding
    given = {name: prompt for name, prompt in spec.prompts.items() if prompt}
    parts += [f"the prompt {name!r} ({prompt!r})" for name, prompt in given.items()]
    parts += [f"{spec.default_prompt_name!r} by default"] if spec.prompt else []
    found = f"{reading.task} with {', '.join(parts)}"
    if reading.unread_head:
        raise Note(f"{found}; SetFit's classifier is there and not used: {setfit.HEAD} is read with --allow-pickle")
    return found


def _classifier(reading: Reading) -> str:
    found = reading.task
    if reading.cross_encoder:
        found += " of two texts, a CrossEncoder's"
    if reading.function_to_apply:
        found += f", scores by the function {reading.function_to_apply!r}"
    if reading.scores and reading.sentence is not None:
        found += f", from {' + '.join(reading.sentence.poolings)} pooling, {', '.join(map(_described, reading.layers))}"
    if is_marked(reading.config) and not reading.reads_pairs:
        raise Note(f"{found}; config.json is of a CrossEncoder, which reads two texts: give --pairs for its scores")
    return found


def _described(layer: VectorLayer) -> str:
    if isinstance(layer, Dense):
        beside = ", added to what it reads" if layer.residual else ""
        return f"a layer of {layer.width} ({layer.activation}{beside})"
    return "a layer norm" if isinstance(layer, LayerNorm) else "normalized"


def _weights(reading: Reading) -> str:
    weights = reading.stored
    size = f"{weights.stored_bytes / 1e6:.1f} MB in {len(weights.by_file())} file(s)"
    return f"{weights.elements / 1e6:.1f} M parameters, {', '.join(weights.dtypes)}, {size}"


def _tensors(reading: Reading) -> str:
    _ = reading.stored, reading.config
    if is_onnx(reading.folder):
        return "those of the graph"
    _ = reading.labels  # a head of another size has a better reason than its shape
    comparison, renamed = reading.comparison
    problem = comparison.problem()
    if problem:
        raise UnsupportedCheckpoint(
            f"{reading.folder}: the weights are not those that config.json describes ({reading.config['model_type']} "
            f"for {reading.task}). Tensors {problem}. {_remedy(reading, comparison)}"
        )
    notes = []
    if renamed:
        stored, name = next(iter(renamed.items()))
        notes.append(f"{len(renamed)} tensors are read under shorter names, {stored} as {name}")
    if comparison.unused:
        shown, more = comparison.unused[:SHOWN], ", ..." if len(comparison.unused) > SHOWN else ""
        notes.append(f"{len(comparison.unused)} tensors that this task does not read: {', '.join(shown)}{more}")
    if notes:
        raise Note("; ".join(notes))
    return "every tensor that the model has, in its shape"


def _remedy(reading: Reading, comparison: Comparison) -> str:
    """What to do about weights that do not fit."""
    stored = sorted(reading.stored.names)
    if (
        comparison.missing
        and not any(name in reading.stored for name in comparison.missing)
        and len(comparison.missing) > SHOWN
    ):
        return (
            f"The {len(stored)} tensors of the folder have other names, such as {', '.join(stored[:3])}: save the "
            "model itself with save_pretrained, and not a program around it"
        )
    if (
        reading.task != "feature-extraction"
        and all(map(is_of_head, comparison.missing))
        and not (comparison.misshapen or comparison.stray)
    ):
        return (
            f"It has no head for {reading.task}: fine-tune it with that head first, or give --task embed for the "
            "vectors of its base model"
        )
    return "Save the checkpoint again, or correct config.json"


def _numbers(reading: Reading) -> str:
    broken = not_finite(reading.stored)
    if broken:
        raise UnsupportedCheckpoint(
            f"{reading.folder}: {len(broken)} tensors hold NaN or infinite numbers: {', '.join(broken)}. "
            "Train it again with a lower learning rate, or take an earlier checkpoint"
        )
    return "all finite"


def _tokenizer(reading: Reading) -> str:
    stored, spec = reading.tokenizer.json, reading.tokenizer.spec
    ends, rows = " or ".join(map(str, spec.eos_ids)) or None, int(reading.config["vocab_size"])
    special = f"bos {spec.bos_id}, eos {ends}, pad {spec.pad_id}"
    found = f"fast, {rows} rows, {special}, inputs up to {spec.max_tokens} tokens"
    segments = "told apart" if reading.segments_told else "of one segment"
    if reading.task == "text-classification":
        found += f", two texts {segments}"
    if chosen := reading.tokenizer.chosen:
        found += f"; {chosen}. If it was trained with another, save that as tokenizer.json"
    if reading.task in GENERATORS and (absent := absent_ends(reading.folder, rows)):
        raise Note(f"{found}; eos_token_id names {absent}, which the model does not have: {_ends(ends)}")
    if reading.task in GENERATORS and not spec.eos_ids:
        raise Note(f"{found}; no file of it names an end token: {_ends(ends)}")
    if _numbered_for_nobody(reading):
        raise Note(
            f"{found}; tokenizer.json numbers the two texts of a pair, and its class does not give that to the model: "
            "with --pairs all is of the first. If it was trained with such numbers, as transformers 4 did, add "
            '"model_input_names": ["input_ids", "token_type_ids", "attention_mask"] to tokenizer_config.json'
        )
    other = _split_otherwise(reading.folder, stored) if not (reading.sentence and reading.sentence.lowercase) else None
    if other:
        raise Note(
            f"{found}; the tokenizer_class of tokenizer_config.json splits {other!r} otherwise than tokenizer.json and "
            "is followed. If it was trained with the file alone, set tokenizer_class to PreTrainedTokenizerFast"
        )
    if chosen:
        raise Note(found)
    return found


def _special_tokens(reading: Reading) -> str:
    added = json.loads(reading.tokenizer.json).get("added_tokens") or []
    names = [token["content"] for token in added if token.get("special")]
    shown = f"{', '.join(names[:_SHOWN])}{f' and {len(names) - _SHOWN} more' if len(names) > _SHOWN else ''}"
    if not names:
        return "the tokenizer has none"
    if reading.special_tokens == TEXT:
        return f"in a text they are characters like others: {shown}; a prompt's template alone has them"
    return (
        f"in a text they are read as such, as transformers' pipeline does: {shown}; where whoever writes the texts "
        "must not type them, export with --special-tokens text"
    )


def _ends(ends: str | None) -> str:
    if ends is not None:
        return f"answers end at {ends}"
    return (
        "every answer goes on to max_new_tokens. Give --eos TOKEN, the token that it was trained to end with, such as "
        "[SEP] or </s>, or set eos_token_id in generation_config.json"
    )


def _numbered_for_nobody(reading: Reading) -> bool:
    _, of_a_pair = reading.tokenizer.segments
    classifies = reading.task == "text-classification"
    return classifies and reading.knows_segments and any(of_a_pair) and not reading.tokenizer.told


def _split_otherwise(folder: Path, stored: bytes) -> str | None:
    """The first of a few texts that tokenizer.json reads otherwise than transformers' class, which builds its own."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return None
    by_file, by_class = Tokenizer.from_file(str(path)), Tokenizer.from_str(stored.decode())
    for tokenizer in (by_file, by_class):
        tokenizer.no_truncation()
        tokenizer.no_padding()
    return next((text for text in PROBES if by_file.encode(text).ids != by_class.encode(text).ids), None)


def _labels(reading: Reading) -> str:
    labels = reading.labels
    if not labels:
        return "none, this task has no labels"
    found = ", ".join(labels)
    if reading.task == "token-classification":
        kinds = dict.fromkeys(mark.kind for mark in marks_of(labels, tags_of(labels)) if mark.kind != OUTSIDE)
        aggregation = aggregation_of(reading.folder, labels, None)
        found += f"; entities {', '.join(kinds) or 'none'}, by aggregation {aggregation}"
    if reading.given_labels:
        return f"{found}, as --labels names them"
    if notes := notes_on(read_json(reading.folder / "config.json"), labels):
        raise Note(f"{found}: {'; '.join(notes)}. To name them, write id2label into config.json, or give --labels")
    return found


def _generation(reading: Reading) -> str:
    stored = {name: value for name, value in reading.generation.items() if name != "penalize_prompt"}
    given = ", ".join(f"{name} {str(value)[:_LONGEST]}" for name, value in stored.items() if value != [])
    if reading.decoder is not None:
        given = ", ".join(filter(None, [f"the decoder begins with token {reading.decoder.start_id}", given]))
    found = given or "nothing that changes edgelm's defaults"
    if reading.task == "text-generation" and (tasks := reading.config.get("task_specific_params")):
        raise Note(
            f"{found}; task_specific_params of config.json ({', '.join(map(str, tasks))}) are not taken, as "
            "transformers' generate does not read them: write what is wanted into generation_config.json"
        )
    return found


def _prompts(reading: Reading) -> str:
    if reading.task not in GENERATORS:
        return "none, this task has no prompts"
    if not reading.prompts:
        raise Note('none in prompts.json: export it with --prompt "summary={text}\\nTL;DR:"')
    return ", ".join(reading.prompts)


def _memory(reading: Reading) -> str:
    return check_memory(export_needs(reading.stored))


def _disk(reading: Reading) -> str:
    return check_disk(export_needs(reading.stored), reading.target)


def _bundle(reading: Reading) -> str:
    return f"about {export_needs(reading.stored).bundle / 1e6:.1f} MB in int8, for {reading.task}"


CHECKS: Mapping[str, Callable[[Reading], str]] = {
    "folder": _folder,
    "config": _config,
    "architecture": _architecture,
    "task": _task,
    "weights": _weights,
    "tensors": _tensors,
    "numbers": _numbers,
    "tokenizer": _tokenizer,
    "special_tokens": _special_tokens,
    "labels": _labels,
    "generation": _generation,
    "prompts": _prompts,
    "memory": _memory,
    "disk": _disk,
    "bundle": _bundle,
}
