"""What generation_config.json says of answers: one table of every field that transformers' GenerationConfig has.

A field that changes answers is honoured, or refused by name; the others are known to change none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgelm_export.checkpoint.config import read_json
from edgelm_export.families import refuse
from edgelm_runtime.errors import InputError, UnsupportedCheckpoint
from edgelm_runtime.generate.options import GenerationOptions

# Fields that the runtime has under the same name, and edgelm's own at the end.
HONOURED = (
    "max_new_tokens", "min_new_tokens", "no_repeat_ngram_size", "repetition_penalty", "num_beams",
    "prompt_lookup_num_tokens", "bad_words_ids", "sequence_bias", "coverage_bonus", "quote_bonus",
)  # fmt: skip
HONOURED_WITH_BEAMS = ("length_penalty", "early_stopping")
# With transformers' own defaults, which count once `do_sample` is set.
HONOURED_SAMPLING: Mapping[str, float] = {"temperature": 1.0, "top_k": 50, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0}
# Fields that become something else: the answer's end, its beginning, its lengths, and `stop`.
TRANSLATED = (
    "do_sample", "max_length", "min_length", "stop_strings", "suppress_tokens", "begin_suppress_tokens",
    "eos_token_id", "bos_token_id", "pad_token_id", "decoder_start_token_id", "forced_bos_token_id",
    "forced_eos_token_id",
)  # fmt: skip
# Fields that change answers in a way that the runtime does not know, with the values that change nothing.
REFUSED: Mapping[str, tuple[object, ...]] = {
    "max_time": (),
    "encoder_no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1.0,),
    "forced_decoder_ids": ([],),
    "exponential_decay_length_penalty": (),
    "guidance_scale": (1, 1.0),
    "watermarking_config": (),
    "token_healing": (False,),
    "penalty_alpha": (0, 0.0),
    "dola_layers": (),
    "constraints": ([],),
    "force_words_ids": ([],),
}
REFUSED_SAMPLING: Mapping[str, tuple[object, ...]] = {"top_h": (), "epsilon_cutoff": (0, 0.0), "eta_cutoff": (0, 0.0)}
REFUSED_WITH_BEAMS: Mapping[str, tuple[object, ...]] = {
    "early_stopping": (True, False),
    "renormalize_logits": (False,),
    "num_beam_groups": (1,),
    "diversity_penalty": (0, 0.0),
}
# Speed, memory, what else is returned, broken numbers (which the runtime refuses), and where the file comes from.
WITHOUT_EFFECT = frozenset(
    {
        "use_mtp", "use_cache", "cache_implementation", "cache_config", "max_cache_len", "compile_config",
        "disable_compile", "continuous_batching_config", "prefill_chunk_size", "low_memory", "is_assistant",
        "num_assistant_tokens", "num_assistant_tokens_schedule", "assistant_confidence_threshold",
        "max_matching_ngram_size", "assistant_early_exit", "assistant_lookbehind", "target_lookbehind",
        "assistant_ensemble_weight", "speculation_type", "num_return_sequences", "output_attentions",
        "output_hidden_states", "output_scores", "output_logits", "return_dict_in_generate", "remove_invalid_values",
        "transformers_version", "_from_model_config",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Length:
    """What transformers' lengths of a sequence-to-sequence answer count besides its text.

    ``begun`` tokens that the decoder begins with, of which ``forced`` were generated; ``ended`` for an end that is.
    """

    begun: int
    forced: int
    ended: int


def stored_fields(folder: Path, *carried: str) -> dict[str, Any]:
    """The fields of generation_config.json; of config.json where there is none, as transformers decides.

    Those that are ``carried`` are config.json's where the other file has none.
    """
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    path = folder / "generation_config.json"
    stored = read_json(path) if path.is_file() else config
    missing = {name: config.get(name) for name in carried if stored.get(name) is None}
    return {name: value for name, value in {**stored, **missing}.items() if value is not None}


def causal_defaults(folder: Path, rows: int) -> dict[str, Any]:
    """The defaults of a causal model's answers. ``rows`` is the number of its tokens.

    Raises:
        UnsupportedCheckpoint: a field that changes answers is not honoured.
    """
    stored = stored_fields(folder)
    if stored.get("forced_eos_token_id") is not None:
        raise _refusal("forced_eos_token_id", stored["forced_eos_token_id"], "none for a causal model")
    return options_of(stored, rows)


def options_of(fields: Mapping[str, Any], rows: int, length: Length | None = None) -> dict[str, Any]:
    """The runtime's options that ``fields`` ask for; with a ``length`` those of a sequence-to-sequence model.

    `suppress_tokens` is always among them: without it the runtime suppresses every special token.

    Raises:
        UnsupportedCheckpoint: a field that changes answers is not honoured, or its value is not accepted.
    """
    beams, samples = int(fields.get("num_beams") or 1) > 1, bool(fields.get("do_sample"))
    if beams and samples:
        raise _refusal("do_sample", True, f"false with num_beams = {fields['num_beams']}")
    _refuse_others(REFUSED, fields)
    _refuse_others(REFUSED_SAMPLING if samples else REFUSED_WITH_BEAMS if beams else {}, fields)
    names = [*HONOURED, *(HONOURED_WITH_BEAMS if beams else ())]
    options = {name: fields[name] for name in names if fields.get(name) is not None}
    if samples:
        options |= {name: fields.get(name, default) for name, default in HONOURED_SAMPLING.items()}
    if fields.get("stop_strings"):
        stops = fields["stop_strings"]
        options["stop"] = [stops] if isinstance(stops, str) else stops
    options |= _whole_lengths(fields) if length is None else _answer_lengths(fields, options, length)
    bonuses = options.get("coverage_bonus") or options.get("quote_bonus")
    # What is held to its source by a bonus is to repeat it.
    options["penalize_prompt"] = fields.get("penalize_prompt", not bonuses)
    options["suppress_tokens"] = _known(fields.get("suppress_tokens"), rows)
    if first := _known(fields.get("begin_suppress_tokens"), rows):
        options["begin_suppress_tokens"] = first
    return _accepted(options, rows)


def renumbered(options: Mapping[str, Any], new: Mapping[int, int]) -> dict[str, Any]:
    """Options for a vocabulary that was cut: ``new`` has the ids that are left by their old ones.

    What names a token that is gone is dropped: it cannot be chosen.
    """
    cut = dict(options)
    for name in ("suppress_tokens", "begin_suppress_tokens"):
        if name in cut:
            cut[name] = [new[token] for token in cut[name] if token in new]
    if words := cut.get("bad_words_ids"):
        cut["bad_words_ids"] = [[new[token] for token in word] for word in words if all(token in new for token in word)]
    if biases := cut.get("sequence_bias"):
        known = [(tokens, bias) for tokens, bias in biases if all(token in new for token in tokens)]
        cut["sequence_bias"] = [[[new[token] for token in tokens], bias] for tokens, bias in known]
    if isinstance(cut.get("tasks"), dict):
        cut["tasks"] = {task: renumbered(own, new) for task, own in cut["tasks"].items()}
    return cut


def _refusal(name: str, value: object, accepted: str) -> UnsupportedCheckpoint:
    return refuse(name, value, accepted, "generation_config.json, or config.json where there is none")


def _refuse_others(table: Mapping[str, tuple[object, ...]], fields: Mapping[str, Any]) -> None:
    for name, neutral in table.items():
        if fields.get(name) is not None and fields[name] not in neutral:
            raise _refusal(name, fields[name], " or ".join(map(repr, neutral)) or "none")


def _whole_lengths(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Lengths that count the prompt: the runtime knows its tokens. Those of the answer alone come first."""
    lengths: dict[str, Any] = {}
    if fields.get("max_length") is not None and fields.get("max_new_tokens") is None:
        lengths = {"max_length": fields["max_length"], "max_new_tokens": fields["max_length"]}
    if fields.get("min_length") and fields.get("min_new_tokens") is None:
        lengths["min_length"] = fields["min_length"]
    return lengths


