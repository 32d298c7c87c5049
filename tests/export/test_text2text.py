"""Bundles of sequence-to-sequence models: from a checkpoint to a summary, and what is refused on the way."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from tokenizers import processors
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from edgelm.cli import cli
from edgelm_export import families
from edgelm_export.checkpoint import text2text
from edgelm_export.finetune.base import train_gpt2_tokenizer
from edgelm_export.pipeline import ExportOptions, export
from edgelm_runtime.bundle import open_bundle, write_bundle
from edgelm_runtime.errors import BundleRejected, Cancelled, InputError, UnsupportedCheckpoint
from edgelm_runtime.generate.control import Control
from edgelm_runtime.generate.options import GenerationOptions
from edgelm_runtime.loader import load
from edgelm_runtime.manifest import Manifest, TokenizerSpec
from edgelm_runtime.placement import LoadOptions
from edgelm_runtime.profile import ceiling, operators, timeline
from edgelm_runtime.profile.subject import Deadline, subject_of
from edgelm_runtime.tasks.summary import Summary
from edgelm_runtime.tokenizer import TextTokenizer
from edgelm_runtime.verify import verify_bundle
from tests.export.seq2seq import CONTEXT, END, SHAPES, make_tokenizer, save, seq2seq
from tests.export.tiny import TEXTS, edit_config

TEXT = "The sweater is soft and warm. It fits true to size."
SUMMARY = {"prefix": "summarize: ", "max_length": 16, "num_beams": 3, "no_repeat_ngram_size": 2, "length_penalty": 2.0}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A T5 that asks for a prefix and beams, and a BART with a first token and an end that are forced."""
    folder = tmp_path_factory.mktemp("checkpoints")
    forced = {"forced_bos_token_id": 2, "forced_eos_token_id": END, "max_length": 14, "num_beams": 1}
    return {
        "t5": save(folder / "t5", seq2seq("t5"), {}, task_specific_params={"summarization": SUMMARY}),
        "bart": save(folder / "bart", seq2seq("bart"), forced),
    }


