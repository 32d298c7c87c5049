"""What a sequence-to-sequence checkpoint says of its answers: how they begin and end, and their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgelm_export.checkpoint.config import read_json
from edgelm_export.families import refuse
from edgelm_runtime.errors import UnsupportedCheckpoint
from edgelm_runtime.manifest import DecoderSpec

# Fields that the runtime has under the same name.
_SAME = (
    "max_new_tokens", "min_new_tokens", "no_repeat_ngram_size", "repetition_penalty", "num_beams", "length_penalty",
    "early_stopping", "coverage_bonus", "quote_bonus",
)  # fmt: skip
_OF_BEAMS = ("length_penalty", "early_stopping")
_SAMPLING = ("temperature", "top_k", "top_p")
# Fields that change answers in a way that the runtime does not know, with the values that change nothing.
_NEUTRAL: Mapping[str, tuple[object, ...]] = {
    "encoder_no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1.0,),
    "bad_words_ids": ([],),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "forced_decoder_ids": ([],),
    "sequence_bias": ({}, []),
    "exponential_decay_length_penalty": (),
    "renormalize_logits": (False,),
    "guidance_scale": (1, 1.0),
    "min_p": (0, 0.0),
    "typical_p": (1, 1.0),
    "epsilon_cutoff": (0, 0.0),
    "eta_cutoff": (0, 0.0),
    "top_h": (),
    "num_beam_groups": (1,),
    "diversity_penalty": (0, 0.0),
    "penalty_alpha": (0, 0.0),
    "watermarking_config": (),
    "token_healing": (False,),
}
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


def generation_defaults(folder: Path) -> dict[str, Any]:
    """The options of generation_config.json, with those of ``task_specific_params`` for a summary on top.

    Raises:
        UnsupportedCheckpoint: a field that changes answers is not honoured.
    """
    stored = _stored(folder)
    defaults = _options(stored, stored)
    special = _for_summary(stored)
    if special:
        defaults["tasks"] = {"summary": _options(special, {**stored, **special})}
    return defaults


def prompts(folder: Path) -> dict[str, str]:
    """The template of a summary: the prefix of ``task_specific_params``, or the text alone."""
    return {"summary": _for_summary(_stored(folder)).get("prefix", "") + "{text}"}


def _options(given: Mapping[str, Any], whole: Mapping[str, Any]) -> dict[str, Any]:
    """What ``given`` says, as the runtime's options; ``whole`` has the other fields that decide about them."""
    for name, neutral in _NEUTRAL.items():
        if given.get(name) is not None and given[name] not in neutral:
            raise refuse(name, given[name], " or ".join(map(repr, neutral)) or "none")
    if given.get("early_stopping") not in (None, True, False):
        raise refuse("early_stopping", given["early_stopping"], "true or false")
    names = [name for name in _SAME if int(whole.get("num_beams") or 1) > 1 or name not in _OF_BEAMS]
    if whole.get("do_sample"):
        if int(whole.get("num_beams") or 1) > 1:
            raise refuse("do_sample", True, f"false with num_beams = {whole['num_beams']}")
        names += _SAMPLING
    options = {name: given[name] for name in names if given.get(name) is not None}
    # The lengths of transformers count what the decoder begins with, and an end that is forced.
    begun = 1 + (whole.get("forced_bos_token_id") is not None)
    ended = int(whole.get("forced_eos_token_id") is not None)
    if given.get("max_length") is not None and "max_new_tokens" not in options:
        options["max_new_tokens"] = max(1, int(given["max_length"]) - begun - ended)
    if given.get("min_length") and "min_new_tokens" not in options:
        options["min_new_tokens"] = max(0, int(given["min_length"]) - begun)
    return options


def _for_summary(stored: Mapping[str, Any]) -> dict[str, Any]:
    special = stored.get("task_specific_params") or {}
    found = special.get(_SUMMARY) if isinstance(special, dict) else None
    return found if isinstance(found, dict) else {}


def _stored(folder: Path) -> dict[str, Any]:
    """The fields of generation_config.json; of config.json where there is none, as transformers decides.

    What belongs to a task, and the first token where the other file has none, are those of config.json in any case.
    """
    config = read_json(folder / "config.json")
    path = folder / "generation_config.json"
    stored = read_json(path) if path.is_file() else config
    for name in ("task_specific_params", "decoder_start_token_id"):
        if stored.get(name) is None:
            stored = {**stored, name: config.get(name)}
    return {name: value for name, value in stored.items() if value is not None}
