"""A bundle as the base of a training: an ordinary checkpoint with its weights, that answers as the bundle does."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import CONFIG_MAPPING, PreTrainedTokenizerFast

from edgelm_export.checkpoint import PROMPTS_FILE
from edgelm_export.encoder import Architecture
from edgelm_export.families import bert, distilbert, electra, mpnet, roberta
from edgelm_export.problems import problem_of
from edgelm_export.tolerance import TOLERANCES
from edgelm_export.unbuild import Array, StoredGraph
from edgelm_runtime.bundle import Bundle, default_bundles, open_bundle
from edgelm_runtime.errors import BundleRejected, UnsupportedCheckpoint
from edgelm_runtime.fields import MANIFEST_NAME
from edgelm_runtime.goldens import golden_inputs
from edgelm_runtime.loader import load
from edgelm_runtime.tasks import ENCODERS
from edgelm_runtime.tokenizer import TextTokenizer

State = dict[str, Array]
# transformers' class of each task; the name of a model type comes before.
_HEADS: Mapping[str, str] = {
    "text-classification": "ForSequenceClassification", "token-classification": "ForTokenClassification",
    "feature-extraction": "Model",
}  # fmt: skip


def bundle_of(base: str) -> Path | None:
    """The folder of the bundle that a base names: a folder, or a default bundle; None where it is no bundle."""
    folder = Path(base)
    if folder.is_dir():
        return folder if (folder / MANIFEST_NAME).is_file() and not (folder / "config.json").is_file() else None
    return default_bundles().get(base)


def write_checkpoint(path: Path, folder: Path) -> tuple[str, ...]:
    """Write the checkpoint of the bundle at ``path`` into an empty folder; what of the original one is lost, in words.

    Raises:
        BundleRejected: the bundle is damaged.
        UnsupportedCheckpoint: its graph was not built from weights by an export, is of an architecture without a way
            back, or the checkpoint does not answer like it.
    """
    bundle = open_bundle(path, verify="all")
    manifest, variant = bundle.manifest, bundle.manifest.variants[0]
    if manifest.family not in _WAYS or manifest.provenance.get("graph", "built") != "built":
        raise UnsupportedCheckpoint(
            f"{path}: the weights of this bundle, a {manifest.family}, cannot be turned back; what can is built from "
            f"the weights of {', '.join(_WAYS)}. Give the checkpoint that it was exported from"
        )
    graph = StoredGraph.read(path / variant.file)
    config, state = _WAYS[manifest.family](graph, bundle)
    labels = dict(enumerate(manifest.labels))
    if labels:
        config |= {"id2label": labels, "label2id": {name: index for index, name in labels.items()}}
    if manifest.task == "text-classification":
        config["problem_type"] = manifest.problem_type
    whole = CONFIG_MAPPING[manifest.family].from_dict({**config, "pad_token_id": _padding(graph, bundle)})
    whole.save_pretrained(folder)
    save_file({name: np.ascontiguousarray(array) for name, array in state.items()}, folder / "model.safetensors",
              metadata={"format": "pt"})  # fmt: skip
    _tokenizer(bundle).save_pretrained(folder)
    if manifest.prompts:
        (folder / PROMPTS_FILE).write_text(json.dumps(dict(manifest.prompts), ensure_ascii=False), "utf-8")
    return (_lost(bundle), _checked(bundle, folder))


def _lost(bundle: Bundle) -> str:
    manifest, precision = bundle.manifest, bundle.manifest.variants[0].precision
    lost = [f"positions after {manifest.tokenizer.max_tokens}", "what only pre-training uses"]
    if precision != "fp32":
        lost.insert(0, f"what rounding to {precision} took from the weights")
    if manifest.family in ("bert", "electra") and not manifest.pairs:
        lost.append("the embedding of a second text's tokens")
    return (
        f"started from the bundle {manifest.name}, its licence: {manifest.licence}. Lost of its checkpoint: "
        f"{', '.join(lost)}"
    )


def _padding(graph: StoredGraph, bundle: Bundle) -> int | None:
    """The padding token; where positions are counted from its row, the graph says which."""
    return int(graph.arrays["padding"]) if "padding" in graph else bundle.manifest.tokenizer.pad_id


@dataclass(frozen=True)
class _Encoder:
    """The way back of an encoder that `build_encoder` made."""

    architecture: Architecture

    def __call__(self, graph: StoredGraph, bundle: Bundle) -> tuple[dict[str, Any], State]:
        """Fields of the configuration, and tensors by torch's names."""
        architecture, manifest, names = self.architecture, bundle.manifest, self.architecture.layer
        prefix = "" if manifest.task == "feature-extraction" else f"{architecture.prefix}."
        state: State = {}

        def product(name: str) -> Array:
            weight, bias = graph.linear(name)
            state[f"{name}.weight"], state[f"{name}.bias"] = weight.T, bias
            return weight

        def norm(name: str) -> None:
            for part in ("weight", "bias"):
                state[f"{name}.{part}"] = graph.vector(f"{name}.{part}")

        tables = [f"{prefix}embeddings.{part}_embeddings" for part in ("word", "position", "token_type")]
        words, places = graph.table(tables[0]), graph.table(tables[1])
        state |= {f"{tables[0]}.weight": words, f"{tables[1]}.weight": places}
        segments = self._segments(graph, tables[2], places.shape[1], manifest.family)
        if segments is not None:
            state[f"{tables[2]}.weight"] = segments
        norm(f"{prefix}embeddings.LayerNorm")
        if graph.has(f"{prefix}embeddings_project"):
            product(f"{prefix}embeddings_project")
        layers, inner = 0, words
        while graph.has(f"{prefix}{architecture.layers}.{layers}.{names.query}"):
            layer = f"{prefix}{architecture.layers}.{layers}"
            weight, bias = graph.linear(f"{layer}.{names.query}")
            parts = zip(np.split(weight, 3, axis=1), np.split(bias, 3), strict=True)
            for name, (w, b) in zip((names.query, names.key, names.value), parts, strict=True):
                state[f"{layer}.{name}.weight"], state[f"{layer}.{name}.bias"] = w.T, b
            product(f"{layer}.{names.attended}")
            norm(f"{layer}.{names.attended_norm}")
            inner = product(f"{layer}.{names.inner}")
            product(f"{layer}.{names.outer}")
            norm(f"{layer}.{names.outer_norm}")
            layers += 1
        if manifest.task == "text-classification":
            product(architecture.head.dense)
            product(architecture.head.logits)
        elif manifest.task == "token-classification":
            product("classifier")
        if "by_distance" in graph:
            state[f"{prefix}encoder.relative_attention_bias.weight"] = _by_bucket(graph.vector("by_distance"))
        first = f"{prefix}{architecture.layers}.0.{names.inner}"
        shape = {
            "hidden_size": inner.shape[0], "num_hidden_layers": layers, "num_attention_heads": graph.heads(),
            "intermediate_size": inner.shape[1], "hidden_act": graph.activation(first), "vocab_size": len(words),
            "max_position_embeddings": len(places), "layer_norm_eps": graph.epsilon(), "embedding_size": words.shape[1],
            "type_vocab_size": 1 if segments is None else len(segments),
        }  # fmt: skip
        renamed = _DISTILBERT if manifest.family == "distilbert" else {}
        head = _HEADS[manifest.task]
        return {
            **{renamed.get(name, name): value for name, value in shape.items()},
            "architectures": [f"{_CLASSES[manifest.family]}{head}"],
        }, state  # fmt: skip

    def _segments(self, graph: StoredGraph, name: str, width: int, family: str) -> Array | None:
        """The table of segments; where the graph has none, the first is in the positions, and others are unknown."""
        if not self.architecture.segments:
            return None
        if name in graph or name.rpartition(".")[2] in graph:
            return graph.table(name)
        return np.zeros((2 if family in ("bert", "electra") else 1, width), np.float32)


