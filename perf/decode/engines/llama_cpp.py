"""llama.cpp through llama-cpp-python. The GGUF file is written here, with the gguf package, and quantized by llama.cpp.

Its own converter knows tokenizers by their hash, and refuses one that was trained here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from perf.decode.protocol import Seen, main

FILE_TYPES = {"fp32": "LLAMA_FTYPE_ALL_F32", "int8": "LLAMA_FTYPE_MOSTLY_Q8_0", "int4": "LLAMA_FTYPE_MOSTLY_Q4_0"}
# Names of GGUF by those of transformers, within a layer.
GPT2 = {
    "ln_1": "attn_norm", "attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output", "ln_2": "ffn_norm",
    "mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down",
}  # fmt: skip
LLAMA = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip


def convert(checkpoint: Path, out: Path, precision: str) -> None:
    out.mkdir(parents=True, exist_ok=True)
    whole = out / "float32.gguf"
    _write(checkpoint, whole)
    if precision == "fp32":
        whole.rename(out / "model.gguf")
        return
    import llama_cpp

    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = getattr(llama_cpp, FILE_TYPES[precision])
    if llama_cpp.llama_model_quantize(str(whole).encode(), str(out / "model.gguf").encode(), parameters) != 0:
        raise SystemExit("llama_model_quantize failed")
    whole.unlink()


def _write(checkpoint: Path, path: Path) -> None:
    """A float32 GGUF file of a GPT-2 or Llama checkpoint with a tied head and the default rotary embedding."""
    from gguf import GGUFWriter
    from safetensors.numpy import load_file

    config = json.loads((checkpoint / "config.json").read_text("utf-8"))
    weights = load_file(checkpoint / "model.safetensors")
    writer = GGUFWriter(path, config["model_type"])
    tensors = _gpt2(config, weights, writer) if config["model_type"] == "gpt2" else _llama(config, weights, writer)
    _tokenizer(checkpoint, config["vocab_size"], writer)
    for name, array in tensors.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _gpt2(config: dict[str, Any], weights: dict[str, Any], writer: Any) -> dict[str, Any]:
    writer.add_context_length(config["n_positions"])
    writer.add_embedding_length(config["n_embd"])
    writer.add_block_count(config["n_layer"])
    writer.add_feed_forward_length(config.get("n_inner") or 4 * config["n_embd"])
    writer.add_head_count(config["n_head"])
    writer.add_layer_norm_eps(config["layer_norm_epsilon"])
    weights = {name.removeprefix("transformer."): array for name, array in weights.items()}
    tensors = {"token_embd.weight": weights["wte.weight"], "position_embd.weight": weights["wpe.weight"]}
    for kind in ("weight", "bias"):
        tensors[f"output_norm.{kind}"] = weights[f"ln_f.{kind}"]
    # Conv1D stores [in, out], GGUF wants [out, in].
    tensors |= _layers(weights, "h", GPT2, config["n_layer"], lambda name, array: array.T if array.ndim == 2 else array)
    return tensors


def _llama(config: dict[str, Any], weights: dict[str, Any], writer: Any) -> dict[str, Any]:
    heads, groups = config["num_attention_heads"], config["num_key_value_heads"]
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(groups)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_dimension_count(config["hidden_size"] // heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config["vocab_size"])

    def permuted(name: str, array: Any) -> Any:
        """llama.cpp turns neighbours, transformers turns halves."""
        count = {"self_attn.q_proj": heads, "self_attn.k_proj": groups}.get(name)
        if count is None:
            return array
        rows = array.reshape(count, 2, array.shape[0] // count // 2, array.shape[1])
        return rows.swapaxes(1, 2).reshape(array.shape)

    weights = {name.removeprefix("model."): array for name, array in weights.items()}
    tensors = {"token_embd.weight": weights["embed_tokens.weight"], "output_norm.weight": weights["norm.weight"]}
    return tensors | _layers(weights, "layers", LLAMA, config["num_hidden_layers"], permuted)


def _layers(
    weights: dict[str, Any], prefix: str, names: dict[str, str], count: int, change: Callable[[str, Any], Any]
) -> dict[str, Any]:
    import numpy as np

    found = {}
    for layer in range(count):
        for theirs, ours in names.items():
            for kind in ("weight", "bias"):
                array = weights.get(f"{prefix}.{layer}.{theirs}.{kind}")
                if array is not None:
                    found[f"blk.{layer}.{ours}.{kind}"] = np.ascontiguousarray(change(theirs, array))
    return found


def _tokenizer(checkpoint: Path, size: int, writer: Any) -> None:
    """The byte-level vocabulary; places that the tokenizer leaves free get names of their own."""
    from gguf import TokenType

    model = json.loads((checkpoint / "tokenizer.json").read_text("utf-8"))["model"]
    tokens = {index: text for text, index in model["vocab"].items()}
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([tokens.get(index, f"[unused{index}]") for index in range(size)])
    writer.add_token_types([TokenType.NORMAL if index in tokens else TokenType.UNUSED for index in range(size)])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)


class Engine:
    """`Llama.generate`, which samples in llama.cpp; a token of its own likelihood is the greedy one."""

    def __init__(self) -> None:
        from llama_cpp import Llama

        self._class = Llama

    def load(self, model: Path, threads: int, lookup: bool) -> None:
        self._model = self._class(
            model_path=str(model / "model.gguf"), n_ctx=0, n_threads=threads, n_threads_batch=threads, verbose=False
        )

    def answer(self, prompt: Sequence[int], count: int, seen: Seen) -> None:
        tokens = self._model.generate(list(prompt), temp=0.0, repeat_penalty=1.0)
        for number, token in enumerate(tokens, start=1):
            seen(token)
            if number == count:
                break


if __name__ == "__main__":
    main(Engine, convert)
