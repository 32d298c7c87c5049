"""Entities: every strategy against transformers' pipeline, and the schemes of labels that it does not know."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast, pipeline

from edgelm_export.pipeline import ExportOptions, export
from edgelm_export.tagging import ONLY_KIND, aggregation_of, note_split_words, tags_of
from edgelm_runtime.errors import InputError
from edgelm_runtime.loader import load
from edgelm_runtime.manifest import AGGREGATIONS, Manifest
from edgelm_runtime.tokenizer import TextTokenizer
from edgelm_runtime.verify import verify_bundle
from tests.export.tiny import CONTEXT, TEXTS, bert, encoder, save_bert

DATA = Path(__file__).parents[1] / "data"
LABELS = dict(enumerate(("O", "B-BRAND", "I-BRAND", "B-SIZE", "I-SIZE")))
ODD = (
    "Goretex, leathery running-shoes (size 42)!", "  two  blanks\tand a tab", "déjà vu naïve ﬁne ＡＢＣ",
    "foo😀bar baz", "物流很快，质量也好 very good", "O", "ǅungla İstanbul straße", "a" * 120 + " end",
)  # fmt: skip
SPLIT = (["Goretex", "shoes", ",", "size", "42"], ["物流", "很快", "naïve"], ["one"], ["foo😀bar", "", "leathery"])


def wordpiece() -> PreTrainedTokenizerFast:
    """BERT's own: pieces that go on with a word are marked."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer.train_from_iterator(
        TEXTS, trainers.WordPieceTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    )
    return finished(tokenizer, *special)


def byte_level() -> PreTrainedTokenizerFast:
    """RoBERTa's: bytes, and a blank belongs to the piece behind it."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    special = ["<pad>", "<unk>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(TEXTS, trainer)
    return finished(tokenizer, *special, roberta=True)


def unigram() -> PreTrainedTokenizerFast:
    """XLM-RoBERTa's: sentencepiece."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<pad>", "<unk>", "<s>", "</s>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=special, unk_token="<unk>", show_progress=False, shrinking_factor=0.5
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return finished(tokenizer, *special)


def finished(
    tokenizer: Tokenizer, pad: str, unknown: str, first: str, last: str, *, roberta: bool = False
) -> PreTrainedTokenizerFast:
    """A tokenizer of transformers with special tokens around a text."""
    ids = {token: tokenizer.token_to_id(token) for token in (first, last)}
    if roberta:
        tokenizer.post_processor = processors.RobertaProcessing((last, ids[last]), (first, ids[first]))
    else:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{first} $A {last}", pair=f"{first} $A {last} $B {last}", special_tokens=list(ids.items())
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, unk_token=unknown, cls_token=first, sep_token=last,
        model_max_length=CONTEXT,
    )  # fmt: skip