def _by_bucket(by_distance: Array) -> Array:
    """The table of MPNet's buckets from the rows of every distance; a bucket beyond the context is unknown, and 0."""
    context = (len(by_distance) + 1) // 2
    found = mpnet.buckets(np.arange(1 - context, context))
    table = np.zeros((32, by_distance.shape[1]), np.float32)
    table[found] = by_distance
    return table


def _gpt2(graph: StoredGraph, bundle: Bundle) -> tuple[dict[str, Any], State]:
    """The way back of a GPT-2, whose products are stored as in the graph."""
    words, places = graph.table("transformer.wte"), graph.table("transformer.wpe")
    state: State = {"transformer.wte.weight": words, "transformer.wpe.weight": places}

    def norm(name: str) -> None:
        state.update({f"{name}.{part}": graph.vector(f"{name}.{part}") for part in ("weight", "bias")})

    layers, inner = 0, 0
    while graph.has(f"transformer.h.{layers}.attn.c_attn"):
        layer = f"transformer.h.{layers}"
        for part in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"):
            state[f"{layer}.{part}.weight"], state[f"{layer}.{part}.bias"] = graph.linear(f"{layer}.{part}")
        norm(f"{layer}.ln_1")
        norm(f"{layer}.ln_2")
        layers, inner = layers + 1, state[f"{layer}.mlp.c_fc.weight"].shape[1]
    norm("transformer.ln_f")
    if "lm_head.weight" in graph:
        raise UnsupportedCheckpoint("a GPT-2 with a head of its own is not turned back; give its checkpoint")
    ends = bundle.manifest.tokenizer.eos_ids
    return {
        "vocab_size": len(words), "n_positions": len(places), "n_embd": words.shape[1], "n_layer": layers,
        "n_head": graph.heads(), "n_inner": inner, "activation_function": graph.activation("transformer.h.0.mlp.c_fc"),
        "layer_norm_epsilon": graph.epsilon(), "bos_token_id": bundle.manifest.tokenizer.bos_id,
        "eos_token_id": ends[0] if ends else None, "architectures": ["GPT2LMHeadModel"], "embd_pdrop": 0.0,
        "attn_pdrop": 0.0, "resid_pdrop": 0.0,
    }, state  # fmt: skip


