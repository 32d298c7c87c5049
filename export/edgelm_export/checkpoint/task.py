"""What a checkpoint is for: its head, named by `architectures`, decides; where it does not, the user does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edgelm_export import families
from edgelm_export.checkpoint.loading import NEXT_SENTENCE
from edgelm_runtime.errors import UnsupportedCheckpoint

_WRITES = ("text-generation", "text2text-generation")
_VECTORS = "feature-extraction"
# The command's name of a task of Hugging Face's.
_OPTIONS = {"text-classification": "classify", "token-classification": "tag", _VECTORS: "embed"}


def architecture_name(config: Mapping[str, Any]) -> str:
    """transformers' class that the checkpoint was saved from; "" where config.json does not say."""
    return str((config.get("architectures") or [""])[0])


def task_of(config: Mapping[str, Any], served: Sequence[str], asked: str | None, modules: str | None = None) -> str:
    """Hugging Face's task name of the checkpoint; ``served`` are those that its model type is exported for.

    ``modules`` is what the modules of a sentence-transformers folder do, where it is not the model's own head.

    Raises:
        UnsupportedCheckpoint: it is for another task than ``asked``, for none that is served, or does not say.
    """
    from optimum.exporters.tasks import TasksManager

    name, kind = architecture_name(config), str(config["model_type"])
    if not served:
        raise UnsupportedCheckpoint(
            f"the checkpoint is a {name or kind}, a model of two parts that reads and writes; of these are exported "
            f"{', '.join(families.writers('text2text-generation'))}"
        )
    found = modules or _of_class(name, served)
    wanted = TasksManager.map_from_synonym(asked) if asked else found
    if wanted is None:
        if not name and served[0] in _WRITES:
            return served[0]  # what a generator's folder nearly always is
        raise _unsaid(name, kind, served)
    if wanted in served and (wanted == _VECTORS or found in (None, wanted)):
        return wanted  # the base model of any head gives vectors
    said = f"the checkpoint is a {name or kind}" + (f" for {found!r}" if found else "")
    if asked:
        said += f", asked for was {wanted!r}"
    if found in _WRITES and found not in served:
        raise UnsupportedCheckpoint(
            f"{said}; text is written by {', '.join(families.writers())}, and {kind!r} is none of these: use a "
            f"checkpoint of one of them{_or_vectors(served)}"
        )
    if found in served and wanted in served:
        raise UnsupportedCheckpoint(
            f"{said}: fine-tune it with that head first, or leave out --task{_or_vectors(served)}"
        )
    exported = f"{said}; a {kind} is exported for {', '.join(served)}"
    if set(served) & set(_WRITES):
        raise UnsupportedCheckpoint(f"{exported}: for {wanted} fine-tune an encoder, such as a BERT")
    raise UnsupportedCheckpoint(f"{exported}: fine-tune it with that head first{_or_vectors(served)}")


def _or_vectors(served: Sequence[str]) -> str:
    return ", or give --task embed for the vectors of its base model" if _VECTORS in served else ""


def _of_class(name: str, served: Sequence[str]) -> str | None:
    """The task of a class of transformers; None where there is none, or it was made for pretraining alone."""
    import transformers
    from optimum.exporters.tasks import TasksManager

    if name.endswith("EncoderModel"):
        return _VECTORS
    if name.endswith(NEXT_SENTENCE):
        return "text-classification"
    if name.endswith("ForConditionalGeneration") and "text2text-generation" in served:
        return "text2text-generation"  # of a BART optimum says that it fills masks, which it does as well
    try:
        return str(TasksManager.infer_task_from_model(getattr(transformers, name)))
    except (AttributeError, ValueError, KeyError):
        return None


def _unsaid(name: str, kind: str, served: Sequence[str]) -> UnsupportedCheckpoint:
    """The refusal of a folder that does not say what it is for."""
    import transformers

    if not name:
        said = f"config.json has no `architectures`, which would say what this {kind} is for"
    elif hasattr(transformers, name):
        said = f"the checkpoint is a {name}, whose heads serve pretraining alone"
    else:
        said = f"config.json: architectures names {name!r}, which is no class of transformers"
    return UnsupportedCheckpoint(f"{said}: give --task {_choices(served)}")


def _choices(served: Sequence[str]) -> str:
    names = [_OPTIONS.get(task, "summary or description") for task in served]
    return " or ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