def _answer_lengths(fields: Mapping[str, Any], options: Mapping[str, Any], length: Length) -> dict[str, Any]:
    """Lengths of a sequence-to-sequence answer without what its decoder begins with, and without a forced end."""
    lengths: dict[str, Any] = {}
    if "max_new_tokens" in options:
        lengths["max_new_tokens"] = max(1, int(options["max_new_tokens"]) - length.forced - length.ended)
    elif fields.get("max_length") is not None:
        lengths["max_new_tokens"] = max(1, int(fields["max_length"]) - length.begun - length.ended)
    if "min_new_tokens" in options:
        lengths["min_new_tokens"] = max(0, int(options["min_new_tokens"]) - length.forced)
    elif fields.get("min_length"):
        lengths["min_new_tokens"] = max(0, int(fields["min_length"]) - length.begun)
    return lengths


def _known(tokens: object, rows: int) -> list[int]:
    """The token ids of a list that the model has: it cannot choose another."""
    if not isinstance(tokens, Sequence) or isinstance(tokens, str):
        return []
    return [token for token in tokens if type(token) is int and 0 <= token < rows]


def _accepted(options: dict[str, Any], rows: int) -> dict[str, Any]:
    """The options, once the runtime accepts them."""
    try:
        checked = GenerationOptions.from_mapping(options)
    except InputError as error:
        raise UnsupportedCheckpoint(f"generation_config.json: {error}") from error
    biased = {
        "bad_words_ids": [token for word in checked.bad_words_ids for token in word],
        "sequence_bias": [token for tokens, _ in checked.sequence_bias for token in tokens],
    }
    for name, tokens in biased.items():
        if tokens and max(tokens) >= rows:
            raise _refusal(name, max(tokens), f"tokens of the model, 0 to {rows - 1}")
    return options
