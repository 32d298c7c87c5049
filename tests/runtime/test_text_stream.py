"""The pieces of a stream, joined, against the text that the tokenizer makes of all the ids at once."""

from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models

from edgelm_runtime.manifest import TokenizerSpec
from edgelm_runtime.text_stream import Joining, TextStream, without_cjk_spaces
from edgelm_runtime.tokenizer import TextTokenizer, clean

DATA = Path(__file__).parents[1] / "data"
SPEC = TokenizerSpec("tokenizer.json", 16)
BYTES = TextTokenizer((DATA / "byte_level.json").read_bytes(), SPEC)
WORDS = TextTokenizer((DATA / "tiny-classifier" / "tokenizer.json").read_bytes(), SPEC)

# Byte tokens first, then blanks, pieces of words, continuations, punctuation, other scripts, and pieces of no text.
PIECES = [
    *(f"<0x{byte:02X}>" for byte in range(256)),
    *("▁", "▁▁", "▁It", "▁is", "great", "▁a▁b", "##ing", "##", "x</w>", "y", "z</w>", "|", "<pad>", ".", "!", "n't"),
    *("质", "量", "，", "▁好", "😀", "�", " ", "  a", "<0xZZ>", "好 ", "##吃 ", "“", "…", "ー", "１"),
]
LLAMA = decoders.Sequence(
    [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
)
# What each decoder is of, and how a stream of it is joined.
DECODERS = {
    "llama": (LLAMA, "token"),
    "gemma": (decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]), "token"),
    "metaspace": (decoders.Metaspace(), "token"),
    "metaspace-never": (decoders.Metaspace(prepend_scheme="never"), "token"),
    "unigram": (decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()]), "token"),
    "wordpiece": (decoders.WordPiece(), "token"),
    "wordpiece-bare": (decoders.WordPiece(cleanup=False), "token"),
    "none": (None, "token"),
    "fused": (decoders.Sequence([decoders.Fuse(), decoders.Replace("▁", " ")]), "token"),
    "wordpiece-cjk": (decoders.WordPiece(), "token"),
    "byte-level": (decoders.ByteLevel(), "bytes"),
    "byte-level-alone": (decoders.Sequence([decoders.ByteLevel()]), "bytes"),
    "bpe": (decoders.BPEDecoder(), "whole"),
    "ctc": (decoders.CTC(), "whole"),
    "pattern": (decoders.Sequence([decoders.Fuse(), decoders.Replace(Regex("t▁+"), "_")]), "whole"),
}


def made(name: str) -> TextTokenizer:
    tokenizer = Tokenizer(models.WordLevel({piece: index for index, piece in enumerate(PIECES)}, "y"))
    tokenizer.add_special_tokens([AddedToken("[SEP]", special=True)])
    tokenizer.add_tokens([AddedToken("<added é>")])
    decoder, _ = DECODERS[name]
    if decoder is not None:
        tokenizer.decoder = decoder
    return TextTokenizer(tokenizer.to_str().encode(), replace(SPEC, strip_cjk_spaces=name.endswith("-cjk")))


TOKENIZERS = {name: made(name) for name in DECODERS} | {"trained bytes": BYTES, "trained words": WORDS}


def pieces(tokenizer: TextTokenizer, ids: list[int]) -> list[str]:
    stream = TextStream(tokenizer)
    return [*(stream.push(token_id) for token_id in ids), stream.flush()]


def byte_ids(text: bytes) -> list[int]:
    return list(text)


# Any ids, also one that no token has; runs of real characters, whole and cut, as bytes.
wild = st.one_of(
    st.integers(0, len(PIECES) + 2).map(lambda index: [index]),
    st.integers(256, len(PIECES) + 1).map(lambda index: [index]),
    st.sampled_from(["😀", "\n", "㐀㐁", "é"]).map(str.encode).map(byte_ids),
    st.sampled_from([b"\xf0\x9f", b"\xe3\x81", b"\xff", b"\x98\x80"]).map(byte_ids),
)


@pytest.mark.parametrize("name", list(DECODERS))
@given(st.lists(wild, max_size=16).map(lambda parts: list(chain(*parts))))
def test_the_pieces_of_any_ids_join_to_the_decoded_text(name: str, ids: list[int]) -> None:
    tokenizer = TOKENIZERS[name]
    assert "".join(pieces(tokenizer, ids)) == tokenizer.decode(ids)


