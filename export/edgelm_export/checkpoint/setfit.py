"""Folders of SetFit: its classifier, a pickle beside the sentence-transformers model, as a layer after pooling."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import save_file

from edgelm_export.checkpoint.config import read_json, read_json_array
from edgelm_export.checkpoint.sentence import MODULES, SETFIT, SETTINGS, read_optional, read_sentence
from edgelm_export.checkpoint.unpickling import Record, array_of, number_of, read_records
from edgelm_runtime.errors import UnsupportedCheckpoint
from edgelm_runtime.manifest import MULTI_LABEL, SINGLE_LABEL

HEAD, CONFIG = "model_head.pkl", "config_setfit.json"
_REGRESSION, _ONE_VS_REST, _MULTI_OUTPUT, _CONSTANT, _TORCH = HEADS = (
    "LogisticRegression", "OneVsRestClassifier", "MultiOutputClassifier", "_ConstantPredictor", "SetFitHead",
)  # fmt: skip
_NAMES = {
    *(f"sklearn.{module}" for module in (
        "linear_model._logistic.LogisticRegression", "linear_model.logistic.LogisticRegression",
        "multiclass.OneVsRestClassifier", "multiclass._ConstantPredictor", "multioutput.MultiOutputClassifier",
        "preprocessing._label.LabelBinarizer", "preprocessing.label.LabelBinarizer",
    )),
    "setfit.modeling.SetFitHead", "torch.nn.modules.linear.Linear", "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_tensor_v2", "torch.storage._load_from_bytes", "torch.device", "collections.OrderedDict",
}  # fmt: skip
_CERTAIN = 40.0  # a logit whose probability is 1 in float64


@dataclass(frozen=True)
class Head:
    """A linear classifier of vectors: ``activation(x @ weight + bias)`` are its logits.

    ``weight`` is float64 [in, classes], ``bias`` [classes]. ``classes`` are what it answers with, by logit; with
    ``several`` any number of them may hold. ``activation`` is torch's name.
    """

    weight: NDArray[Any]
    bias: NDArray[Any]
    classes: tuple[str, ...]
    several: bool = False
    activation: str = "Identity"


def is_setfit(folder: Path) -> bool:
    """Whether SetFit saved the folder: its classifier lies there, or what it says of it."""
    return (folder / HEAD).is_file() or (folder / CONFIG).is_file()


def has_head(folder: Path) -> bool:
    """Whether the classifier itself is there."""
    return (folder / HEAD).is_file() and (folder / MODULES).is_file()


def add_head(source: Path, into: Path) -> None:
    """Put the classifier of ``source`` into its copy ``into``, as a last module, and its classes into config.json.

    Raises:
        UnsupportedCheckpoint: a classifier of another kind, a broken one, or names that do not fit.
    """
    head, settings = read_head(source / HEAD), read_optional(source / CONFIG)
    sentence, modules = read_sentence(into), read_json_array(into / MODULES)
    if sentence is None:
        raise UnsupportedCheckpoint(f"{source}: a {HEAD} without {MODULES}, which would say what it reads")
    if settings.get("normalize_embeddings"):
        modules.append({"path": f"{len(modules)}_Normalize", "type": "sentence_transformers.models.Normalize"})
    place = into / f"{len(modules)}_Dense"
    modules.append({"path": place.name, "type": "sentence_transformers.models.Dense"})
    place.mkdir()
    arrays = {"linear.weight": head.weight.T, "linear.bias": head.bias}
    save_file({name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()},
              place / "model.safetensors")  # fmt: skip
    _write(place / "config.json", {
        "in_features": head.weight.shape[0], "out_features": head.weight.shape[1], "bias": True,
        "activation_function": f"torch.nn.{head.activation}", "module_output_name": "scores",
    })  # fmt: skip
    names = dict(enumerate(_labels(source, head, settings.get("labels"))))
    config = {name: value for name, value in read_json(sentence.folder / "config.json").items() if name != "num_labels"}
    _write(sentence.folder / "config.json", {
        **config, "id2label": names, "label2id": {name: index for index, name in names.items()},
        "problem_type": MULTI_LABEL if head.several else SINGLE_LABEL,
    })  # fmt: skip
    _write(into / MODULES, modules)
    _write(into / SETTINGS, {**read_optional(into / SETTINGS), "model_type": SETFIT})


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), "utf-8")


def _labels(folder: Path, head: Head, named: Any) -> list[str]:
    """The names of the classes: those of config_setfit.json, by the numbers that the classifier answers with."""
    if named is None:
        return list(head.classes)
    names = [str(name) for name in named] if isinstance(named, list) else []
    numbers = [int(name) if name.isdecimal() else -1 for name in head.classes]
    if set(head.classes) <= set(names):
        return list(head.classes)
    if not all(0 <= number < len(names) for number in numbers):
        raise UnsupportedCheckpoint(
            f"{folder / CONFIG}: labels are {', '.join(names)[:200] or 'no names'}, and the classifier answers with "
            f"{', '.join(head.classes)[:200]}; write a label for each of them"
        )
    return [names[number] for number in numbers]


def read_head(path: Path) -> Head:
    """The classifier in a pickle of SetFit's; nothing that it asks to be run is run.

    The mathematics are those of `predict_proba` in scikit-learn, and of SetFitHead.

    Raises:
        UnsupportedCheckpoint: a classifier of another kind, or a file that is broken.
    """
    try:
        found = read_records(path.read_bytes(), _NAMES)
        head = _head(found)
        if not (np.isfinite(head.weight).all() and np.isfinite(head.bias).all()):
            raise UnsupportedCheckpoint("it has NaN or infinite numbers")
        if len(head.classes) != head.weight.shape[1] or head.bias.shape != head.weight.shape[1:]:
            raise UnsupportedCheckpoint(f"it has {len(head.classes)} classes and numbers for {head.weight.shape[1]}")
    except UnsupportedCheckpoint as error:
        raise UnsupportedCheckpoint(
            f"{path}: {error}. Read are {', '.join(name for name in HEADS if name != _CONSTANT)}; without "
            "--allow-pickle the bundle gives vectors"
        ) from error
    except (OSError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise UnsupportedCheckpoint(f"{path}: it is no fitted classifier ({type(error).__name__})") from error
    return head


def _head(found: Any) -> Head:
    kind = _kind(found)
    if kind == _REGRESSION:
        return _regression(found)
    if kind == _ONE_VS_REST:
        return _one_vs_rest(found)
    if kind == _MULTI_OUTPUT:
        columns = [_column(each) for each in found.get("estimators_")]
        return _of_columns(columns, [str(index) for index in range(len(columns))], several=True)
    if kind == _TORCH:
        return _of_torch(found)
    raise UnsupportedCheckpoint(f"it is a {kind or type(found).__name__}")


def _kind(found: Any) -> str:
    return found.name.rpartition(".")[2] if isinstance(found, Record) else ""


def _regression(found: Record) -> Head:
    weight, bias = _coefficients(found)
    classes = tuple(map(str, array_of(found.get("classes_")).tolist()))
    if len(classes) == 2:
        weight, bias = _two(weight[:, 0] * _doubled(found), bias[0] * _doubled(found))
        return Head(weight, bias, classes)
    apart = found.get("multi_class") == "ovr" or found.get("solver") == "liblinear"
    # Each class by itself, and the probabilities divided by their sum: the softmax of their logarithms.
    return Head(weight, bias, classes, activation="LogSigmoid" if apart else "Identity")


def _coefficients(found: Record) -> tuple[NDArray[Any], NDArray[Any]]:
    """Weights [in, rows] and bias [rows]."""
    weight = np.asarray(array_of(found.get("coef_")), np.float64)
    bias = np.asarray(array_of(found.get("intercept_")), np.float64)
    if weight.ndim != 2:
        raise UnsupportedCheckpoint("it has no coefficients")
    return weight.T, np.broadcast_to(bias, weight.shape[:1])


def _doubled(found: Record) -> float:
    """2 for two classes of a softmax, whose logits scikit-learn takes to be d and -d."""
    return 2.0 if found.get("multi_class") == "multinomial" else 1.0


def _two(weight: NDArray[Any], bias: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """A yes or no as two classes: their softmax is its sigmoid."""
    return np.stack([np.zeros_like(weight), weight], axis=1), np.array([0.0, bias])


def _column(found: Any) -> tuple[NDArray[Any] | None, float]:
    """Weights [in] and bias of one yes or no; no weights where training knew one answer alone."""
    if _kind(found) == _CONSTANT:
        yes = bool(np.ravel(array_of(found.get("y_")))[0])
        return None, _CERTAIN if yes else -_CERTAIN
    if _kind(found) != _REGRESSION:
        raise UnsupportedCheckpoint(f"it has a {_kind(found) or type(found).__name__} for a class")
    weight, bias = _coefficients(found)
    if weight.shape[1] != 1:
        raise UnsupportedCheckpoint(f"it has {weight.shape[1]} classes for one label; a yes or no is needed")
    return weight[:, 0] * _doubled(found), float(bias[0] * _doubled(found))


def _of_columns(columns: list[Any], classes: list[str], *, several: bool) -> Head:
    width = next(weight.shape[0] for weight, _ in columns if weight is not None)
    weights = [np.zeros(width) if weight is None else weight for weight, _ in columns]
    bias = np.array([bias for _, bias in columns])
    return Head(np.stack(weights, axis=1), bias, tuple(classes), several, "Identity" if several else "LogSigmoid")


def _one_vs_rest(found: Record) -> Head:
    columns = [_column(each) for each in found.get("estimators_")]
    binarizer = found.get("label_binarizer_")
    classes = [str(one) for one in array_of(binarizer.get("classes_")).tolist()]
    several = str(number_of(binarizer.get("y_type_"))).startswith("multilabel")
    if len(columns) == 1 and not several:
        alone, certain = columns[0]
        if alone is None:
            raise UnsupportedCheckpoint("it was trained with one class alone")
        weight, bias = _two(alone, certain)
        return Head(weight, bias, tuple(classes))
    return _of_columns(columns, classes, several=several)


def _of_torch(found: Record) -> Head:
    parameters = found.get("_modules")["linear"].get("_parameters")
    scale = float(number_of(found.get("temperature", 1.0))) + float(number_of(found.get("eps", 0.0)))
    weight = _tensor(parameters["weight"]) / scale
    bias = np.zeros(weight.shape[0]) if parameters.get("bias") is None else _tensor(parameters["bias"]) / scale
    classes = tuple(map(str, range(weight.shape[0])))
    return Head(weight.T, bias, classes, bool(found.get("multitarget", False)))


def _tensor(found: Any) -> NDArray[Any]:
    """A parameter of torch, float64."""
    while _kind(found) == "_rebuild_parameter":
        found = found.args[0]
    stored, offset, size, stride = found.args[:4]
    flat = _storage(stored)
    count = int(np.prod(size, dtype=np.int64))
    whole = tuple(np.cumprod([1, *size[:0:-1]])[::-1].tolist())
    if offset != 0 or tuple(stride) != whole or count != flat.size:
        raise UnsupportedCheckpoint("it has a parameter that is a part of another")
    array: NDArray[Any] = flat.reshape(size)
    return array


def _storage(stored: Record) -> NDArray[Any]:
    try:
        with warnings.catch_warnings(action="ignore"):  # torch's own pickles hold what it deprecates
            loaded = torch.load(BytesIO(stored.args[0]), map_location="cpu", weights_only=True).tolist()
    except Exception as error:  # torch raises whatever its readers raise
        raise UnsupportedCheckpoint("it has a parameter that torch cannot read") from error
    return np.asarray(loaded, np.float64)
