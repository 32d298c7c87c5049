"""A cut vocabulary: the same pieces and logits as the whole one on the corpus, and every other text can be read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from edgelm.cli import cli
from edgelm_export import families
from edgelm_export.checkpoint import Checkpoint, load_checkpoint
from edgelm_export.pipeline import ExportOptions, export
from edgelm_export.reference import Begun, Reference
from edgelm_export.trim import renumbered, trim
from edgelm_runtime.bundle import open_bundle
from edgelm_runtime.errors import EdgeLMError, InputError, UnsupportedCheckpoint
from edgelm_runtime.loader import load
from edgelm_runtime.manifest import TokenizerSpec
from edgelm_runtime.tokenizer import TextTokenizer
from edgelm_runtime.verify import verify_bundle
from tests.export import seq2seq, tiny

CORPUS = [text for text in tiny.TEXTS if text.isascii()][:12]
OTHERS = ["物流很快，质量也好 😀", "Zygomorphic quetzals?", "\u00e9\u00df\u4e2d", "a", "[SEP] </s> <mask>", " \t x  y "]
SPECIALS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def unigram() -> PreTrainedTokenizerFast:
    """As XLM-RoBERTa's: Unigram over words that begin with a mark."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=560, special_tokens=SPECIALS, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(tiny.TEXTS, trainer)
    return fast(tokenizer, processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    ))  # fmt: skip


