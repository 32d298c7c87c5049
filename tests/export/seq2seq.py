"""Tiny random sequence-to-sequence models, and their graphs in the runtime."""

from __future__ import annotations

import json
import math
import mmap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from edgelm_export import families
from edgelm_export.quantize import scheme
from edgelm_export.reference import Begun, Reference
from edgelm_export.vector import Vector
from edgelm_runtime.generate.beam import beam_search
from edgelm_runtime.generate.loop import GeneratorSession
from edgelm_runtime.generate.options import GenerationOptions
from edgelm_runtime.manifest import DecoderSpec
from edgelm_runtime.session import SessionOptions, create_session
from edgelm_runtime.weights import Weights
from tests.export import tiny

CONTEXT, VOCAB = 80, 600
START, END = 3, 1
SPEC = DecoderSpec(START)
BART = {
    "d_model": 64, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_ffn_dim": 96, "decoder_ffn_dim": 96, "max_position_embeddings": CONTEXT,
}  # fmt: skip
T5 = {"d_model": 64, "d_kv": 16, "d_ff": 96, "num_layers": 2, "num_heads": 4}
SHAPES: dict[str, dict[str, Any]] = {"t5": T5, "mt5": T5, "bart": BART, "mbart": BART, "pegasus": BART}


def seq2seq(kind: str, seed: int = 0, spread: float = 0.15, **config: Any) -> Any:
    """A model of one of SHAPES whose every weight is random."""
    shape = {
        **SHAPES[kind], "vocab_size": VOCAB, "pad_token_id": 0, "eos_token_id": END, "bos_token_id": 2,
        "decoder_start_token_id": START, "forced_eos_token_id": None,
    }  # fmt: skip
    made = AutoConfig.for_model(kind, **{**shape, **config})
    return tiny.randomized(AutoModelForSeq2SeqLM.from_config(made, attn_implementation="eager"), seed, spread)


def built(model: Any, used: str = "fp32", *, spec: DecoderSpec = SPEC, without: str = " ") -> GeneratorSession:
    """The graphs of a model in a scheme, in onnxruntime; made ``without`` the tensors that have that in their name."""
    config = model.config.to_dict()
    family = families.family(config["model_type"])
    family.check(config)
    ranges = input_ranges(model) if used in ("int8-static", "int8-mixed") else {}
    wanted = families.Wanted(family.TASKS[0], CONTEXT)
    weights = tiny.Tensors(model, lambda name: f"none.{name}" if without in name else name)
    made = family.build(weights, config, scheme(used, ranges), wanted)
    assert made.weights is not None
    assert made.encoder is not None
    made.weights.numbers.seek(0)
    content = made.weights.header + made.weights.numbers.read()
    memory = mmap.mmap(-1, len(content))
    memory.write(content)
    mapped = Weights("model.safetensors", memory)
    decoder, encoder = (
        create_session(graph, SessionOptions(1), mapped, part=True) for graph in (made.graph, made.encoder)
    )
    return GeneratorSession(decoder, max_tokens=CONTEXT, eos_ids=(END,), encoder=(encoder, spec))


def input_ranges(model: Any) -> dict[str, Any]:
    """What Reference measures of a checkpoint, of a model in memory."""
    reference = Reference.__new__(Reference)
    reference.model, reference._start = model, [START]
    reference._wanted = families.Wanted("text2text-generation", CONTEXT)
    reference._vector = Vector(reference._wanted)
    begun = [Begun(*each) for each in zip(rows((CONTEXT,) * 8, seed=2), rows((40,) * 8, seed=3), strict=True)]
    return reference.logits_and_ranges(begun)[1]


def rows(lengths: Sequence[int], seed: int = 1) -> list[list[int]]:
    """Random token ids, one row a length."""
    return tiny.rows(VOCAB, lengths, seed)


def torch_logits(model: Any, ids: Sequence[int], answer: Sequence[int]) -> NDArray[np.float32]:
    """The model's own logits after the beginning of an answer: float32 [vocab]."""
    with torch.inference_mode():
        out = model(input_ids=torch.tensor([list(ids)]), decoder_input_ids=torch.tensor([[START, *answer]]))
    row: NDArray[np.float32] = out.logits[0, -1].numpy()
    return row


def answer_of(graph: GeneratorSession, ids: Sequence[int], options: GenerationOptions) -> list[int]:
    """The runtime's own answer."""
    return beam_search(graph, ids, options)[0] if options.num_beams > 1 else list(graph.stream(ids, options))


def generate(model: Any, ids: Sequence[int], **options: Any) -> list[int]:
    """The answer of transformers' own generation, up to its end, without what the decoder begins with."""
    with torch.inference_mode():
        made = model.generate(
            torch.tensor([list(ids)]), attention_mask=torch.ones(1, len(ids), dtype=torch.int64), do_sample=False,
            decoder_start_token_id=START, eos_token_id=END, pad_token_id=END, **options,
        )  # fmt: skip
    answer: list[int] = made[0, 1:].tolist()
    return answer[: answer.index(END)] if END in answer else answer


def make_tokenizer(bos: str | None = None) -> Any:
    """A Unigram tokenizer as T5's (text, end), without chance; with ``bos`` as BART's around the text."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "</s>", "<s>", "<start>", "<unk>"]
    words = Counter(word for text in tiny.TEXTS for word in f" {text}".replace(" ", " \u2581").split())
    letters = Counter(letter for word, count in words.items() for letter in word for _ in range(count))
    counts = {**dict(words.most_common(60)), **letters}
    pieces = [*((name, 0.0) for name in special), *((name, math.log(count / 1e4)) for name, count in counts.items())]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=4))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(special)
    around = "$A </s>" if bos is None else f"{bos} $A </s>"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=around, special_tokens=[(name, index) for index, name in enumerate(special)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="</s>", pad_token="<pad>", bos_token="<s>", unk_token="<unk>",
        additional_special_tokens=["<start>"], model_max_length=CONTEXT,
    )  # fmt: skip


def save(folder: Path, model: Any, generation: Mapping[str, Any], **config: Any) -> Path:
    """Save a model with a tokenizer, further fields of config.json, and those of generation_config.json."""
    model.save_pretrained(folder)
    make_tokenizer("<s>" if model.config.model_type == "bart" else None).save_pretrained(folder)
    stored = {"decoder_start_token_id": START, "eos_token_id": END, "pad_token_id": 0, "bos_token_id": 2, **generation}
    (folder / "generation_config.json").write_text(json.dumps(stored), "utf-8")
    return tiny.edit_config(folder, **config)
