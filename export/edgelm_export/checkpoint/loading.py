"""transformers' model of a folder: the one place where weights become one, without code of the folder's own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# The class of transformers that has the head of a task.
MODELS: Mapping[str, str] = {
    "feature-extraction": "AutoModel",
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "text-generation": "AutoModelForCausalLM",
    "text2text-generation": "AutoModelForSeq2SeqLM",
}

NEXT_SENTENCE = "ForNextSentencePrediction"


def model_class(config: Mapping[str, Any], task: str) -> Any:
    """transformers' class for a task; of a model that reads and writes, vectors are those of the part that reads."""
    import transformers

    name = MODELS[task]
    if task == "feature-extraction" and has_encoder_model(str(config["model_type"])):
        name = "AutoModelForTextEncoding"
    elif task == "text-classification" and follows(config):
        name = "AutoModelForNextSentencePrediction"
    return getattr(transformers, name)


def follows(config: Mapping[str, Any]) -> bool:
    """Whether the head says of two texts whether the second follows the first."""
    return str((config.get("architectures") or [""])[0]).endswith(NEXT_SENTENCE)


def has_encoder_model(model_type: str) -> bool:
    """Whether transformers has the encoder of a model that reads and writes as a model of its own, such as T5's."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES

    return MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES.get(model_type, "").endswith("EncoderModel")


def reads_forward(model_type: str) -> bool:
    """Whether a token of the model sees those before it alone, as in a generator."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED

    return model_type in CAUSAL and model_type not in MASKED and not has_encoder_model(model_type)


def config_object(config: Mapping[str, Any]) -> Any:
    """The configuration as transformers' own class; what it would say of it goes to nobody."""
    from transformers import CONFIG_MAPPING
    from transformers.utils import logging

    logging.set_verbosity_error()
    return CONFIG_MAPPING[config["model_type"]].from_dict(dict(config))


def load_model(
    folder: Path, config: Mapping[str, Any], task: str, renamed: Mapping[str, str] | None = None, **options: Any
) -> Any:
    """The model with the head of a task, as ``from_pretrained`` gives it for these ``options``.

    ``config`` is what ``read_config`` made of the folder's, labels that were put right included. ``renamed`` are the
    names of tensors by those that they have in the file, where these are others.
    """
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return model_class(config, task).from_pretrained(
        folder, config=config_object(config), local_files_only=True, trust_remote_code=False, use_safetensors=True,
        key_mapping={f"^{re.escape(stored)}$": name for stored, name in (renamed or {}).items()} or None, **options,
    )  # fmt: skip
