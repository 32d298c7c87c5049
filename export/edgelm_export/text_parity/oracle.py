"""transformers' own way from a raw text to an answer: its pipelines, its `generate`, and sentence-transformers."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgelm_export.checkpoint import Checkpoint
from edgelm_export.reference import Reference, start_of
from edgelm_export.text_parity.asked import KEPT_TOKENS, NEW_TOKENS, Asked, LeftOut, Step
from edgelm_export.text_parity.own import OwnTokenizer
from edgelm_runtime.manifest import Manifest
from edgelm_runtime.tasks.attributes import canonical, parse
from edgelm_runtime.tasks.probabilities import softmax
from edgelm_runtime.tasks.reading import Reader, Text
from edgelm_runtime.tasks.rows import Row

Logits = NDArray[np.float32]
_OF_A_TASK = ("no_repeat_ngram_size", "repetition_penalty", "min_new_tokens", "bad_words_ids", "sequence_bias")
_OF_TOKENS = ("suppress_tokens", "begin_suppress_tokens", "bad_words_ids", "sequence_bias")


class EncoderOracle:
    """Answers texts with a checkpoint that gives classes, entities or vectors."""

    def __init__(self, checkpoint: Checkpoint, manifest: Manifest, reference: Reference) -> None:
        self._own = OwnTokenizer(checkpoint)
        self._reader = Reader(manifest, self._own)
        self._reference, self._manifest = reference, manifest
        self._ask = {
            "text-classification": self._classes, "token-classification": self._entities,
            "feature-extraction": self._vector,
        }[manifest.task]  # fmt: skip
        self._names = list(manifest.labels)  # of the classes, as the pipeline calls them
        self._pipe = None if manifest.task == "feature-extraction" else self._pipeline(checkpoint)
        self._sentence = _sentence_transformer(checkpoint, manifest)

    def ask(self, task: str, text: Text) -> Asked:
        """The answer to a text; of one that takes several windows torch's outputs for them alone.

        Raises:
            LeftOut: the vocabulary was cut, and this text has tokens that are gone.
            InputError: no bundle reads it.
        """
        reading = self._reader.read(text)
        asked = Asked(task, text, "torch in windows", reading.rows[0].ids, reading=reading)
        # The pipeline knows neither windows, nor pairs that are cut, nor every scheme of labels.
        cut = isinstance(text, tuple) and len(reading.rows[0].ids) < len(self._own.pair(*text))
        if len(reading.rows) > 1 or cut or self._manifest.tags:
            return asked.with_outputs(self._reference.logits(reading.rows))
        return self._ask(asked)

    def close(self) -> None:
        """Let go of torch's model; what was asked can still be answered again from other outputs."""
        self._sentence = None
        if self._pipe is not None:
            self._pipe.model = _Stub(self._pipe.model.config)

    def _classes(self, asked: Asked) -> Asked:
        text = asked.text
        if self._sentence is not None:
            values = np.ravel(self._sentence.predict(text, show_progress_bar=False)).tolist()
            predicted = dict(zip(self._manifest.labels, values, strict=True))
            return asked.answered("sentence-transformers' CrossEncoder", predicted)
        given = dict(zip(("text", "text_pair"), text, strict=True)) if isinstance(text, tuple) else text
        found = self._pipe(given, top_k=None, **self._split())  # type: ignore[misc]
        scores = {one["label"]: float(one["score"]) for one in found}
        answer = {label: scores[name] for label, name in zip(self._manifest.labels, self._names, strict=True)}
        return asked.answered("transformers' text-classification pipeline", answer)

    def _entities(self, asked: Asked) -> Asked:
        pipe: Any = self._pipe
        strategy = self._manifest.aggregation
        before, _, after = pipe._sanitize_parameters(aggregation_strategy=strategy)
        (read,) = pipe.preprocess(asked.text, tokenizer_params=self._split(), **before)
        outputs = pipe.forward(read)
        logits: Logits = outputs["logits"][0].numpy()

        def again(other: Logits) -> list[tuple[str, int, int, float]]:
            return _spans(pipe.postprocess([{**outputs, "logits": torch.from_numpy(other)[None]}], **after))

        answered = asked.answered(f"transformers' token-classification pipeline, {strategy}", again(logits))
        return answered.with_outputs([logits], again)

    def _vector(self, asked: Asked) -> Asked:
        if self._sentence is None:
            (vector,) = self._reference.logits([Row(list(asked.ids), [0] * len(asked.ids))])
            return asked.answered("torch", vector)
        vector = self._sentence.encode(str(asked.text), show_progress_bar=False)
        return asked.answered("sentence-transformers", np.asarray(vector, np.float32))

    def _split(self) -> dict[str, bool]:
        return {"split_special_tokens": True} if self._own.splits else {}

    def _pipeline(self, checkpoint: Checkpoint) -> Any:
        """The pipeline of the task."""
        from transformers import AutoConfig, TextClassificationPipeline, TokenClassificationPipeline

        classes = self._manifest.task == "text-classification"
        model = getattr(self._reference, "model", None)
        if model is None or checkpoint.kept_ids is not None or checkpoint.wanted.scores:
            config = AutoConfig.from_pretrained(checkpoint.folder, local_files_only=True, trust_remote_code=False)
            model = _Graph(config, self._reference, self._own)
        labels, own = self._manifest.labels, [str(name) for _, name in sorted(model.config.id2label.items())]
        if sorted(own) != sorted(set(labels)):  # renamed, or two of one name
            self._names = own = [str(index) for index in range(len(labels))] if classes else list(labels)
            model.config.id2label = dict(enumerate(own))
        made: Any = TextClassificationPipeline if classes else TokenClassificationPipeline
        with quiet():
            return made(model=model, tokenizer=self._own.tokenizer, device=torch.device("cpu"))


