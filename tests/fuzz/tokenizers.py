"""Small tokenizers, as the library writes them, that together have every component that a bundle may have."""

from __future__ import annotations

import json
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from edgelm_runtime.vetting.patterns import KNOWN


def every_tokenizer() -> list[dict[str, Any]]:
    """Tokenizers as the library writes them, with every component that is accepted."""
    unigram = Tokenizer(models.Unigram([("<unk>", 0.0), ("▁a", -1.5)], unk_id=0, byte_fallback=True))
    unigram.normalizer = normalizers.Sequence([
        normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " "), normalizers.Prepend("▁"),
        normalizers.Strip(), normalizers.StripAccents(), normalizers.Lowercase(), normalizers.Replace("``", '"'),
    ])  # fmt: skip
    unigram.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(), pre_tokenizers.Digits(True),
        pre_tokenizers.Punctuation(), pre_tokenizers.UnicodeScripts(), pre_tokenizers.CharDelimiterSplit("_"),
    ])  # fmt: skip
    unigram.decoder = decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0),
    ])  # fmt: skip
    unigram.post_processor = processors.TemplateProcessing("[CLS] $A", "[CLS] $A $B:2", special_tokens=[("[CLS]", 1)])
    unigram.add_special_tokens([AddedToken("[CLS]")])
    bpe = Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")], unk_token="a", end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(max(KNOWN)), "isolated"), pre_tokenizers.ByteLevel(use_regex=False)]
    )
    bpe.post_processor = processors.Sequence([processors.ByteLevel(), processors.RobertaProcessing(("a", 0), ("b", 1))])
    bpe.decoder = decoders.BPEDecoder()
    word = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    word.normalizer, word.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.Whitespace()
    word.post_processor, word.decoder = processors.BertProcessing(("a", 0), ("a", 0)), decoders.WordPiece()
    return [json.loads(each.to_str()) for each in (unigram, bpe, word)]