_CLASSES: Mapping[str, str] = {
    "bert": "Bert", "roberta": "Roberta", "xlm-roberta": "XLMRoberta", "camembert": "Camembert",
    "distilbert": "DistilBert", "electra": "Electra", "mpnet": "MPNet",
}  # fmt: skip
_DISTILBERT = {
    "hidden_size": "dim", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads",
    "intermediate_size": "hidden_dim", "hidden_act": "activation",
}  # fmt: skip
_WAYS: Mapping[str, Callable[[StoredGraph, Bundle], tuple[dict[str, Any], State]]] = {
    "bert": _Encoder(bert.ARCHITECTURE), "roberta": _Encoder(roberta.ARCHITECTURE),
    "xlm-roberta": _Encoder(roberta.ARCHITECTURE), "camembert": _Encoder(roberta.ARCHITECTURE),
    "distilbert": _Encoder(distilbert.ARCHITECTURE), "electra": _Encoder(electra.ARCHITECTURE),
    "mpnet": _Encoder(mpnet.ARCHITECTURE), "gpt2": _gpt2,
}  # fmt: skip


def _tokenizer(bundle: Bundle) -> PreTrainedTokenizerFast:
    """The bundle's tokenizer, with its special tokens under transformers' names."""
    from tokenizers import Tokenizer

    spec = bundle.manifest.tokenizer
    tokenizer = Tokenizer.from_str(bundle.read(spec.file).decode("utf-8"))
    around = TextTokenizer(bundle.read(spec.file), spec).encode_parts("a")
    ends = spec.eos_ids
    ids = {
        "pad_token": spec.pad_id, "bos_token": spec.bos_id, "eos_token": ends[0] if ends else None,
        "cls_token": around.prefix[0] if around.prefix else None,
        "sep_token": around.suffix[-1] if around.suffix else None,
        "unk_token": _known(tokenizer, "[UNK]", "<unk>"), "mask_token": _known(tokenizer, "[MASK]", "<mask>"),
    }  # fmt: skip
    names: dict[str, Any] = {name: tokenizer.id_to_token(index) for name, index in ids.items() if index is not None}
    if bundle.manifest.family in ("bert", "electra"):  # a classifier of pairs on top of it is told which text is which
        names["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=spec.max_tokens, **names)


def _known(tokenizer: Any, *names: str) -> int | None:
    found = (tokenizer.token_to_id(name) for name in names)
    return next((index for index in found if index is not None), None)


def _checked(bundle: Bundle, folder: Path) -> str:
    """How near the checkpoint answers to the bundle, on the texts of its golden answers.

    Raises UnsupportedCheckpoint where that is further away than an export accepts.
    """
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoModelForTokenClassification

    manifest = bundle.manifest
    kinds = {
        "text-classification": AutoModelForSequenceClassification, "text-generation": AutoModelForCausalLM,
        "token-classification": AutoModelForTokenClassification,
    }  # fmt: skip
    if manifest.task not in kinds:
        return "vectors were not compared with the bundle's: pooling is no part of the checkpoint"
    model, task = load(bundle.path, task=manifest.serves[0]), manifest.serves[0]
    kind = kinds[manifest.task]
    torch_model = kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False).eval()
    problem, distances = problem_of(manifest.task, manifest.problem_type), []
    for given in golden_inputs(bundle, task, model):
        with torch.inference_mode():
            if task in ENCODERS:
                row = model.reader.read(given).rows[0]
                types = {"token_type_ids": torch.tensor([row.type_ids])} if any(row.type_ids) else {}
                logits = torch_model(input_ids=torch.tensor([row.ids]), **types).logits[0].numpy()
                distances.append(problem.distance(logits, model.infer(row.ids, row.type_ids)))
            else:
                ids = model.tokenize(given)
                logits = torch_model(input_ids=torch.tensor([ids])).logits[0, -1].numpy()
                distances.append(problem.distance(logits, model.generator.logits(ids, ())))
    if not distances:
        raise BundleRejected(f"{bundle.path} has no golden answers; export it again", what="golden.json")
    worst = max(distances)
    if worst > TOLERANCES["int4"].worst:
        raise UnsupportedCheckpoint(
            f"{bundle.path}: its weights were turned back, and answer otherwise (distance {worst:.3f}); give the "
            "checkpoint that it was exported from"
        )
    return f"before training its probabilities are at most {worst:.4f} from the bundle's, on {len(distances)} texts"
