"""Folders as sentence-transformers itself saves them: its own vectors are what every case is compared with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules

from edgelm_export.checkpoint import load_checkpoint
from edgelm_export.checkpoint.sentence import TRANSFORMER_SETTINGS
from edgelm_export.checkpoint.sources import Origin
from edgelm_export.doctor import diagnose
from edgelm_export.families import POOLINGS
from edgelm_export.pipeline import ExportOptions, export
from edgelm_export.quantize import scheme
from edgelm_runtime.errors import UnsupportedCheckpoint
from edgelm_runtime.loader import load
from edgelm_runtime.session import SessionOptions, create_session, run
from edgelm_runtime.tokenizer import TextTokenizer
from tests.export.test_sentence import cased
from tests.export.tiny import bert, save_bert

TEXTS = ("soft fabric, true to size", "质量", "Nike Air MAX 42 Black", "it arrived late and the box was broken")
ACCEPTED = 1e-4


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base model with its tokenizer."""
    return save_bert(tmp_path_factory.mktemp("base") / "bert", bert(spread=0.1).bert)


def saved(folder: Path, base: Path, *after: Any, **config: Any) -> SentenceTransformer:
    """A model of these modules after the transformer, saved by sentence-transformers, and read back by it."""
    torch.manual_seed(0)
    made = SentenceTransformer(modules=[modules.Transformer(str(base)), *after], device="cpu", **config)
    with torch.no_grad():
        for parameter in (each for module in after for each in module.parameters()):
            parameter.add_(0.3 * torch.randn_like(parameter))
    made.save(str(folder), create_model_card=False)
    return SentenceTransformer(str(folder), device="cpu")


def vectors(folder: Path, texts: Sequence[str] = TEXTS, used: str = "fp32") -> NDArray[np.float32]:
    """What the graph that an export would write gives, from its own token ids."""
    checkpoint = load_checkpoint(folder)
    built = checkpoint.architecture.build(checkpoint.weights, checkpoint.config, scheme(used), checkpoint.wanted)
    session = create_session(built.graph, SessionOptions(1))
    tokenizer = TextTokenizer(checkpoint.tokenizer_json, checkpoint.tokenizer)
    rows = [tokenizer.encode(text) for text in texts]
    return np.stack([run(session, {"input_ids": np.array([row])}, ["embedding"])[0][0] for row in rows])


def residual(wide: int, out: int) -> Any:
    return modules.Dense(wide, out, activation_function=torch.nn.GELU(), use_residual=True)


AFTER: dict[str, tuple[tuple[str, ...], Any]] = {
    **{pooling: ((pooling,), list) for pooling in POOLINGS},
    "all joined": (POOLINGS, list),
    "two, normalized": (("max", "lasttoken"), lambda: [modules.Normalize()]),
    "one row through layers": (("cls",), lambda: [modules.Dense(64, 32), modules.LayerNorm(32), modules.Normalize()]),
    "normalized in between": (
        ("weightedmean", "mean"),
        lambda: [modules.Normalize(), modules.Dropout(0.5), modules.Dense(128, 24), modules.Normalize()],
    ),
    "norm after norm": (("mean",), lambda: [modules.LayerNorm(64), modules.Dropout(0.1), modules.LayerNorm(64)]),
    "residual": (("mean",), lambda: [residual(64, 64), residual(64, 20), modules.Normalize()]),
}


@pytest.mark.parametrize("case", AFTER)
def test_vectors_are_those_of_sentence_transformers(tmp_path: Path, base: Path, case: str) -> None:
    poolings, layers = AFTER[case]
    model = saved(tmp_path / "model", base, modules.Pooling(64, poolings), *layers())
    found = vectors(tmp_path / "model")
    np.testing.assert_allclose(found, [model.encode(text) for text in TEXTS], rtol=0, atol=ACCEPTED)
    assert np.abs(found[0] - found[1]).max() > 0.01


def test_poolings_and_layers_have_every_precision(tmp_path: Path, base: Path) -> None:
    after = modules.Pooling(64, POOLINGS), modules.LayerNorm(384), residual(384, 48), modules.Normalize()
    expected = saved(tmp_path / "model", base, *after).encode(list(TEXTS))
    export(ExportOptions(tmp_path / "model", tmp_path / "bundle", targets=("cpu", "openvino")))
    for variant in ("cpu-int8", "qdq-int8"):
        answer = load(tmp_path / "bundle", variant=variant)
        assert ((np.stack([answer(text).embedding for text in TEXTS]) * expected).sum(1) > 0.98).all()
    assert ((vectors(tmp_path / "model", used="fp16") * expected).sum(1) > 0.9999).all()