class _Stub:
    """What is left of a model once it was asked: its configuration."""

    device = torch.device("cpu")

    def __init__(self, config: Any) -> None:
        self.config = config


class _Graph(_Stub):
    """A reference that is no model of transformers, or has a cut vocabulary, in the place of one."""

    def __init__(self, config: Any, reference: Reference, own: OwnTokenizer) -> None:
        super().__init__(config)
        self._reference, self._own = reference, own

    def forward(self, input_ids: Any, token_type_ids: Any = None, **_: Any) -> dict[str, Any]:
        """The logits of one row."""
        ids = self._own.kept(input_ids[0].tolist())
        types = [0] * len(ids) if token_type_ids is None else token_type_ids[0].tolist()
        return {"logits": torch.from_numpy(self._reference.logits([Row(ids, types)])[0])[None]}

    __call__ = forward


def _spans(entities: Any) -> list[tuple[str, int, int, float]]:
    """Label, start, end and score of the pipeline's entities."""
    return [
        (str(one.get("entity_group", one.get("entity"))), int(one["start"]), int(one["end"]), float(one["score"]))
        for one in entities
    ]


def _sentence_transformer(checkpoint: Checkpoint, manifest: Manifest) -> Any:
    """The model of a sentence-transformers folder; None for another, for a cut vocabulary, and for a SetFit head."""
    of_setfit = checkpoint.wanted.scores and not checkpoint.wanted.pairs  # a CrossEncoder always reads two texts
    if checkpoint.root is None or checkpoint.kept_ids is not None or of_setfit:
        return None
    from sentence_transformers import CrossEncoder, SentenceTransformer

    made = CrossEncoder if manifest.task == "text-classification" else SentenceTransformer
    with quiet():
        return made(str(checkpoint.root), device="cpu", local_files_only=True, trust_remote_code=False)


