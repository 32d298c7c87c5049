"""Folders of sentence-transformers: how the vectors of the tokens become one of the text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgelm_export.checkpoint.config import read_json, read_json_array
from edgelm_export.families import POOLINGS, refuse
from edgelm_runtime.errors import UnsupportedCheckpoint
from edgelm_runtime.manifest import EmbeddingSpec

MODULES = "modules.json"
SETTINGS = "config_sentence_transformers.json"
# The names of the transformer's own settings, in the order in which sentence-transformers looks for them.
TRANSFORMER_SETTINGS = tuple(
    f"sentence_{kind}_config.json"
    for kind in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
# What a folder says that it is; the last is what this exporter makes of SetFit's, whose head is a module then.
KINDS = ("SentenceTransformer", "CrossEncoder", "SetFit")
CROSS_ENCODER, SETFIT = KINDS[1:]
# What the transformer does, and its output, without and with a head.
_HEADLESS, _HEADED = ("feature-extraction", "last_hidden_state"), ("sequence-classification", "logits")
LAYERS = ("Dense", "LayerNorm", "Normalize", "Dropout")  # what may stand after pooling
# Fields of 1_Pooling/config.json before sentence-transformers 6, in the order in which their vectors are joined.
_OLD_POOLINGS = {
    "pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max", "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}  # fmt: skip
_LOADING = ("model_args", "model_kwargs", "config_args", "config_kwargs", "tokenizer_args", "processor_kwargs")
# Their fields that change no vector, or are honoured as a limit.
_HARMLESS = (
    "attn_implementation", "device_map", "dtype", "low_cpu_mem_usage", "max_length", "model_max_length",
    "pad_to_multiple_of", "padding", "padding_side", "return_tensors", "torch_dtype", "truncation", "trust_remote_code",
    "use_cache", "use_fast",
)  # fmt: skip


@dataclass(frozen=True)
class Module:
    """One of modules.json: its kind, and the folder with its settings and weights."""

    kind: str
    folder: Path


@dataclass(frozen=True)
class Sentence:
    """What a sentence-transformers folder asks for.

    ``folder`` is that of the transformer, ``layers`` are those after pooling, in order. ``kind`` is one of ``KINDS``;
    ``activation`` is what a CrossEncoder applies. With ``scores`` the last layer gives those of classes.
    """

    folder: Path
    poolings: tuple[str, ...]
    layers: tuple[Module, ...]
    max_tokens: int | None
    lowercase: bool
    embedding: EmbeddingSpec
    kind: str
    activation: object = None
    scores: bool = False

    @property
    def task(self) -> str | None:
        """Hugging Face's name of what the modules do; None where it is the transformer's own head that does it."""
        if self.scores:
            return "text-classification"
        return "feature-extraction" if self.poolings else None


def read_sentence(folder: Path) -> Sentence | None:
    """The settings of a sentence-transformers folder; None for any other.

    Raises:
        UnsupportedCheckpoint: modules or settings that the graph would not honour, named.
    """
    if not (folder / MODULES).is_file():
        return None
    modules, whole = _modules(folder / MODULES), read_optional(folder / SETTINGS)
    kind = whole.get("model_type", KINDS[0])
    if kind not in KINDS:
        raise refuse("model_type", kind, f"{KINDS[0]}, {CROSS_ENCODER}", folder / SETTINGS)
    headed = kind == CROSS_ENCODER and [module.kind for module in modules] == ["Transformer"]
    scores = kind != KINDS[0] and not headed
    if not headed:
        _check_order(folder / MODULES, [module.kind for module in modules], scores=scores)
    transformer, *after = modules
    settings = _transformer_settings(transformer.folder, headed=headed)
    embedding = _embedding(whole, folder / SETTINGS)
    if embedding.prompt and kind != KINDS[0]:
        raise refuse("default_prompt_name", embedding.default_prompt_name, f"null for a {kind}", folder / SETTINGS)
    return Sentence(
        transformer.folder, () if headed else _poolings(after[0].folder / "config.json", embedding), tuple(after[1:]),
        _limit(settings), bool(settings.get("do_lower_case")), embedding, kind, whole.get("activation_fn"), scores,
    )  # fmt: skip


def _check_order(path: Path, kinds: Sequence[str], *, scores: bool) -> None:
    accepted = (("Transformer",), ("Pooling",), *[LAYERS] * len(kinds))
    wrong = next((kind for kind, known in zip(kinds, accepted, strict=False) if kind not in known), None)
    missing = len(kinds) < 2 or (scores and kinds[-1] != "Dense")
    if wrong is not None or missing:
        what = "a module is missing" if wrong is None else f"the module {wrong} is not honoured in this place"
        last = "; of a CrossEncoder the last is a Dense, or the Transformer stands alone" if scores else ""
        raise UnsupportedCheckpoint(
            f"{path}: {what} of {', '.join(kinds) or 'none'}; accepted: Transformer, Pooling, then any of "
            f"{', '.join(LAYERS)}{last}"
        )


def module_folders(folder: Path) -> list[Path]:
    """The folders of the modules of a sentence-transformers folder beside its own; none of another."""
    if not (folder / MODULES).is_file():
        return []
    places = [module.folder for module in _modules(folder / MODULES)]
    return [place for place in places if place != folder and place.is_dir()]


def _modules(path: Path) -> list[Module]:
    """Every module; a kind that is none of sentence-transformers' has its whole name."""
    modules = []
    for module in read_json_array(path):
        kind, place = str(module.get("type", "")), str(module.get("path", ""))
        if Path(place).is_absolute() or ".." in Path(place).parts:
            raise UnsupportedCheckpoint(f"{path} names {place!r}, which is not in the folder; save the model again")
        kind = kind.rpartition(".")[2] if kind.startswith("sentence_transformers.") else kind
        modules.append(Module(kind, path.parent / place))
    return modules