@pytest.mark.parametrize("name", TRANSFORMER_SETTINGS)
def test_settings_are_found_under_every_name(tmp_path: Path, base: Path, name: str) -> None:
    folder = tmp_path / "model"
    saved(folder, base, modules.Pooling(64, "mean"))
    cased(folder)
    (folder / "sentence_bert_config.json").unlink()
    (folder / name).write_text(json.dumps({"max_seq_length": 9, "do_lower_case": True}))
    model, checkpoint = SentenceTransformer(str(folder), device="cpu"), load_checkpoint(folder)
    assert checkpoint.tokenizer.max_tokens == model.max_seq_length == 9
    short = ["Nike AIR", "SOFT"]
    assert np.abs(np.diff(vectors(folder, ("nike", "NIKE")), axis=0)).max() == 0
    np.testing.assert_allclose(vectors(folder, short), model.encode(short), rtol=0, atol=ACCEPTED)


def test_the_first_of_several_settings_counts(tmp_path: Path, base: Path) -> None:
    folder = tmp_path / "model"
    saved(folder, base, modules.Pooling(64, "mean"))
    (folder / "sentence_bert_config.json").write_text("{}")  # looked over, as sentence-transformers does
    (folder / "sentence_roberta_config.json").write_text('{"max_seq_length": 12}')
    (folder / "sentence_xlnet_config.json").write_text('{"max_seq_length": 7}')
    assert SentenceTransformer(str(folder), device="cpu").max_seq_length == 12
    assert load_checkpoint(folder).tokenizer.max_tokens == 12


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        ({"max_seq_length": 90}, 90),
        ({"max_seq_length": None}, 50),
        ({"max_seq_length": 30, "processor_kwargs": {"model_max_length": 40}}, 40),
        ({"tokenizer_args": {"model_max_length": 20}}, 20),
        ({"processing_kwargs": {"text": {"max_length": 10, "truncation": True}}}, 10),
        ({"max_seq_length": 5000}, 96),
    ],
)
def test_the_length_is_that_of_the_settings(tmp_path: Path, base: Path, settings: dict[str, Any], limit: int) -> None:
    folder = tmp_path / "model"
    saved(folder, base, modules.Pooling(64, "mean"))
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_max_length": 50}))
    (folder / "sentence_bert_config.json").write_text(json.dumps(settings))
    assert load_checkpoint(folder).tokenizer.max_tokens == limit
    model = SentenceTransformer(str(folder), device="cpu")
    if "processing_kwargs" not in settings and limit < 96:  # that is of a call, and the model has 96 places
        assert model.max_seq_length == limit


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"query_expansion": {"strategy": "min", "length": 32}}, "query_expansion = .* is not honoured"),
        ({"tokenizer_name_or_path": "bert-base-uncased"}, "tokenizer_name_or_path = 'bert-base-uncased'"),
        ({"modality_config": {"message": {"method": "forward"}}}, "modality_config = .* texts as they are"),
        ({"modality_config": {"text": {"method": "get_text_features"}}}, "modality_config = "),
        ({"model_kwargs": {"num_hidden_layers": 1}}, "num_hidden_layers = 1 is not honoured"),
        ({"processing_kwargs": {"text": {"add_special_tokens": False}}}, "add_special_tokens = False is not honoured"),
    ],
)
def test_settings_that_change_vectors_are_refused_by_name(
    tmp_path: Path, base: Path, settings: dict[str, Any], message: str
) -> None:
    folder = tmp_path / "model"
    saved(folder, base, modules.Pooling(64, "mean"))
    (folder / "sentence_roberta_config.json").write_text(json.dumps(settings))
    (folder / "sentence_bert_config.json").unlink()
    with pytest.raises(UnsupportedCheckpoint, match=f"sentence_roberta_config.json: {message}"):
        load_checkpoint(folder)


def test_a_module_that_is_not_honoured_is_named(tmp_path: Path, base: Path) -> None:
    saved(tmp_path / "model", base, modules.WeightedLayerPooling(64, 2, 0), modules.Pooling(64, "mean"))
    with pytest.raises(UnsupportedCheckpoint, match="the module WeightedLayerPooling is not honoured"):
        load_checkpoint(tmp_path / "model")
    saved(tmp_path / "cnn", base, modules.Pooling(64, "mean"), modules.Dense(64, 8, module_output_name="other"))
    with pytest.raises(UnsupportedCheckpoint, match="module_output_name = 'other' is not honoured"):
        load_checkpoint(tmp_path / "cnn")