@pytest.fixture(scope="module")
def bundles(checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The bundles of both in float32."""
    folder = tmp_path_factory.mktemp("bundles")
    for kind, checkpoint in checkpoints.items():
        export(ExportOptions(checkpoint, folder / kind, precision="fp32"))
    return {kind: folder / kind for kind in checkpoints}


@pytest.fixture
def model(bundles: dict[str, Path]) -> Summary:
    summary: Summary = load(bundles["t5"])
    return summary


@pytest.mark.parametrize(("kind", "by_token"), [("t5", False), ("bart", True)])
def test_a_profile_tells_of_both_graphs(bundles: dict[str, Path], kind: str, by_token: bool) -> None:
    subject = subject_of(open_bundle(bundles[kind]), "summary", LoadOptions("cpu", threads=1), [TEXT], "a test")
    found = timeline.measure(subject)
    runs = [one.name for one in found.slices if one.kind == "run"]
    assert runs[0] == f"encode {subject.tokens(TEXT)} tokens"
    assert len(runs) > 2
    assert all(name.startswith("infer ") for name in runs[1:])
    stages = {one.name for one in found.slices if one.kind == "stage"}
    assert {"tokenize", "sample", "detokenize"} <= stages
    assert ("decode" not in stages) == ("token 2" in stages) == by_token
    assert operators.measure(subject, Deadline(0.0)).measured > 0
    # A token reads the decoder's weights, and not the encoder's, which lie in the same file.
    weights = bundles[kind] / subject.model.engine.variant.weights
    assert 0.2 < ceiling.measure(subject, Deadline(0.0)).bytes / weights.stat().st_size < 0.8


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_a_bundle_writes_what_transformers_writes(
    checkpoints: dict[str, Path], bundles: dict[str, Path], kind: str
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(checkpoints[kind])
    torch_model = AutoModelForSeq2SeqLM.from_pretrained(checkpoints[kind]).eval()
    writer = load(bundles[kind])
    given: dict[str, Any] = {"max_length": 14} if kind == "bart" else {**SUMMARY, "early_stopping": False}
    prefix = given.pop("prefix", "")
    for text in (TEXT, "物流很快，质量也好", "Exactly  what I was looking for. " * 2):
        read = tokenizer(prefix + text, return_tensors="pt", split_special_tokens=True)
        assert writer.tokenize(text) == read.input_ids[0].tolist()
        made = torch_model.generate(**read, do_sample=False, **given)[0]
        assert writer(text).text == tokenizer.decode(made, skip_special_tokens=True)


@pytest.mark.parametrize(("kind", "precision"), [("t5", "int8"), ("bart", "int4")])
def test_fewer_bits_are_verified_and_stored_once(
    checkpoints: dict[str, Path], tmp_path: Path, kind: str, precision: str
) -> None:
    report = export(ExportOptions(checkpoints[kind], tmp_path / "bundle", precision=precision))
    assert report.parity.inputs >= 36
    assert verify_bundle(tmp_path / "bundle").golden > 0
    bundle = open_bundle(tmp_path / "bundle")
    (variant,) = bundle.manifest.variants
    assert variant.files == ("model.onnx", "encoder.onnx", "model.safetensors")
    assert variant.size == sum(bundle.manifest.files[name].size for name in variant.files)
    assert report.bundle_bytes < 0.6 * report.checkpoint_bytes
    stored = bundle.read("model.safetensors")
    header = json.loads(stored[8 : 8 + int.from_bytes(stored[:8], "little")])
    tables = [name for name in header if name in ("shared", "model.shared")]
    assert len(tables) == 1
    assert not any("embed_tokens" in name for name in header)


def test_from_the_command_line(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    runner = CliRunner()
    out = str(tmp_path / "bundle")
    for arguments in (
        ["doctor", str(checkpoints["t5"])],
        ["export", str(checkpoints["t5"]), "--out", out, "--prompt", "summary=tl;dr: {text}"],
        ["run", "summary", TEXT, "--bundle", out, "--max-new-tokens", "6", "--min-new-tokens", "6"],
        ["run", "summary", TEXT, "--bundle", out, "--max-new-tokens", "6", "--num-beams", "1", "--stream"],
        ["verify", out],
        ["inspect", out],
    ):
        done = runner.invoke(cli, arguments)
        assert done.exit_code == 0, done.output
    assert load(tmp_path / "bundle").tokenize("a") == load(tmp_path / "bundle").tokenizer.encode("tl;dr: a")


def test_the_defaults_of_the_checkpoint_are_the_bundles(bundles: dict[str, Path]) -> None:
    t5, bart = (open_bundle(bundles[kind]).manifest for kind in ("t5", "bart"))
    assert t5.prompts == {"summary": "summarize: {text}"}
    assert t5.generation["tasks"]["summary"] == {
        "max_new_tokens": 15, "num_beams": 3, "no_repeat_ngram_size": 2, "length_penalty": 2.0,
    }  # fmt: skip
    assert bart.decoder is not None
    assert (bart.decoder.start_id, bart.decoder.forced_bos_id, bart.decoder.forced_eos) == (3, 2, True)
    assert bart.generation["max_new_tokens"] == 11  # of 14: the start, the first token, and the end
    assert Manifest.from_bytes(bart.to_json().encode()) == bart


def test_a_long_text_is_read_in_windows(model: Summary) -> None:
    text = " ".join([TEXT] * 12)
    assert len(model.tokenize(text)) > CONTEXT
    result = model(text, max_new_tokens=8)
    assert result.windows > 1
    fitting = model.tokenizer.encode(text, special=False)[: CONTEXT - model.template_tokens]
    assert model(model.tokenizer.decode(fitting[:-8]), num_beams=1).windows == 1
    with pytest.raises(InputError, match=f"tokens, accepted: at most {CONTEXT} "):
        model.infer([7] * (CONTEXT + 1))
    assert len(model.infer([7] * CONTEXT, max_new_tokens=5, ignore_eos=True)) == 5
    assert len(model.infer([7], max_new_tokens=500, ignore_eos=True)) == CONTEXT - 1  # the answer's own context


def test_words_stops_and_batches(model: Summary) -> None:
    plain = model(TEXT, num_beams=1, max_new_tokens=8)
    word = plain.text.split()[0]
    assert word.lower() not in model(TEXT, num_beams=1, max_new_tokens=8, banned=(word,)).text.lower()
    assert "wool" in model(TEXT, num_beams=1, max_new_tokens=16, must_include=("wool",)).text
    assert "wool" in model(TEXT, num_beams=2, max_new_tokens=16, must_include=("wool",)).text
    assert model(TEXT, num_beams=1, max_new_tokens=8, stop=(plain.text[2:4],)).text == plain.text[:2]
    looked_up = model(TEXT, num_beams=1, max_new_tokens=8, prompt_lookup_num_tokens=4)
    assert looked_up.text == plain.text
    texts = [TEXT, "It works well.", "物流很快，质量也好"]
    alone = [model(text, num_beams=1, max_new_tokens=8).text for text in texts]
    assert [result.text for result in model.batch(texts, num_beams=1, max_new_tokens=8)] == alone
    sampled = model(TEXT, num_beams=1, temperature=1.0, seed=3, max_new_tokens=8).text
    assert sampled == model(TEXT, num_beams=1, temperature=1.0, seed=3, max_new_tokens=8).text
    pieces = list(model.stream(TEXT, num_beams=1, max_new_tokens=8))
    assert "".join(pieces) == plain.text
    assert len(pieces) > 1


def test_an_answer_ends_from_outside(model: Summary) -> None:
    control = Control()
    control.cancel()
    with pytest.raises(Cancelled):
        list(model.generator.stream(model.tokenize(TEXT), GenerationOptions(), control=control))
    assert model(TEXT, num_beams=1, deadline_ms=60_000).finish_reason in ("stop", "length")


def test_context_shift_is_refused(model: Summary) -> None:
    with pytest.raises(InputError, match="context_shift"):
        model(TEXT, num_beams=1, context_shift=True)


def test_an_8_bit_cache_and_targets_are_refused(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="text2text-generation, a cache in 8 bits"):
        export(ExportOptions(checkpoints["t5"], tmp_path / "bundle", kv_cache="int8"))
    with pytest.raises(InputError, match="leave --targets out"):
        export(ExportOptions(checkpoints["t5"], tmp_path / "bundle", targets=("cpu", "openvino")))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"decoder_start_token_id": 600}, "decoder_start_token_id = 600"),
        ({"decoder_start_token_id": "<s>"}, "decoder_start_token_id = '<s>'"),
        ({"decoder_start_token_id": True}, "decoder_start_token_id = True"),
        ({"decoder_start_token_id": None, "bos_token_id": None}, "decoder_start_token_id = None"),
        ({"forced_bos_token_id": -1}, "forced_bos_token_id = -1"),
        ({"encoder_no_repeat_ngram_size": 3}, "encoder_no_repeat_ngram_size = 3"),
        ({"bad_words_ids": [[50_000]]}, "bad_words_ids = 50000"),
        ({"num_beams": 2, "early_stopping": "never"}, "early_stopping = 'never'"),
        ({"num_beams": 2, "do_sample": True}, "do_sample = True"),
        ({"num_beams": 2, "diversity_penalty": 0.5}, "diversity_penalty = 0.5"),
    ],
)
def test_what_is_not_honoured_is_refused_by_name(
    checkpoints: dict[str, Path], tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    folder = Path(shutil.copytree(checkpoints["t5"], tmp_path / "t5"))
    path = folder / "generation_config.json"
    stored = {**json.loads(path.read_text("utf-8")), **fields}
    path.write_text(json.dumps({name: value for name, value in stored.items() if value is not None}), "utf-8")
    edit_config(folder, **{name: None for name, value in fields.items() if value is None})
    with pytest.raises(UnsupportedCheckpoint, match=message):
        export(ExportOptions(folder, tmp_path / "bundle"))
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("t5", "dense_act_fn", "softmax"),
        ("mt5", "d_kv", 12),
        ("t5", "relative_attention_num_buckets", 3),
        ("bart", "activation_function", "softmax"),
        ("mbart", "encoder_attention_heads", 3),
        ("pegasus", "decoder_attention_heads", 16),
    ],
)
def test_a_field_that_is_not_honoured_is_refused_by_name(kind: str, field: str, value: Any) -> None:
    config = seq2seq(kind).config.to_dict()
    family = families.family(kind)
    family.check(config)
    with pytest.raises(UnsupportedCheckpoint, match="accepted: ") as refusal:
        family.check({**config, field: value})
    named = "feed_forward_proj" if field == "dense_act_fn" else field
    assert f"{named} = " in str(refusal.value)


def test_lengths_count_what_the_decoder_begins_with(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"max_length": 20, "min_length": 5, "num_beams": 1}), "utf-8")
    always = {"penalize_prompt": True, "suppress_tokens": []}
    assert text2text.generation_defaults(tmp_path, 9) == {
        **always, "num_beams": 1, "max_new_tokens": 19, "min_new_tokens": 4,
    }  # fmt: skip
    (tmp_path / "generation_config.json").write_text(  # then the other file does not count
        json.dumps(
            {"max_new_tokens": 9, "do_sample": True, "top_k": 5, "length_penalty": 2.0, "forced_bos_token_id": 0}
        )
    )
    assert text2text.generation_defaults(tmp_path, 9) == {  # of 9 the first is forced
        **always, "max_new_tokens": 8, "temperature": 1.0, "top_k": 5, "top_p": 1.0, "min_p": 0.0, "typical_p": 1.0,
    }  # fmt: skip


def test_a_bundle_without_its_encoder_is_refused(bundles: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundles["t5"], tmp_path / "t5"))
    (folder / "encoder.onnx").unlink()
    with pytest.raises(BundleRejected, match=r"encoder\.onnx"):
        load(folder)
    manifest = json.loads((bundles["t5"] / "edgelm.json").read_text("utf-8"))
    for broken in (
        {**manifest, "decoder": None},
        {**manifest, "variants": [{**manifest["variants"][0], "encoder": "other.onnx"}]},
        {name: value for name, value in manifest.items() if name != "decoder"},
        {**manifest, "decoder": {"start_id": -1}},
        {**manifest, "decoder": {"start_id": 0, "forced_eos": 1}},
        {**manifest, "task": "text-generation"},
    ):
        with pytest.raises(BundleRejected, match=r"decoder|encoder|other"):
            Manifest.from_bytes(json.dumps(broken).encode())


@pytest.mark.parametrize(("encoder", "decoder"), [("t5", "bart"), ("bart", "t5")])
def test_two_graphs_that_do_not_belong_together_are_refused(
    bundles: dict[str, Path], tmp_path: Path, encoder: str, decoder: str
) -> None:
    """The file of weights is that of the decoder: the encoder finds others there, or none."""
    bundle = open_bundle(bundles[decoder])
    contents: dict[str, bytes | Path] = {name: bundle.path / name for name in bundle.manifest.files}
    contents["encoder.onnx"] = bundles[encoder] / "encoder.onnx"
    write_bundle(tmp_path / "mixed", replace(bundle.manifest, files={}), contents)
    with pytest.raises(BundleRejected):
        load(tmp_path / "mixed")


def test_an_encoder_in_the_place_of_the_decoder_is_refused(bundles: dict[str, Path], tmp_path: Path) -> None:
    bundle = open_bundle(bundles["t5"])
    contents: dict[str, bytes | Path] = {name: bundle.path / name for name in bundle.manifest.files}
    contents["model.onnx"], contents["encoder.onnx"] = contents["encoder.onnx"], contents["model.onnx"]
    write_bundle(tmp_path / "turned", replace(bundle.manifest, files={}), contents)
    with pytest.raises(BundleRejected, match=r"past_key_values|inputs"):
        load(tmp_path / "turned")


def test_metrics_compare_greedy_answers(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "dev.jsonl"
    path.write_text(json.dumps({"text": TEXT, "summary": "soft and warm"}), "utf-8")
    report = export(ExportOptions(checkpoints["bart"], tmp_path / "bundle", precision="fp32", eval_file=path))
    assert report.metrics["fp32"]["same answer as torch"] == 100.0


def test_every_family_is_known() -> None:
    assert set(SHAPES) <= set(families.supported())
    assert np.all([families.family(kind).TASKS == ("text2text-generation",) for kind in SHAPES])
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize("kind", ["byte-level", "sentencepiece"])
def test_a_prompt_is_cut_as_the_checkpoints_tokenizer_cuts_it(tmp_path: Path, kind: str) -> None:
    if kind == "byte-level":
        whole = train_gpt2_tokenizer(TEXTS, 600, CONTEXT)
        whole.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="<|endoftext|> $A <|endoftext|>", special_tokens=[("<|endoftext|>", 0)]
        )
    else:
        whole = make_tokenizer()
    spec = TokenizerSpec("tokenizer.json", CONTEXT)
    own = TextTokenizer(whole.backend_tokenizer.to_str().encode(), spec)
    start = whole.all_special_tokens[0]
    for template in ("{text}", "summarize: {text}", "{text}\nTL;DR:", "a{text}b", "x {text}"):
        for text in (TEXT, "  two  spaces ", "物流很快"):
            expected = whole(template.replace("{text}", text), split_special_tokens=True).input_ids
            assert own.encode_prompt(template, text, encoder=True) == expected
    special = own.token_id(start)
    marked = own.encode_prompt(f"{start}{{text}}", f"one {start} two", encoder=True)
    assert marked.count(special) == own.encode_prompt("{text}", "one", encoder=True).count(special) + 1
    for name in whole.all_special_tokens:  # not even spelled in wide letters, which some tokenizers narrow
        for spelled in (name, name.replace("<", "＜").replace(">", "＞").replace("/", "／")):
            text = f"one {spelled} two"
            refused = set(own.special_ids) - {own.token_id("<unk>")}
            assert not refused & set(own.encode(text, special=False))
            assert not refused & set(own.encode_parts(text).ids)


def test_a_cut_vocabulary_begins_answers_with_the_same_token(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(checkpoints["bart"], tmp_path / "bart"))
    path = folder / "generation_config.json"
    letter = AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids("w")
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "decoder_start_token_id": letter}), "utf-8")
    corpus = tmp_path / "corpus.txt"
    corpus.write_text(TEXT, "utf-8")
    for name, by in (("whole", None), ("cut", str(corpus))):
        export(ExportOptions(folder, tmp_path / name, precision="fp32", trim_vocab=by))
    whole, cut = (load(tmp_path / name) for name in ("whole", "cut"))
    for model in (whole, cut):
        assert model.bundle.manifest.decoder.start_id == model.tokenizer.token_id("w")
    assert cut.generator.vocab < whole.generator.vocab
    for ids, other in ((whole.tokenize(TEXT), cut.tokenize(TEXT)),):
        kept = [whole.tokenizer.token_id(piece) for piece in cut.tokenizer.pieces()]
        np.testing.assert_allclose(cut.generator.logits(other), whole.generator.logits(ids)[kept], rtol=0, atol=1e-4)