def expected(tagger: Any, text: str | list[str], strategy: str) -> list[tuple[str, int, int]]:
    """What the pipeline of transformers answers, its scores apart."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Tokenizer does not support real words")
        given = {"is_split_into_words": True, "delimiter": " "} if isinstance(text, list) else {}
        found = tagger(text, aggregation_strategy=strategy, **given)
    found = found[0] if found and isinstance(found[0], list) else found
    tagger.scores = [one["score"] for one in found]
    return [(one.get("entity_group", one.get("entity")), one["start"], one["end"]) for one in found]


@pytest.mark.parametrize("made", [wordpiece, byte_level, unigram])
def test_every_strategy_is_that_of_the_pipeline(tmp_path: Path, made: Callable[[], PreTrainedTokenizerFast]) -> None:
    tokenizer = made()
    model = encoder("bert", "token-classification", spread=0.2, id2label=LABELS, pad_token_id=0)
    model.save_pretrained(tmp_path / "checkpoint")
    tokenizer.save_pretrained(tmp_path / "checkpoint")
    export(ExportOptions(tmp_path / "checkpoint", tmp_path / "bundle", precision="fp32"))
    tagger = pipeline("token-classification", model, tokenizer=tokenizer)
    several = 0
    for strategy in AGGREGATIONS:
        mine = load(tmp_path / "bundle", aggregation=strategy)
        for text in (*ODD, *TEXTS[:12], *SPLIT):
            if isinstance(text, str) and len(tokenizer(text)["input_ids"]) > CONTEXT:
                continue
            right, result = expected(tagger, text, strategy), mine(text)
            assert [(one.label, one.start, one.end) for one in result.entities] == right, (strategy, text)
            np.testing.assert_allclose([one.score for one in result.entities], tagger.scores, atol=1e-4)
            whole = " ".join(text) if isinstance(text, list) else text
            assert all(one.text == whole[one.start : one.end] for one in result.entities)
            several += len(right)
    assert several > 300


@pytest.mark.parametrize(
    ("labels", "tags"),
    [
        ("O B-X I-X B-Y I-Y", ""),
        ("O I-X I-Y", ""),
        ("O X T-SHIRT", "O I-X I-T-SHIRT"),
        ("S-SHIRT M-SHIRT L-SHIRT O", "I-S-SHIRT I-M-SHIRT I-L-SHIRT O"),
        ("vitamin-B vitamin-E O", "I-vitamin-B I-vitamin-E O"),
        ("O B-X PLAIN", ""),
        ("O B-X I-X E-X S-X", "O B-X I-X E-X S-X"),
        ("O B-X I-X S-X B-Y I-Y", "O B-X I-X S-X B-Y I-Y"),
        ("O B-X M-X E-X S-X", "O B-X I-X E-X S-X"),
        ("O B-X M-X E-X W-X", "O B-X I-X E-X S-X"),
        ("O B-X I-X L-X U-X", "O B-X I-X E-X S-X"),
        ("O B-X S-Y", "O B-X S-Y"),
        ("O B_X I_X", "O B-X I-X"),
        ("X-B X-I O", "B-X I-X O"),
        ("per_nam_B per_nam_I O", "B-per_nam I-per_nam O"),
        ("b-x i-x o", "B-x I-x O"),
        ("O B-品牌 I-品牌 [CLS] [SEP] X", "O B-品牌 I-品牌 O O O"),
        ("B M E S", "B-ENTITY I-ENTITY E-ENTITY S-ENTITY"),
        ("B I O", "B-ENTITY I-ENTITY O"),
        ("B-A I-A PLAIN O", ""),
        ("LABEL_0 LABEL_1", ""),
    ],
)  # fmt: skip
def test_a_scheme_is_told_from_its_labels(labels: str, tags: str) -> None:
    assert list(tags_of(labels.split()).values()) == tags.replace("ENTITY", ONLY_KIND).split()


def test_the_strategy_is_told_from_the_training(tmp_path: Path) -> None:
    plain = ("O", "B-X", "I-X")
    assert aggregation_of(tmp_path, plain, None) == "simple"
    assert aggregation_of(tmp_path, (*plain, "X"), None) == "first"
    assert aggregation_of(tmp_path, ("X", "Y"), None) == "simple"
    for written in ("[]", "{", '{"aggregation": "other"}', '{"aggregation": ["first"]}'):
        (tmp_path / "finetune.json").write_text(written, "utf-8")
        assert aggregation_of(tmp_path, plain, None) == "simple"
    (tmp_path / "finetune.json").write_text('{"aggregation": "first"}', "utf-8")
    assert aggregation_of(tmp_path, plain, None) == "first"
    assert aggregation_of(tmp_path, plain, "max") == "max"
    with pytest.raises(InputError, match=re.escape("accepted are simple, none, first, average, max")):
        aggregation_of(tmp_path, plain, "last")


def test_a_bundle_says_its_strategy_and_its_scheme(tmp_path: Path) -> None:
    """Of a suffix scheme that marks ends; a load may ask for another strategy, and golden answers stay the bundle's."""
    labels = dict(enumerate(("O", "品牌-B", "品牌-M", "品牌-E", "品牌-S")))
    source = save_bert(
        tmp_path / "checkpoint", encoder("bert", "token-classification", id2label=labels, pad_token_id=0)
    )
    export(ExportOptions(source, tmp_path / "bundle", precision="fp32", aggregation="first"))
    manifest = json.loads((tmp_path / "bundle" / "edgelm.json").read_text("utf-8"))
    assert manifest["aggregation"] == "first"
    assert manifest["tags"] == dict(zip(labels.values(), ("O", "B-品牌", "I-品牌", "E-品牌", "S-品牌"), strict=True))
    manifest["provenance"]["machines"] = ["another kind"]  # so that a load asks for the golden answers
    (tmp_path / "bundle" / "edgelm.json").write_text(json.dumps(manifest), "utf-8")
    answers = {name: load(tmp_path / "bundle", aggregation=name)(TEXTS[0]).entities for name in AGGREGATIONS}
    assert {one.label for one in answers["first"]} == {"品牌"}
    assert {one.label for one in answers["none"]} <= set(labels.values())
    assert load(tmp_path / "bundle")(TEXTS[0]).entities == answers["first"] != answers["none"]
    assert verify_bundle(tmp_path / "bundle").golden >= 1
    with pytest.raises(InputError, match="aggregation is 'last'; accepted are"):
        load(tmp_path / "bundle", aggregation="last")


