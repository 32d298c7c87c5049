"""A folder while it is read: each part when it is asked for, once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from edgelm_export import families
from edgelm_export.architecture import GraphSource, architecture_of, is_onnx, tasks_of
from edgelm_export.checkpoint import setfit, text2text
from edgelm_export.checkpoint.config import (
    hidden_size,
    problem_type_of,
    read_config,
    read_json,
    readable_folder,
)
from edgelm_export.checkpoint.crossencoder import cross_encoder_function, is_marked, pipeline_function
from edgelm_export.checkpoint.generation import causal_defaults
from edgelm_export.checkpoint.labels import label_names, labels_of
from edgelm_export.checkpoint.layers import read_layers
from edgelm_export.checkpoint.loading import follows, reads_forward
from edgelm_export.checkpoint.sentence import CROSS_ENCODER, SETFIT, Sentence, read_sentence
from edgelm_export.checkpoint.task import task_of
from edgelm_export.checkpoint.tensors import Comparison, compare, unwrapped
from edgelm_export.checkpoint.tokenizer import ReadTokenizer, read_tokenizer, with_ends
from edgelm_export.checkpoint.weights import Safetensors, open_weights
from edgelm_runtime.errors import UnsupportedCheckpoint
from edgelm_runtime.manifest import FUNCTION_OF, PARSE, SINGLE_LABEL, TEXT, DecoderSpec, EmbeddingSpec

PROMPTS_FILE = "prompts.json"
GENERATORS = ("text-generation", "text2text-generation")
CLASSIFICATION = ("text-classification", "token-classification")


@dataclass(frozen=True)
class Reading:
    """The parts of the checkpoint in ``root``. Each raises UnsupportedCheckpoint for what is wrong with it.

    The bundle is to be written below ``target``; with ``pairs`` it is to read two texts at once. ``given_labels`` stand
    for the names of config.json, ``given_ends`` for the tokens that end an answer.
    """

    root: Path
    asked_task: str | None = None
    target: Path = Path()
    pairs: bool = False
    given_labels: tuple[str, ...] = ()
    given_ends: tuple[str, ...] = ()

    @cached_property
    def folder(self) -> Path:
        """The folder of the model itself, once it can be read."""
        root = readable_folder(self.root)
        return self.sentence.folder if self.sentence else root

    @cached_property
    def sentence(self) -> Sentence | None:
        """What a sentence-transformers folder asks for."""
        return read_sentence(readable_folder(self.root))

    @cached_property
    def config(self) -> dict[str, Any]:
        """Every field of config.json."""
        return read_config(self.folder, self.given_labels)

    @cached_property
    def architecture(self) -> families.Family:
        """What builds the graph, whether it honours the configuration or not."""
        return architecture_of(self.folder, self.config, self.model_task, lambda: self.renamed)

    @cached_property
    def family(self) -> families.Family:
        """What builds the graph, and honours every field of the configuration."""
        self.architecture.check(self.config)
        return self.architecture

    @cached_property
    def task(self) -> str:
        """Hugging Face's name of the task."""
        served = tasks_of(self.folder, self.config)
        if self.unread_head and self.asked_task not in (None, "feature-extraction"):
            raise UnsupportedCheckpoint(
                f"{self.root}: SetFit's classifier is in {setfit.HEAD}, a pickle: give --allow-pickle, which reads its "
                "numbers and runs nothing; or --task embed for the vectors without it"
            )
        return task_of(self.config, served, self.asked_task, None if self.sentence is None else self.sentence.task)

    @property
    def unread_head(self) -> bool:
        """Whether there is a classifier of SetFit's, which nobody has allowed to be read."""
        return self.sentence is not None and self.sentence.kind != SETFIT and setfit.is_setfit(self.root)

    @property
    def model_task(self) -> str:
        """Hugging Face's name of what torch's model does: vectors, where the classes are made from one."""
        return "feature-extraction" if self.scores else self.task

    @property
    def scores(self) -> bool:
        """Whether the classes are what the last layer after pooling gives."""
        return self.sentence is not None and self.sentence.scores and self.task == "text-classification"

    @cached_property
    def layers(self) -> tuple[families.VectorLayer, ...]:
        """The layers that a sentence-transformers folder has after pooling."""
        if self.sentence is None or not self.sentence.layers:
            return ()
        modules = self.sentence.layers
        if self.sentence.scores and not self.scores:
            modules = modules[:-1]  # the vector that the classes are made from
        return read_layers(modules, len(self.sentence.poolings) * hidden_size(self.config), scores=self.scores)

    @property
    def scored(self) -> families.Dense:
        """The layer that gives the scores."""
        last = self.layers[-1]
        if not isinstance(last, families.Dense):
            raise TypeError(f"{last}: scores are given by a linear layer")
        return last

    @cached_property
    def poolings(self) -> tuple[str, ...]:
        """How the vectors of the tokens become one: by modules.json, else as such models are trained.

        The last token of a model that reads from left to right has seen all of them, and no other has.
        """
        if self.sentence is not None:
            return self.sentence.poolings
        return ("lasttoken",) if reads_forward(str(self.config["model_type"])) else ("mean",)

    @cached_property
    def embedding(self) -> EmbeddingSpec | None:
        """The prompts of a sentence-transformers folder, and that it cuts long texts; None where there is no vector."""
        return self.sentence.embedding if self.sentence is not None and self.task == "feature-extraction" else None

    @cached_property
    def comparison(self) -> tuple[Comparison, Mapping[str, str]]:
        """The weights beside the model that config.json describes, and their names in it where the files have others.

        What stands around the model in the names is taken off where everything fits then.
        """
        found = compare(self.folder, self.config, self.model_task)
        if found.missing:
            for renamed in unwrapped(self.stored.names):
                other = compare(self.folder, self.config, self.model_task, renamed)
                if other.problem() is None:
                    return other, renamed
        return found, {}

    @property
    def renamed(self) -> Mapping[str, str]:
        """The names of the tensors in the model by those in the files, where these are others."""
        return {} if is_onnx(self.folder) else self.comparison[1]

    @cached_property
    def weights(self) -> Safetensors:
        """The tensors by their names in the model."""
        return self.stored.renamed(self.renamed)

    @cached_property
    def stored(self) -> Safetensors:
        """The tensors as they lie there; those of an ONNX file have no names to ask for."""
        if not is_onnx(self.folder):
            return open_weights(self.folder)
        from edgelm_export.imported import graph_weights  # which reads checkpoints

        return graph_weights(self.folder)

    @cached_property
    def tokenizer(self) -> ReadTokenizer:
        """tokenizer.json, and what the manifest says of it."""
        limits = {} if self.sentence is None else vars(self.sentence)
        found = read_tokenizer(
            self.folder, self.config, limits.get("max_tokens"), lowercase=limits.get("lowercase", False)
        )
        return with_ends(found, self.given_ends, self.task) if self.given_ends else found

    @property
    def special_tokens(self) -> str:
        """What special tokens in a text are: mere characters for a generator, else as in transformers' pipeline."""
        return TEXT if self.task in GENERATORS else PARSE

    @property
    def strips_cjk_spaces(self) -> bool:
        """Whether the blanks of a text that is written are the decoder's own: WordPiece puts one before every token."""
        return self.task in GENERATORS and self.tokenizer.decoder == "WordPiece"

    @cached_property
    def segments(self) -> bool:
        """Whether the graph is to be told which of two texts a token is of."""
        return self.reads_pairs and self.segments_told

    @property
    def reads_pairs(self) -> bool:
        """Whether the bundle is to read two texts: because it is asked for, or the folder is a CrossEncoder's."""
        return self.pairs or (self.cross_encoder and self.task == "text-classification")

    @property
    def cross_encoder(self) -> bool:
        """Whether the folder is one of a CrossEncoder's modules; what config.json alone says does not count."""
        return self.sentence is not None and self.sentence.kind == CROSS_ENCODER

    @property
    def of_sentence_transformers(self) -> bool:
        """Whether sentence-transformers answers with the folder: by its modules, or as a CrossEncoder of pairs."""
        return self.sentence is not None or (self.pairs and is_marked(self.config))

    @cached_property
    def segments_told(self) -> bool:
        """Whether transformers' pipeline would tell the model which of two texts a token is of."""
        alone, _ = self.tokenizer.segments
        told = self.tokenizer.told and self.knows_segments
        if told and any(alone):
            raise UnsupportedCheckpoint(
                f"{self.folder}: its tokenizer puts tokens of a single text into the segments {sorted(alone)}; "
                "accepted: the first for all of them"
            )
        return told

    @cached_property
    def knows_segments(self) -> bool:
        """Whether the model may have a table of several segments; of a graph it is not known."""
        return int(self.config.get("type_vocab_size") or 0) > 1 or is_onnx(self.folder)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes of a text or of its tokens, in order; empty for other tasks."""
        if self.scores:
            return label_names(self.config, self.scored.width)
        return labels_of(self.config, self.weights) if self.task in CLASSIFICATION else ()

    @cached_property
    def problem_type(self) -> str:
        """What the logits of a text classifier mean: transformers' `problem_type`, guessed as it does where unset."""
        return problem_type_of(self.config, self.labels) if self.task == "text-classification" else SINGLE_LABEL

    @cached_property
    def function_to_apply(self) -> str:
        """What makes scores of the logits of a text classifier; "" where it is what its problem says."""
        if self.task != "text-classification":
            return ""
        labels = len(self.labels)
        if self.cross_encoder or (self.pairs and is_marked(self.config)):
            written = None if self.sentence is None else self.sentence.activation
            found = cross_encoder_function(self.config, written, labels)
        else:
            found = pipeline_function(self.config, labels)
        return "" if found == FUNCTION_OF[self.problem_type] else found

    @cached_property
    def prompts(self) -> Mapping[str, str]:
        """The templates of a generator by task, from prompts.json."""
        path = self.folder / PROMPTS_FILE
        if self.task in GENERATORS and path.is_file():
            return read_json(path)
        return text2text.prompts(self.folder) if self.task == "text2text-generation" else {}

    @cached_property
    def generation(self) -> dict[str, Any]:
        """Defaults of generation."""
        rows = int(self.config["vocab_size"])
        if self.task == "text2text-generation":
            return text2text.generation_defaults(self.folder, rows)
        return causal_defaults(self.folder, rows) if self.task == "text-generation" else {}

    @cached_property
    def decoder(self) -> DecoderSpec | None:
        """What the decoder of a sequence-to-sequence model begins with; None for others."""
        rows = int(self.config["vocab_size"])
        return text2text.decoder_spec(self.folder, rows) if self.task == "text2text-generation" else None

    def measured(self) -> families.Wanted:
        """What is ``wanted``, in a context that the model really reads where it is not built here."""
        wanted, family = self.wanted, self.family
        if not isinstance(family, GraphSource):
            return wanted
        return replace(wanted, context=family.longest(self.config, wanted))

    @cached_property
    def wanted(self) -> families.Wanted:
        """What the graph is to give."""
        if self.reads_pairs and self.task != "text-classification":
            raise UnsupportedCheckpoint(f"pairs of texts are read for text-classification, not for {self.task}")
        if self.task == "text-classification" and follows(self.config) and not self.pairs:
            raise UnsupportedCheckpoint(
                f"{self.folder}: its head says whether a text follows another: give --pairs, or --task embed for the "
                "vectors of its base model"
            )
        context = self.tokenizer.spec.max_tokens
        poolings = self.poolings if self.model_task == "feature-extraction" else ()
        return families.Wanted(
            self.model_task, context, poolings, self.layers, self.reads_pairs, self.segments, self.scores
        )
