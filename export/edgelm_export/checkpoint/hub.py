"""Checkpoints that are named as on the Hugging Face hub: ORGANISATION/NAME."""

from __future__ import annotations

from pathlib import Path

from edgelm_runtime.errors import UnsupportedCheckpoint

# What an export reads of a folder; all else of a repository (other frameworks, training states) stays where it is.
_OF_A_MODEL = (
    "*config.json", "model.safetensors", "model-*.safetensors", "model.safetensors.index.json", "tokenizer.json",
    "special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json", "merges.txt", "tokenizer.model",
    "spiece.model", "sentencepiece.bpe.model",
)  # fmt: skip
_PICKLES_OF_A_MODEL = ("pytorch_model.bin", "pytorch_model-*.bin", "pytorch_model.bin.index.json")
_MODULE = "[0-9]_*"  # the folder of a module of sentence-transformers
READ = (
    *_OF_A_MODEL, *(f"{_MODULE}/{name}" for name in _OF_A_MODEL), "modules.json", "config_sentence_transformers.json",
    "config_setfit.json", "adapter_model.safetensors",
    "chat_template.jinja", "prompts.json",
)  # fmt: skip
PICKLES = (*_PICKLES_OF_A_MODEL, *(f"{_MODULE}/{name}" for name in _PICKLES_OF_A_MODEL), "adapter_model.bin",
           "model_head.pkl")  # fmt: skip

WEIGHTS = ("*.safetensors", "pytorch_model*.bin", "adapter_model.bin")
_GRAPHS = ("model.onnx", "model.onnx_data", "model.onnx.data")
ONNX = (*_GRAPHS, *(f"onnx/{name}" for name in _GRAPHS))


def download(name: str, *, allow_pickle: bool) -> Path:
    """The folder of a model of the hub in the cache of huggingface_hub, fetched where there is a network.

    Raises:
        UnsupportedCheckpoint: no such name, a gated model, or neither a network nor a copy in the cache.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    wanted = [*READ, *(PICKLES if allow_pickle else ())]
    try:
        folder = Path(snapshot_download(name, allow_patterns=wanted))
        # A layer after pooling is no model: its weights may lie beside a graph alone.
        weights = (path for pattern in WEIGHTS for path in folder.rglob(pattern))
        if all("Dense" in path.parent.name for path in weights):
            folder = Path(snapshot_download(name, allow_patterns=[*wanted, *ONNX]))
        return folder
    except HFValidationError as error:
        raise UnsupportedCheckpoint(
            f"{name}: there is no such folder, and a name on the hub is ORGANISATION/NAME, of letters, digits and -_."
        ) from error
    except GatedRepoError as error:
        raise UnsupportedCheckpoint(
            f"{name}: the hub gives it to those alone who accepted its terms: do so at https://huggingface.co/{name}, "
            "then run: hf auth login"
        ) from error
    except RepositoryNotFoundError as error:
        raise UnsupportedCheckpoint(
            f"{name}: there is no such folder here and no such model on the hub; check the name, or: hf auth login"
        ) from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UnsupportedCheckpoint(
            f"{name}: there is no such folder here, and the hub could not be asked and has no copy in the cache "
            f"({reason}). Give a folder, or fetch it where there is a network: hf download {name}"
        ) from error