class GeneratorOracle:
    """Answers texts with a checkpoint that writes, greedily, NEW_TOKENS at the most."""

    def __init__(self, checkpoint: Checkpoint, manifest: Manifest, reference: Reference) -> None:
        self._own = OwnTokenizer(checkpoint)
        self._manifest, self._model = manifest, reference.model
        self._start = start_of(manifest.decoder)
        self._cut = checkpoint.kept_ids is not None

    def ask(self, task: str, text: Text) -> Asked:
        """The answer to a text.

        Raises:
            LeftOut: prompt and answer take more than the context, or the vocabulary was cut, and this text has tokens
                that are gone, or it has special tokens, which are none for the bundle.
            InputError: no bundle reads it.
        """
        source = canonical(parse(str(text))) if task == "description" else str(text)
        template, encodes = self._manifest.prompts[task], bool(self._start)
        ids = self._own.encode_prompt(template, source, encoder=encodes)
        if len(ids) + (0 if encodes else NEW_TOKENS) > self._manifest.tokenizer.max_tokens:
            raise LeftOut("longer than the context")
        if self._own.splits and self._own.has_special(source, template):
            raise LeftOut("special tokens in it, which are characters for the bundle")
        if self._cut and any(self._manifest.generation.get(name) for name in _OF_TOKENS):
            raise LeftOut("rules on tokens, which transformers has for the whole vocabulary alone")
        with quiet():
            made = self._model.generate(torch.tensor([ids]), **{**self._options(len(ids)), **self._of_task(task)})
        forced = len(self._start[1:])
        tokens = made.sequences[0, len(self._start) or len(ids) :].tolist()
        chosen = zip(tokens, made.logits[forced:], made.scores[forced:], strict=True)
        steps = [_step(*each) for each in chosen][:NEW_TOKENS]  # an end that is forced after them is no choice
        ends = self._ends()
        end = next((place for place, token in enumerate(tokens) if token in ends), len(tokens))
        answer = self._own.decode(tokens[:end])
        stops = [answer.index(stop) for stop in self._manifest.generation.get("stop", ()) if stop in answer]
        return Asked(
            task, text, "transformers' generate", ids, answer[: min(stops, default=len(answer))], steps=steps,
            tokens=tokens[:end],
            options=self._rules(),
        )  # fmt: skip

    def close(self) -> None:
        """Let go of torch's model."""
        self._model = None

    def _options(self, prompt: int) -> dict[str, Any]:
        pad, decoder = self._model.generation_config.pad_token_id, self._manifest.decoder
        around = len(self._start[1:]) + (decoder is not None and decoder.forced_eos)  # what is forced counts there
        options: dict[str, Any] = {
            "attention_mask": torch.ones(1, prompt, dtype=torch.int64), "do_sample": False, "num_beams": 1,
            "max_new_tokens": NEW_TOKENS + around, "return_dict_in_generate": True,
            "output_logits": True, "output_scores": True, "pad_token_id": 0 if pad is None else pad,
            "eos_token_id": list(self._ends()) or None, **self._rules(),
        }  # fmt: skip
        if "suppress_tokens" not in self._manifest.generation:  # then a bundle never writes special tokens
            unsaid = set(self._own.kept(list(self._own.special.values()))) - self._ends()
            options["suppress_tokens"] = sorted(unsaid) or None
        if self._model.generation_config.stop_strings:
            options["tokenizer"] = self._own.tokenizer
        if self._cut and decoder is not None:  # the ids of the configuration are of the whole vocabulary
            options |= {"decoder_start_token_id": decoder.start_id, "forced_bos_token_id": decoder.forced_bos_id}
        return options

    def _rules(self) -> dict[str, Any]:
        """Rules on repeating that are edgelm's own, as they leave out the prompt, are off on both sides."""
        if self._manifest.generation.get("penalize_prompt"):
            return {}
        return {"no_repeat_ngram_size": 0, "repetition_penalty": 1.0}

    def _of_task(self, task: str) -> dict[str, Any]:
        """What `task_specific_params` ask for: the bundle's, and not read by `generate`."""
        own = self._manifest.generation.get("tasks", {}).get(task, {})
        options = {name: own[name] for name in _OF_A_TASK if name in own}
        if "min_new_tokens" in options:
            options["min_new_tokens"] += len(self._start[1:])
        return options

    def _ends(self) -> frozenset[int]:
        return frozenset(self._manifest.tokenizer.eos_ids)


def _step(chosen: int, logits: torch.Tensor, scores: torch.Tensor) -> Step:
    raw, ruled = logits[0].float().numpy(), scores[0].float().numpy()
    before, after = softmax(raw), softmax(ruled)
    ids = np.argsort(-raw, kind="stable")[:KEPT_TOKENS]
    return Step(chosen, ids.astype(np.int64), before[ids], after[ids])


@contextmanager
def quiet() -> Iterator[None]:
    """Without the advice that transformers gives about settings that are not ours to choose."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logging.set_verbosity(before)