def _transformer_settings(folder: Path, *, headed: bool) -> dict[str, Any]:
    """The settings of the first file that has any; ``headed`` is a classifier with a head of its own.

    Raises:
        UnsupportedCheckpoint: one that changes what is read or answered, and is not honoured.
    """
    found = ((folder / name, read_optional(folder / name)) for name in TRANSFORMER_SETTINGS)
    path, settings = next(((path, values) for path, values in found if values), (folder, {}))
    accepted, output = _HEADED if headed else _HEADLESS
    if settings.get("transformer_task", _HEADLESS[0]) != accepted:
        raise refuse("transformer_task", settings.get("transformer_task", _HEADLESS[0]), accepted, path)
    if not _reads_plain_texts(settings.get("modality_config", {}), output):
        raise refuse("modality_config", settings["modality_config"], f"texts as they are, to {output}", path)
    for name in ("query_expansion", "tokenizer_name_or_path"):
        if settings.get(name):
            raise refuse(name, settings[name], "null", path)
    for name, value in {**_loading(settings), **_processing(settings)}.items():
        if name not in _HARMLESS:
            raise refuse(name, value, "no such field", path)
    return settings


def _reads_plain_texts(config: Mapping[str, Any], output: str) -> bool:
    """Whether texts go to the model without a chat template, and come from it as that output."""
    text = config.get("text") or {}
    called = text.get("method", "forward"), text.get("method_output_name", output)
    return "message" not in config and called == ("forward", output)


def _loading(settings: Mapping[str, Any]) -> dict[str, Any]:
    """How the model and its tokenizer are loaded."""
    return {name: value for part in _LOADING for name, value in (settings.get(part) or {}).items()}


def _processing(settings: Mapping[str, Any]) -> dict[str, Any]:
    """How texts are cut into tokens; what is for pictures and sounds does not matter."""
    parts = settings.get("processing_kwargs") or {}
    return {name: value for part in ("common", "text") for name, value in (parts.get(part) or {}).items()}


def _limit(settings: Mapping[str, Any]) -> int | None:
    """The length that inputs are cut to; what is said of the tokenizer goes before the older field."""
    loaded = _loading(settings).get("model_max_length", settings.get("max_seq_length"))
    limits = [int(limit) for limit in (loaded, _processing(settings).get("max_length")) if limit]
    return min(limits, default=None)


def _poolings(path: Path, embedding: EmbeddingSpec) -> tuple[str, ...]:
    config = read_json(path)
    old = [mode for field, mode in _OLD_POOLINGS.items() if config.get(field)]
    modes = config.get("pooling_mode", old or "mean")
    modes = [modes] if isinstance(modes, str) else modes
    if not isinstance(modes, list) or not modes or any(mode not in POOLINGS for mode in modes):
        raise UnsupportedCheckpoint(f"{path}: pooling {modes} is not honoured; accepted: any of {', '.join(POOLINGS)}")
    if any(embedding.prompts.values()) and config.get("include_prompt") is False:
        raise refuse("include_prompt", False, "true where there are prompts: their tokens are pooled, too", path)
    return tuple(modes)


def _embedding(settings: Mapping[str, Any], path: Path) -> EmbeddingSpec:
    """What is put before a text; one over the length is cut.

    Raises:
        UnsupportedCheckpoint: prompts that are no texts, a default that is none of them, or vectors that are cut.
    """
    prompts, default = settings.get("prompts") or {}, settings.get("default_prompt_name")
    if not isinstance(prompts, dict) or not all(isinstance(prompt, str) for prompt in prompts.values()):
        raise refuse("prompts", prompts, "an object of strings", path)
    if default is not None and default not in prompts:
        raise refuse(
            "default_prompt_name", default, f"null, or one of the prompts ({', '.join(prompts) or 'none'})", path
        )
    if settings.get("truncate_dim") is not None:
        raise refuse(
            "truncate_dim", settings["truncate_dim"], "null: take the first numbers of a vector yourself", path
        )
    return EmbeddingSpec(prompts, default, truncation=True)


def read_optional(path: Path) -> dict[str, Any]:
    """The object in a JSON file; an empty one where there is no file."""
    return read_json(path) if path.is_file() else {}
