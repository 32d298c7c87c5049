"""The one place that calls `tokenizers`: what it raises, panics of its Rust code included, becomes an error of ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .errors import BundleRejected, TokenizerFailed
from .workers import foreign

_SHOWN = 300


def library_version() -> str:
    """The version of `tokenizers`."""
    import tokenizers

    return str(tokenizers.__version__)


class GuardedTokenizer:
    """A `tokenizers.Tokenizer` with the methods that edgelm uses, and their names; safe to share between threads.

    `data` is the content of `file`, a tokenizer.json. Raises BundleRejected when it cannot be read. What fails later,
    for a text or for token ids, raises TokenizerFailed.
    """

    def __init__(self, data: bytes, file: str) -> None:
        from tokenizers import Tokenizer

        try:
            inner = foreign(Tokenizer.from_str, data.decode("utf-8"))
            # Set here and never toggled, so that threads can share it.
            inner.encode_special_tokens = False
            inner.no_truncation()
            inner.no_padding()
        except BaseException as error:
            if not is_foreign(error):
                raise
            raise BundleRejected(
                f"{file} is not a tokenizer that this runtime reads ({_reason(error)}); export the bundle again",
                what=file,
                expected="a tokenizers JSON file",
                found=_reason(error),
            ) from error
        self._inner: Any = inner

    @property
    def decoder(self) -> Any:
        """The decoder, None where there is none."""
        return self._inner.decoder

    @property
    def model(self) -> Any:
        """The vocabulary and how it cuts words."""
        return self._inner.model

    def literal_copy(self, tokens: Sequence[str]) -> GuardedTokenizer:
        """A copy that reads special tokens in a text as plain text, and the added `tokens` as well."""
        copy = GuardedTokenizer.__new__(GuardedTokenizer)
        copy._inner = _guarded("be copied", _literal_copy, self._inner, tokens)
        return copy

    def encode(self, text: str, pair: str | None = None, *, add_special_tokens: bool = True) -> Any:
        """The `tokenizers.Encoding` of a text, or of a pair."""
        return _guarded("read this text", self._inner.encode, text, pair, add_special_tokens=add_special_tokens)

    def encode_words(self, words: Sequence[str]) -> Any:
        """The `tokenizers.Encoding` of a text that is split into words already."""
        return _guarded("read these words", self._inner.encode, list(words), is_pretokenized=True)

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = True) -> str:
        """The text of token ids."""
        text: str = _guarded(
            "write these token ids", self._inner.decode, list(ids), skip_special_tokens=skip_special_tokens
        )
        return text

    def id_to_token(self, index: int) -> str | None:
        """A token as it is stored."""
        token: str | None = _guarded("name this token id", self._inner.id_to_token, index)
        return token

    def token_to_id(self, token: str) -> int | None:
        """The id of a token as it is stored."""
        index: int | None = _guarded("find this token", self._inner.token_to_id, token)
        return index

    def get_vocab_size(self) -> int:
        """How many tokens there are, added ones included."""
        size: int = _guarded("count its tokens", self._inner.get_vocab_size)
        return size

    def get_added_tokens_decoder(self) -> dict[int, Any]:
        """The added tokens by id."""
        added: dict[int, Any] = _guarded("list its added tokens", self._inner.get_added_tokens_decoder)
        return added


def _literal_copy(inner: Any, tokens: Sequence[str]) -> Any:
    from tokenizers import AddedToken, Tokenizer

    copy = Tokenizer.from_str(inner.to_str())
    copy.add_special_tokens([AddedToken(token, special=True) for token in tokens])
    copy.encode_special_tokens = True
    return copy


def _guarded(what: str, work: Callable[..., Any], *given: Any, **named: Any) -> Any:
    try:
        return foreign(work, *given, **named)
    except BaseException as error:
        if not is_foreign(error):
            raise
        raise TokenizerFailed(
            f"the bundle's tokenizer cannot {what} ({_reason(error)}); change the text, or export the bundle again"
        ) from error


def is_foreign(error: BaseException) -> bool:
    """Whether the library raised it: its panics derive from BaseException, as Ctrl-C and an exit do."""
    return isinstance(error, Exception) or type(error).__name__ == "PanicException"


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:_SHOWN]
