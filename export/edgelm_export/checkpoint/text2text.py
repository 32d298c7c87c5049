"""What a sequence-to-sequence checkpoint says of its answers: how they begin and end, and their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgelm_export.checkpoint.generation import Length, options_of, stored_fields
from edgelm_runtime.errors import UnsupportedCheckpoint
from edgelm_runtime.manifest import DecoderSpec

_SUMMARY = "summarization"  # transformers' name of the task in task_specific_params


def decoder_spec(folder: Path, rows: int) -> DecoderSpec:
    """How the decoder begins; tokens are below ``rows``.

    Raises:
        UnsupportedCheckpoint: the checkpoint does not say, or names a token that does not exist.
    """
    stored = _stored(folder)
    fields = ("decoder_start_token_id", "bos_token_id")
    field = next((name for name in fields if name in stored), fields[0])
    forced = _token(folder, stored, "forced_bos_token_id", rows) if "forced_bos_token_id" in stored else None
    start = _token(folder, stored, field, rows)
    return DecoderSpec(start, forced, "forced_eos_token_id" in stored)


def _token(folder: Path, stored: Mapping[str, Any], name: str, rows: int) -> int:
    token = stored.get(name)
    if type(token) is int and 0 <= token < rows:
        return token
    raise UnsupportedCheckpoint(
        f"{folder}: {name} = {token!r} in config.json or generation_config.json is no token of the model; accepted: 0 "
        f"to {rows - 1}, the token that its decoder was trained to begin with"
    )


def generation_defaults(folder: Path, rows: int) -> dict[str, Any]:
    """The options of generation_config.json, with those of ``task_specific_params`` for a summary on top.

    Raises:
        UnsupportedCheckpoint: a field that changes answers is not honoured.
    """
    stored = _stored(folder)
    defaults = _options(stored, rows)
    if special := _for_summary(stored):
        own = _options({**stored, **special}, rows)
        if "temperature" in defaults and "temperature" not in own:
            own["temperature"] = 0.0
        defaults["tasks"] = {"summary": {name: own[name] for name in own if own[name] != defaults.get(name)}}
    return defaults


def prompts(folder: Path) -> dict[str, str]:
    """The template of a summary: the prefix of ``task_specific_params``, or the text alone."""
    return {"summary": _for_summary(_stored(folder)).get("prefix", "") + "{text}"}


def _options(stored: Mapping[str, Any], rows: int) -> dict[str, Any]:
    forced = int(stored.get("forced_bos_token_id") is not None)
    ended = int(stored.get("forced_eos_token_id") is not None)
    return options_of(stored, rows, Length(begun=1 + forced, forced=forced, ended=ended))


def _for_summary(stored: Mapping[str, Any]) -> dict[str, Any]:
    special = stored.get("task_specific_params") or {}
    found = special.get(_SUMMARY) if isinstance(special, dict) else None
    return found if isinstance(found, dict) else {}


def _stored(folder: Path) -> dict[str, Any]:
    """The fields of its generation; what belongs to a task is config.json's in any case."""
    return stored_fields(folder, "task_specific_params", "decoder_start_token_id")