def byte_level() -> PreTrainedTokenizerFast:
    """As RoBERTa's: BPE over bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=590, special_tokens=SPECIALS, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(tiny.TEXTS, trainer)
    return fast(tokenizer, processors.RobertaProcessing(("</s>", 2), ("<s>", 0)))


def fast(tokenizer: Tokenizer, around: Any) -> PreTrainedTokenizerFast:
    tokenizer.post_processor = around
    tokenizer.add_tokens([AddedToken("<never used>", special=False)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=tiny.CONTEXT, bos_token="<s>", eos_token="</s>", unk_token="<unk>",
        pad_token="<pad>", cls_token="<s>", sep_token="</s>", mask_token="<mask>",
    )  # fmt: skip


def encoder_folder(folder: Path, kind: str, tokenizer: PreTrainedTokenizerFast) -> Path:
    tiny.encoder(kind, "text-classification", vocab_size=620, pad_token_id=1).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


FOLDERS: dict[str, Callable[[Path], Path]] = {
    "wordpiece": lambda folder: tiny.save_bert(folder, tiny.bert()),
    "gpt2": lambda folder: tiny.save_gpt2(folder, tiny.gpt2()),
    "llama": lambda folder: tiny.save_gpt2(folder, tiny.decoder("llama", tie_word_embeddings=False)),
    "roberta": lambda folder: encoder_folder(folder, "roberta", byte_level()),
    "unigram": lambda folder: encoder_folder(folder, "xlm-roberta", unigram()),
}


@pytest.fixture(scope="module", params=FOLDERS)
def whole(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return load_checkpoint(FOLDERS[request.param](tmp_path_factory.mktemp("trim") / request.param))


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join(CORPUS), "utf-8")
    return path


def tokenizer(checkpoint: Checkpoint) -> TextTokenizer:
    return TextTokenizer(checkpoint.tokenizer_json, checkpoint.tokenizer)


def test_the_corpus_is_read_alike_and_every_text_can_be(whole: Checkpoint, corpus: Path) -> None:
    cut, trimmed = trim(whole, str(corpus))
    before, after = tokenizer(whole), tokenizer(cut)
    assert cut.kept_ids is not None
    assert after.vocab_size == cut.config["vocab_size"] == len(cut.kept_ids) == trimmed.kept
    assert 0.1 * whole.config["vocab_size"] < trimmed.kept < 0.9 * whole.config["vocab_size"]
    assert trimmed.kept + trimmed.dropped == whole.config["vocab_size"]
    for text in CORPUS:
        ids = after.encode(text)
        assert cut.kept_ids[ids].tolist() == before.encode(text)
        assert after.decode(ids) == before.decode(before.encode(text))
    for old, new in zip(before.special_ids, after.special_ids, strict=True):
        assert before.pieces()[old] == after.pieces()[new]
    for field in ("bos_id", "pad_id"):
        old, new = getattr(whole.tokenizer, field), getattr(cut.tokenizer, field)
        assert (old is None and new is None) or cut.kept_ids[new] == old
    assert tuple(cut.kept_ids[list(cut.tokenizer.eos_ids)].tolist()) == whole.tokenizer.eos_ids
    for text in OTHERS:
        same = before.decode(before.encode(text)) == after.decode(after.encode(text))
        assert same or whole.config["model_type"] == "bert"  # whole words of it are unknown
        assert len(after.encode(text)) >= len(before.encode(text))


def test_logits_are_the_whole_model_s(whole: Checkpoint, corpus: Path) -> None:
    cut, _ = trim(whole, str(corpus))
    read = tokenizer(cut)
    rows = [read.encode(text)[: tiny.CONTEXT] for text in CORPUS]
    kept = cut.kept_ids
    assert kept is not None
    expected = Reference(whole).logits([kept[row].tolist() for row in rows])
    generator = whole.task == "text-generation"
    for one, other in zip(expected, Reference(cut).logits(rows), strict=True):
        np.testing.assert_allclose(other, one[kept] if generator else one, rtol=0, atol=1e-5)
    for name in ("bert.embeddings.word_embeddings.weight", "lm_head.weight", "transformer.wte.weight"):
        if name in cut.weights:
            np.testing.assert_array_equal(cut.weights(name), whole.weights(name)[kept])


@pytest.mark.parametrize("whole", ["wordpiece", "gpt2", "unigram"], indirect=True)
def test_a_bundle_with_a_cut_vocabulary_answers_as_the_whole_one(
    whole: Checkpoint, corpus: Path, tmp_path: Path
) -> None:
    report = export(ExportOptions(whole.folder, tmp_path / "cut", precision="fp32", trim_vocab=str(corpus)))
    plain = export(ExportOptions(whole.folder, tmp_path / "whole", precision="fp32"))
    assert report.bundle_bytes < plain.bundle_bytes
    assert verify_bundle(tmp_path / "cut").golden > 0
    assert "pieces kept for corpus.txt" in report.table()
    vocabulary = open_bundle(tmp_path / "cut").manifest.provenance["vocabulary"]
    assert vocabulary["by"] == "corpus.txt"
    assert vocabulary["saved_bytes"] >= 4 * 64 * vocabulary["dropped"]
    task = "summary" if whole.task == "text-generation" else None
    one, other = load(tmp_path / "cut", task=task), load(tmp_path / "whole", task=task)
    kept = trim(whole, str(corpus), tiny.PROMPTS.values())[0].kept_ids
    assert kept is not None
    for text in CORPUS[:4]:
        if whole.task == "text-generation":
            ids = one.tokenize(text)
            assert kept[ids].tolist() == other.tokenize(text)
            left, right = one.generator.logits(ids), other.generator.logits(kept[ids].tolist())[kept]
        else:
            left, right = (np.array(list(model(text).scores.values())) for model in (one, other))
        np.testing.assert_allclose(left, right, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["t5", "bart"])
def test_models_that_read_and_write_are_cut_on_both_sides(kind: str, corpus: Path, tmp_path: Path) -> None:
    folder = seq2seq.save(tmp_path / kind, seq2seq.seq2seq(kind), {"max_new_tokens": 8})
    options = ExportOptions(folder, tmp_path / "b", task="summary", prompts={"summary": "{text}"}, precision="fp32")
    report = export(replace(options, trim_vocab=str(corpus)))
    assert report.parity.worst < 1e-4
    whole = load_checkpoint(folder)
    cut, _ = trim(whole, str(corpus))
    assert cut.kept_ids is not None
    assert cut.decoder is not None
    assert whole.decoder is not None
    assert cut.kept_ids[cut.decoder.start_id] == whole.decoder.start_id
    read = tokenizer(cut)
    rows = [Begun(read.encode(text), read.encode(text)[:3]) for text in CORPUS[:4]]
    before = [Begun(*(cut.kept_ids[part].tolist() for part in (row.ids, row.answer))) for row in rows]
    expected = Reference(whole).logits(before)
    for one, other in zip(expected, Reference(cut).logits(rows), strict=True):
        np.testing.assert_allclose(other, one[cut.kept_ids], rtol=0, atol=1e-5)


def test_languages_are_kept_by_their_script(whole: Checkpoint) -> None:
    english, both = (trim(whole, by)[0] for by in ("en", "en,zh"))
    before, after = tokenizer(whole), tokenizer(english)
    assert english.kept_ids is not None
    assert both.kept_ids is not None
    assert len(english.kept_ids) < len(both.kept_ids) <= whole.config["vocab_size"]
    for text in CORPUS:
        assert english.kept_ids[after.encode(text)].tolist() == before.encode(text)
    for text in tiny.TEXTS:
        assert both.kept_ids[tokenizer(both).encode(text)].tolist() == before.encode(text)


def test_prompts_keep_their_pieces(corpus: Path, gpt2_folder: Path) -> None:
    whole = load_checkpoint(gpt2_folder)
    template = "质量 {text} 物流很快"
    cut, _ = trim(whole, str(corpus), [template])
    assert cut.kept_ids is not None
    ids = tokenizer(cut).encode_template(template, text=CORPUS[0])
    assert cut.kept_ids[ids].tolist() == tokenizer(whole).encode_template(template, text=CORPUS[0])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text("abcd ", min_size=1, max_size=24), min_size=1, max_size=6))
def test_merges_that_a_corpus_needs_are_kept_whatever_their_order(texts: list[str]) -> None:
    vocabulary = [*"abcd\u0120", "ab", "cd", "bc", "abc", "dd", "abab", "bcd", "\u0120a", "aa", "aaa", "cc", "dda"]
    merges = [("b", "c"), ("a", "b"), ("c", "d"), ("d", "d"), ("ab", "ab"), ("a", "bc"), ("bc", "d"), ("\u0120", "a"),
              ("a", "a"), ("aa", "a"), ("c", "c"), ("dd", "a")]  # fmt: skip
    made = Tokenizer(models.BPE(vocab={piece: index for index, piece in enumerate(vocabulary)}, merges=merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    checkpoint = pieces_alone(made)
    kept = kept_for(checkpoint, texts)
    for text in texts:
        assert kept[0][tokenizer(kept[1]).encode(text)].tolist() == made.encode(text).ids


def kept_for(checkpoint: Checkpoint, texts: list[str]) -> tuple[Any, Checkpoint]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "corpus.jsonl"
        path.write_text("\n".join(json.dumps({"text": text}) for text in [*texts, "a"] if text.strip()), "utf-8")
        cut, _ = trim(checkpoint, str(path))
    return cut.kept_ids, cut


def pieces_alone(made: Tokenizer) -> Checkpoint:
    """A checkpoint of a tokenizer, whose weights nobody reads."""
    from edgelm_export.checkpoint.weights import Safetensors

    spec = TokenizerSpec("tokenizer.json", 99)
    config = {"model_type": "gpt2", "vocab_size": made.get_vocab_size()}
    wanted = families.Wanted("text-generation", 99)
    return Checkpoint(
        Path("x"),
        config,
        families.family("gpt2"),
        Safetensors({}),
        made.to_str().encode(),
        spec,
        wanted,
        (),
        "",
        {},
        {},
    )


def test_a_corpus_that_needs_nearly_everything_is_said(tmp_path: Path, gpt2_folder: Path) -> None:
    path = tmp_path / "all.txt"
    path.write_text("\n".join(tiny.TEXTS), "utf-8")
    _, trimmed = trim(load_checkpoint(gpt2_folder), str(path))
    assert ("nearly all" in str(trimmed)) == (trimmed.kept > 0.95 * (trimmed.kept + trimmed.dropped))
    assert "nearly all: it could be left as it is" in str(replace(trimmed, dropped=1))


@pytest.mark.parametrize(
    ("by", "why"),
    [
        ("missing.txt", "no such file, and no language 'missing.txt'"),
        ("en,xx", "no language 'xx'; accepted are a corpus"),
        ("", "no language ''"),
    ],
)
def test_what_is_no_corpus_and_no_language_is_refused(by: str, why: str, bert_folder: Path) -> None:
    with pytest.raises(InputError, match=why):
        trim(load_checkpoint(bert_folder), by)


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("empty.txt", b"\n  \n", "no text in it"),
        ("latin.txt", b"caf\xe9", "not UTF-8"),
        ("rows.jsonl", b'{"label": 1}', "the fields needed are text"),
        ("corpus.pdf", b"%PDF", "kind '.pdf'"),
    ],
)
def test_a_corpus_that_cannot_be_used_is_refused(
    name: str, data: bytes, why: str, bert_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=why):
        trim(load_checkpoint(bert_folder), str(tmp_path / name))


def refused(checkpoint: Checkpoint, change: Callable[[dict[str, Any]], None], corpus: Path) -> str:
    content = json.loads(checkpoint.tokenizer_json)
    change(content)
    with pytest.raises(EdgeLMError) as caught:
        trim(replace(checkpoint, tokenizer_json=json.dumps(content).encode()), str(corpus))
    assert isinstance(caught.value, UnsupportedCheckpoint)
    return str(caught.value)


def test_tokenizers_that_cannot_be_trimmed_are_refused_by_name(corpus: Path, gpt2_folder: Path) -> None:
    checkpoint = load_checkpoint(gpt2_folder)

    def word_level(content: dict[str, Any]) -> None:
        content["model"] = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}

    def affixes(content: dict[str, Any]) -> None:
        content["model"]["end_of_word_suffix"] = "</w>"

    assert "of kind WordLevel cannot be trimmed" in refused(checkpoint, word_level, corpus)
    assert "BPE with affixes cannot" in refused(checkpoint, affixes, corpus)
    with pytest.raises(UnsupportedCheckpoint, match="post-processor 'Nonsense'"):
        renumbered({"type": "Sequence", "processors": [{"type": "Nonsense"}]}, {})


def test_the_command_trims(bert_folder: Path, corpus: Path, tmp_path: Path) -> None:
    command = ["export", str(bert_folder), "--out", str(tmp_path / "b"), "--trim-vocab", str(corpus), "--json"]
    done = CliRunner().invoke(cli, command)
    assert done.exit_code == 0, done.output
    assert "pieces kept for corpus.txt" in json.loads(done.stdout)["vocabulary"]
    wrong = CliRunner().invoke(cli, [*command[:3], str(tmp_path / "c"), "--trim-vocab", "klingon"])
    assert wrong.exit_code == 5
    assert "klingon" in wrong.stderr
    assert not (tmp_path / "c").exists()
