"""One file per architecture, named by its `model_type`: the graph built straight from the weights.

A family file has `TASKS` (Hugging Face's task names), `check(config)`, which refuses by name what the graph does not
honour, and `build(weights, config, scheme, wanted)`, which returns the serialized model.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, cast

from numpy.typing import NDArray

from edgelm_export.graph import Model
from edgelm_export.quantize import Scheme
from edgelm_runtime.errors import UnsupportedCheckpoint

_DASHED = {"xlm_roberta": "xlm-roberta"}  # transformers writes most model types with underscores


class Weights(Protocol):
    """Tensors of a checkpoint by name, read when asked for."""

    def __call__(self, name: str) -> NDArray[Any]:
        """The tensor in float32."""

    def __contains__(self, name: str) -> bool:
        """Whether the checkpoint has that tensor."""


# By torch's class: the operators of ONNX, one after the other.
DENSE_ACTIVATIONS: Mapping[str, tuple[str, ...]] = {
    "Identity": ("Identity",), "Tanh": ("Tanh",), "ReLU": ("Relu",), "GELU": ("Gelu",), "Sigmoid": ("Sigmoid",),
    "LogSigmoid": ("Neg", "Softplus", "Neg"),
}  # fmt: skip
# As sentence-transformers calls them.
POOLINGS = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")


@dataclass(frozen=True, eq=False)
class Dense:
    """A layer that a vector goes through after pooling: ``activation(x @ weight + bias)``.

    ``weight`` is float32 [in, out], ``bias`` [out]; ``activation`` is one of ``DENSE_ACTIVATIONS``. With ``residual``
    the input is added to the result, times ``projection``, float32 [in, out], where there is one.
    """

    name: str
    weight: NDArray[Any]
    bias: NDArray[Any] | None
    activation: str
    residual: bool = False
    projection: NDArray[Any] | None = None

    @property
    def width(self) -> int:
        """How many numbers it gives."""
        return int(self.weight.shape[1])


@dataclass(frozen=True, eq=False)
class LayerNorm:
    """A layer norm after pooling, with torch's own epsilon; ``weight`` and ``bias`` are float32 [width]."""

    name: str
    weight: NDArray[Any]
    bias: NDArray[Any]

    EPSILON: ClassVar[float] = 1e-5


@dataclass(frozen=True)
class Normalize:
    """Divides a vector by its length."""


VectorLayer = Dense | LayerNorm | Normalize


@dataclass(frozen=True)
class Wanted:
    """What a graph is to give.

    ``task`` is Hugging Face's name, ``context`` the most tokens of an input. For feature-extraction the vectors of
    ``poolings``, each of ``POOLINGS``, are joined and go through ``layers``; with ``scores`` the last layer gives the
    logits of a text classifier. With ``pairs`` two texts are read, with ``segments`` an encoder that has a table of
    them is told apart which token is of which, by the input ``token_type_ids`` beside ``input_ids``.
    """

    task: str
    context: int
    poolings: tuple[str, ...] = ()
    layers: tuple[VectorLayer, ...] = ()
    pairs: bool = False
    segments: bool = False
    scores: bool = False

    @property
    def answers(self) -> str:
        """Hugging Face's name of what a bundle of it does; ``task`` is what torch's model does."""
        return "text-classification" if self.scores else self.task

    @property
    def output(self) -> str:
        """The name of the graph's output."""
        return "embedding" if self.answers == "feature-extraction" else "logits"

    @property
    def denses(self) -> tuple[Dense, ...]:
        """The linear ones of its layers."""
        return tuple(layer for layer in self.layers if isinstance(layer, Dense))

    def vector_width(self, hidden: int) -> int:
        """How many numbers a vector has, made from tokens of ``hidden`` numbers."""
        return next((dense.width for dense in reversed(self.denses)), hidden * len(self.poolings))


class Family(Protocol):
    """What a family file provides."""

    TASKS: tuple[str, ...]

    def check(self, config: Mapping[str, Any]) -> None:
        """Raise UnsupportedCheckpoint for a configuration field that the graph would not honour."""

    def build(self, weights: Weights, config: Mapping[str, Any], scheme: Scheme, wanted: Wanted) -> Model:
        """The serialized graph, with the head and for the inputs that are ``wanted``."""


def supported() -> list[str]:
    """Every model type that has a family file, sorted."""
    return sorted(_DASHED.get(module.name, module.name) for module in pkgutil.iter_modules(__path__))


def family(model_type: str) -> Family:
    """The family file of a model type.

    Raises:
        UnsupportedCheckpoint: there is none; the message lists those that are.
    """
    if model_type not in supported():
        raise UnsupportedCheckpoint(
            f"architecture {model_type!r} has no family file; those that have one are {', '.join(supported())}"
        )
    return cast(Family, importlib.import_module(f"{__name__}.{model_type.replace('-', '_')}"))


def writers(*tasks: str) -> list[str]:
    """The model types with a family file that write text, or do one of ``tasks``, sorted."""
    wanted = tasks or ("text-generation", "text2text-generation")
    return [name for name in supported() if set(family(name).TASKS) & set(wanted)]


def unknown(model_type: str) -> UnsupportedCheckpoint:
    """The error for an architecture that can neither be built from its weights nor traced."""
    return UnsupportedCheckpoint(
        f"architecture {model_type!r} is not supported; supported are {', '.join(supported())}, which have family "
        "files, and the encoders that transformers traces: it does not know this one"
    )


def refuse(field: str, value: object, accepted: str, file: object = "config.json") -> UnsupportedCheckpoint:
    """The error for a configuration field that changes answers in a way that a bundle does not honour."""
    return UnsupportedCheckpoint(
        f"{file}: {field} = {value!r} is not honoured by this exporter; accepted: {accepted}. "
        "Export a checkpoint without it"
    )