def test_a_diagnosis_says_what_happens_after_the_transformer(tmp_path: Path, base: Path) -> None:
    after = modules.Pooling(64, ("max", "mean")), modules.LayerNorm(128), residual(128, 20), modules.Normalize()
    saved(tmp_path / "model", base, *after)
    (task,) = [found.text for found in diagnose(Origin(tmp_path / "model")).findings if found.check == "task"]
    assert task == (
        "feature-extraction with max + mean pooling, a layer norm, "
        "a layer of 20 (GELU, added to what it reads), normalized"
    )


PROMPTS = {"query": "nike max: ", "passage": "soft fabric and", "document": ""}


def test_prompts_are_those_of_sentence_transformers(tmp_path: Path, base: Path) -> None:
    after = modules.Pooling(64, "mean"), modules.Normalize()
    model = saved(tmp_path / "model", base, *after, prompts=PROMPTS, default_prompt_name="query")
    export(ExportOptions(tmp_path / "model", tmp_path / "bundle", precision="fp32"))
    answer = load(tmp_path / "bundle")
    assert answer.prompts == PROMPTS
    for name in (None, *PROMPTS):
        expected = model.encode(list(TEXTS), prompt_name=name)
        np.testing.assert_allclose(answer.vectors(TEXTS, prompt_name=name), expected, rtol=0, atol=ACCEPTED)
        one = answer(TEXTS[0], prompt_name=name)
        np.testing.assert_allclose(one.embedding, expected[0], rtol=0, atol=ACCEPTED)
    assert np.abs(answer.vectors(TEXTS) - answer.vectors(TEXTS, prompt_name="document")).max() > 0.01
    assert answer.infer(answer.tokenize(TEXTS[0])) == pytest.approx(answer(TEXTS[0]).embedding)


def test_a_text_over_the_length_is_cut_behind_its_prompt(tmp_path: Path, base: Path) -> None:
    model = saved(tmp_path / "model", base, modules.Pooling(64, "mean"), prompts={"query": "soft fabric: "})
    model.max_seq_length = 20
    model.save(str(tmp_path / "model"), create_model_card=False)
    export(ExportOptions(tmp_path / "model", tmp_path / "bundle", precision="fp32"))
    answer, text = load(tmp_path / "bundle"), "it arrived late, the box was broken and nobody answered. " * 9
    for name in (None, "query"):
        found = answer(text, prompt_name=name)
        assert (found.windows, found.tokens) == (1, 20)
        assert f"of {len(text)} characters were read" in found.notes[-1]
        expected = model.encode(text, prompt_name=name)
        np.testing.assert_allclose(found.embedding, expected, rtol=0, atol=ACCEPTED)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompts": {"query": 1}}, "prompts = {'query': 1} is not honoured by this exporter; accepted: an object of"),
        ({"prompts": ["query: "]}, r"prompts = \['query: '\] is not honoured"),
        ({"default_prompt_name": "query"}, r"default_prompt_name = 'query' .* one of the prompts \(none\)"),
        ({"truncate_dim": 32}, "truncate_dim = 32 is not honoured"),
        ({"model_type": "SparseEncoder"}, "model_type = 'SparseEncoder' is not honoured"),
    ],
)
def test_settings_of_the_whole_model_are_refused_by_name(
    tmp_path: Path, base: Path, settings: dict[str, Any], message: str
) -> None:
    saved(tmp_path / "model", base, modules.Pooling(64, "mean"))
    (tmp_path / "model" / "config_sentence_transformers.json").write_text(json.dumps(settings))
    with pytest.raises(UnsupportedCheckpoint, match=f"config_sentence_transformers.json: {message}"):
        load_checkpoint(tmp_path / "model")


def test_prompts_that_are_not_pooled_are_refused_where_there_are_any(tmp_path: Path, base: Path) -> None:
    apart = modules.Pooling(64, "mean", include_prompt=False)
    model = saved(tmp_path / "plain", base, apart)
    np.testing.assert_allclose(vectors(tmp_path / "plain"), model.encode(list(TEXTS)), rtol=0, atol=ACCEPTED)
    saved(tmp_path / "model", base, apart, prompts={"query": "q: "})
    with pytest.raises(UnsupportedCheckpoint, match=r"1_Pooling/config\.json: include_prompt = False is not honoured"):
        load_checkpoint(tmp_path / "model")


def test_a_diagnosis_names_the_prompts(tmp_path: Path, base: Path) -> None:
    saved(tmp_path / "model", base, modules.Pooling(64, "mean"), prompts=PROMPTS, default_prompt_name="query")
    (task,) = [found.text for found in diagnose(Origin(tmp_path / "model")).findings if found.check == "task"]
    assert task == (
        "feature-extraction with mean pooling, the prompt 'passage' ('soft fabric and'), "
        "the prompt 'query' ('nike max: '), 'query' by default"
    )
