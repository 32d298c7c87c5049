"""What is looked at before any work, listed once: an export stops at the first problem, a diagnosis has them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edgelm_export.checkpoint.config import read_json
from edgelm_export.checkpoint.needs import check_disk, check_memory, export_needs
from edgelm_export.checkpoint.reading import Reading
from edgelm_export.checkpoint.tensors import compare, not_finite
from edgelm_runtime.errors import UnsupportedCheckpoint


@dataclass(frozen=True)
class Finding:
    """What a check found. ``state`` is "ok", "note" or "problem"; the text of a problem says what to do."""

    check: str
    state: str
    text: str


class Note(Exception):
    """Raised by a check for what does not prevent an export and should be known."""


def examine(reading: Reading) -> list[Finding]:
    """The findings of every check. One that fails for the reason of an earlier one is left out."""
    findings: list[Finding] = []
    for name, check in CHECKS.items():
        try:
            finding = Finding(name, "ok", check(reading))
        except Note as note:
            finding = Finding(name, "note", str(note))
        except UnsupportedCheckpoint as error:
            finding = Finding(name, "problem", str(error))
        if finding.text not in {earlier.text for earlier in findings}:
            findings.append(finding)
    return findings


def require(reading: Reading) -> None:
    """Raise UnsupportedCheckpoint for the first problem."""
    for check in CHECKS.values():
        try:
            check(reading)
        except Note:
            continue


def _folder(reading: Reading) -> str:
    return f"{reading.folder}"


def _config(reading: Reading) -> str:
    model_type = str(reading.config["model_type"])
    written = read_json(reading.folder / "config.json").get("transformers_version")  # the other one is completed
    return f"{model_type}, written by transformers {written}" if written else model_type


def _architecture(reading: Reading) -> str:
    reading.family.check(reading.config)
    return f"{reading.config['model_type']}: the graph is built from the weights"


def _task(reading: Reading) -> str:
    return reading.task


def _weights(reading: Reading) -> str:
    weights = reading.weights
    size = f"{weights.stored_bytes / 1e6:.1f} MB in {len(weights.by_file())} file(s)"
    return f"{weights.elements / 1e6:.1f} M parameters, {', '.join(weights.dtypes)}, {size}"


def _tensors(reading: Reading) -> str:
    _ = reading.weights, reading.config
    comparison = compare(reading.folder, reading.task)
    problem = comparison.problem()
    if problem:
        raise UnsupportedCheckpoint(
            f"{reading.folder}: the weights are not those that config.json describes ({reading.config['model_type']} "
            f"for {reading.task}). Tensors {problem}. Save the checkpoint again, or correct config.json"
        )
    if comparison.unused:
        raise Note(f"{len(comparison.unused)} tensors that this task does not read: {', '.join(comparison.unused)}")
    return "every tensor that the model has, in its shape"


def _numbers(reading: Reading) -> str:
    broken = not_finite(reading.weights)
    if broken:
        raise UnsupportedCheckpoint(
            f"{reading.folder}: {len(broken)} tensors hold NaN or infinite numbers: {', '.join(broken)}. "
            "Train it again with a lower learning rate, or take an earlier checkpoint"
        )
    return "all finite"


def _tokenizer(reading: Reading) -> str:
    _, spec = reading.tokenizer
    special = f"bos {spec.bos_id}, eos {spec.eos_id}, pad {spec.pad_id}"
    return f"fast, {reading.config['vocab_size']} rows, {special}, inputs up to {spec.max_tokens} tokens"


def _labels(reading: Reading) -> str:
    labels = reading.labels
    if not labels:
        return "none, this task has no labels"
    if labels == tuple(f"LABEL_{index}" for index in range(len(labels))):
        raise Note(f"{', '.join(labels)}: config.json does not name them; write id2label into it")
    return ", ".join(labels)


def _generation(reading: Reading) -> str:
    given = ", ".join(f"{name} {value}" for name, value in reading.generation.items())
    return given or "nothing that changes edgelm's defaults"


def _prompts(reading: Reading) -> str:
    if reading.task != "text-generation":
        return "none, this task has no prompts"
    if not reading.prompts:
        raise Note('none in prompts.json: export it with --prompt "summary={text}\\nTL;DR:"')
    return ", ".join(reading.prompts)


def _memory(reading: Reading) -> str:
    return check_memory(export_needs(reading.weights))


def _disk(reading: Reading) -> str:
    return check_disk(export_needs(reading.weights), reading.target)


def _bundle(reading: Reading) -> str:
    return f"about {export_needs(reading.weights).bundle / 1e6:.1f} MB in int8, for {reading.task}"


CHECKS: Mapping[str, Callable[[Reading], str]] = {
    "folder": _folder,
    "config": _config,
    "architecture": _architecture,
    "task": _task,
    "weights": _weights,
    "tensors": _tensors,
    "numbers": _numbers,
    "tokenizer": _tokenizer,
    "labels": _labels,
    "generation": _generation,
    "prompts": _prompts,
    "memory": _memory,
    "disk": _disk,
    "bundle": _bundle,
}