@pytest.mark.parametrize("tokenizer", [BYTES, WORDS], ids=["byte-level", "wordpiece"])
@given(data=st.data())
def test_trained_tokenizers_too(tokenizer: TextTokenizer, data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocab_size - 1), max_size=40))
    assert "".join(pieces(tokenizer, ids)) == tokenizer.decode(ids)


@pytest.mark.parametrize("name", list(DECODERS))
def test_what_a_decoder_joins_is_known(name: str) -> None:
    assert TOKENIZERS[name].joining.by == DECODERS[name][1]


def test_a_decoder_that_cuts_the_end_of_a_text_waits_for_it() -> None:
    assert Joining.of(decoders.Sequence([decoders.Fuse(), decoders.Strip(" ", 0, 1)])).by == "whole"


@given(st.text(st.characters(codec=None), max_size=40))
def test_no_piece_ends_inside_a_character(text: str) -> None:
    streamed = pieces(BYTES, BYTES.encode(text))
    assert "".join(streamed) == clean(text)
    assert "".join(streamed).count("\ufffd") == clean(text).count("\ufffd")


def test_a_text_goes_on_after_bytes_that_are_no_character() -> None:
    tokenizer = TOKENIZERS["llama"]
    it, great = PIECES.index("▁It"), PIECES.index("great")
    streamed = pieces(tokenizer, [it, *"😀".encode(), *"🎉".encode()[:2], great, great])
    assert streamed[0] == "It"
    assert "".join(streamed) == "It" + "\ufffd" * 6 + "greatgreat"
    assert streamed[-2] == "great", "what follows is given out as it comes"


@pytest.mark.parametrize("name", [name for name, (_, by) in DECODERS.items() if by != "whole"])
def test_text_comes_with_its_token(name: str) -> None:
    streamed = pieces(TOKENIZERS[name], [PIECES.index("▁It"), PIECES.index("y"), PIECES.index("y")])
    assert all(streamed[:3])
    assert not streamed[3]


@pytest.mark.parametrize("name", list(DECODERS))
def test_a_token_costs_the_same_however_long_the_answer_is(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer, decoded = TOKENIZERS[name], []
    plain = tokenizer.joined
    monkeypatch.setattr(tokenizer, "joined", lambda ids: decoded.append(len(ids)) or plain(ids))
    ids = [PIECES.index("▁It"), *(PIECES.index("y"), PIECES.index("▁"), 0xE3, 0xFF) * 500]
    assert "".join(pieces(tokenizer, ids)) == plain(ids)
    assert sum(decoded) <= 3 * len(ids)


def test_a_flushed_stream_is_ready_again() -> None:
    stream = TextStream(WORDS)
    assert stream.push(10) + stream.flush() == "good"
    assert stream.push(10) + stream.push(11) + stream.flush() == "good fast"


def test_a_character_of_several_tokens_comes_whole() -> None:
    ids = BYTES.encode("😀物")
    assert len(ids) > 2
    assert [piece for piece in pieces(BYTES, ids) if piece] == ["😀", "物"]


def test_bytes_that_are_no_text_come_at_the_end() -> None:
    ids = BYTES.encode("😀")[:-1]
    assert pieces(BYTES, ids) == ["", *[""] * (len(ids) - 1), BYTES.decode(ids)]
    assert pieces(BYTES, []) == [""]


def test_bytes_that_can_be_no_text_come_at_once() -> None:
    never = BYTES.token_id("ÿ")  # GPT-2's stand-in for the byte 0xFF
    assert never is not None
    assert pieces(BYTES, [never, never]) == ["�", "�", ""]


@pytest.mark.parametrize(
    ("decoded", "read"),
    [
        ("物 流 很 快 ， 质 量 也 好 ！", "物流很快，质量也好！"),
        ("我 love 北 京 the sweater is soft, don't.", "我 love 北京 the sweater is soft, don't."),
        ("价 格 42 元 ， 重 5 kg", "价格 42 元，重 5 kg"),
        ("他 说 “ 很 好 ” … … 真 的", "他说“很好”……真的"),
        ("It said “ fine ” and … so on", "It said “ fine ” and … so on"),
        ("カ メ ラ の レ ン ズ １ ０", "カメラのレンズ１０"),
        ("한국어 문장 은 띄어 쓴다", "한국어 문장 은 띄어 쓴다"),
        ("", ""),
    ],
)
def test_chinese_and_japanese_have_no_blanks_between_characters(decoded: str, read: str) -> None:
    assert without_cjk_spaces(decoded) == read
