"""The decoders that are compared, and the kinds of models that each of them knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from perf.beside import peers as beside
from perf.decode.protocol import Measured


@dataclass
class Peer(beside.Peer[Measured]):
    """A decoder: `model_types` as transformers calls them; `lookup`: it has prompt lookup."""

    home: ClassVar[str] = "decode"
    result: ClassVar[type[Any]] = Measured

    model_types: tuple[str, ...] = ("gpt2", "llama")
    lookup: bool = False


def peers() -> list[Peer]:
    """edgelm first, then its peers."""
    no_amx = {"CMAKE_ARGS": "-DGGML_AMX_TILE=OFF -DGGML_AMX_INT8=OFF"}
    all_three = ("fp32", "int8", "int4")
    return [
        Peer("edgelm", "edgelm", all_three, "edgelm", lookup=True),
        Peer("llama_cpp", "llama.cpp", all_three, "llama_cpp", safer=no_amx),
        # optimum-intel asks for torchvision; that of PyPI is built for CUDA and does not load beside torch for CPUs.
        Peer("openvino", "OpenVINO GenAI", all_three, "openvino_genai", lookup=True, unwanted="torchvision"),
        Peer("onnxruntime_genai", "onnxruntime-genai", all_three, "onnxruntime_genai", model_types=("llama",)),
        Peer("optimum_onnx", "optimum-onnx", ("fp32", "int8"), "optimum.onnxruntime"),
        Peer("ctranslate2", "CTranslate2", ("fp32", "int8"), "ctranslate2"),
        Peer("transformers", "transformers", ("fp32", "bf16"), "transformers"),
    ]