def test_a_name_keeps_its_dash(tmp_path: Path) -> None:
    """Transformers shows what is behind it; the export is compared with torch all the same."""
    labels = dict(enumerate(("O", "T-SHIRT", "HARD-DRIVE")))
    model = encoder("bert", "token-classification", id2label=labels, pad_token_id=0, spread=0.2)
    export(ExportOptions(save_bert(tmp_path / "checkpoint", model), tmp_path / "bundle", precision="fp32"))
    found = {one.label for text in TEXTS[:6] for one in load(tmp_path / "bundle")(text).entities}
    assert found <= {"T-SHIRT", "HARD-DRIVE"}
    assert found


def test_a_classifier_of_texts_has_no_strategy(tmp_path: Path) -> None:
    source = save_bert(tmp_path / "checkpoint", bert())
    with pytest.raises(InputError, match="for token classifiers, the checkpoint is for text-classification"):
        export(ExportOptions(source, tmp_path / "bundle", aggregation="first"))
    with pytest.raises(InputError, match="sentiment gives no entities, tag does"):
        load("sentiment-en", aggregation="first")
    with pytest.raises(TypeError, match="unexpected keyword argument 'aggregate'"):
        load("sentiment-en", aggregate="first")  # type: ignore[call-arg]


def test_an_export_says_where_words_are_split(capsys: pytest.CaptureFixture[str]) -> None:
    tokenizer = wordpiece().backend_tokenizer.to_str().encode()
    manifest = Manifest.from_bytes((DATA / "tiny-classifier" / "edgelm.json").read_bytes())
    draft = replace(manifest, task="token-classification", labels=("O", "B-X", "I-X"))
    texts = ["goretex leathery unbelievable", "waterproofing softshell windbreaker"]
    reader = TextTokenizer(tokenizer, draft.tokenizer)
    lengths = [len(reader.encode(text)) for text in texts]

    def said(label: int, aggregation: str = "simple") -> str:
        """Every token has the label, or by turns O and B-X."""
        labels = [[label if label else place % 2 for place in range(length)] for length in lengths]
        answers = [(text, np.eye(3, dtype=np.float32)[one]) for text, one in zip(texts, labels, strict=True)]
        note_split_words(tokenizer, replace(draft, aggregation=aggregation), answers)
        return capsys.readouterr().err

    assert "words with an entity are split by their token pieces, such as" in said(0)
    assert "'goretex'" in said(1)  # a beginning at every piece
    assert said(2) == ""
    assert said(1, "first") == ""
